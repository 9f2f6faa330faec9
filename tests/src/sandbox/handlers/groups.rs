//! Groups. Their policies apply to their members.

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::links::{Links, has_owners, has_policies, links};
use super::policies::Policies;
use super::{
    Call, Resource, created, fetch, must_exist, name_and_description, no_content, ok, update_row,
};
use crate::sandbox::clock::{Millis, to_rfc3339};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{HandlerResult, ResourceKind};
use crate::sandbox::store::new_id;

pub(in crate::sandbox) struct Groups;

impl Resource for Groups {
    const KIND: ResourceKind = ResourceKind::Group;
    const PARAM: &'static str = "group_id";
    const COLUMNS: &'static str = "id, name, description, created_at, updated_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "name": row.get::<_, String>(1)?,
            "description": row.get::<_, Option<String>>(2)?,
            "created_at": to_rfc3339(row.get(3)?),
            "updated_at": to_rfc3339(row.get(4)?),
        }))
    }
}

pub(in crate::sandbox) const POLICIES: Links = links::<Groups, Policies>();

pub(in crate::sandbox) fn create(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = new_id();
    tx.execute(
        "INSERT INTO groups (id, name, description, created_at, updated_at)
         VALUES (?, ?, ?, ?4, ?4)",
        params![
            id,
            call.params.text("name")?,
            call.params.opt_text("description"),
            call.now
        ],
    )?;

    created(fetch::<Groups>(call, tx, &id)?)
}

pub(in crate::sandbox) fn update(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    ok(update_row::<Groups>(call, tx, name_and_description(call))?)
}

/// A13, extended to groups: refused if the group has members or policies.
pub(in crate::sandbox) fn delete(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = call.params.text("group_id")?;
    must_exist(tx, ResourceKind::Group, id)?;

    if has_owners::<Groups>(tx, id)? {
        return Err(ApiError::in_use(format!("group {id} has members")));
    }
    if has_policies(tx, ResourceKind::Group, id)? {
        return Err(ApiError::in_use(format!(
            "group {id} has policies attached"
        )));
    }

    tx.execute("DELETE FROM groups WHERE id = ?", [id])?;
    no_content()
}
