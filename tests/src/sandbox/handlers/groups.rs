//! Groups, whose policies are their members'.

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::links::{Links, has_owners, has_policies, links};
use super::policies::Policies;
use super::{
    Call, Resource, changes, created, get as get_one, gone, list_by_name, must_exist, ok, one,
    update as update_row,
};
use crate::sandbox::clock::{Millis, text};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{Answer, Kind};
use crate::sandbox::store::new_id;

pub(super) struct Groups;

impl Resource for Groups {
    const KIND: Kind = Kind::Group;
    const PARAM: &'static str = "group_id";
    const COLUMNS: &'static str = "id, name, description, created_at, updated_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "name": row.get::<_, String>(1)?,
            "description": row.get::<_, Option<String>>(2)?,
            "created_at": text(row.get(3)?),
            "updated_at": text(row.get(4)?),
        }))
    }
}

pub(in crate::sandbox) const POLICIES: Links = links::<Groups, Policies>();

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Connection) -> Answer {
    list_by_name::<Groups>(call, tx)
}

pub(in crate::sandbox) fn create(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = new_id();
    tx.execute(
        "INSERT INTO groups (id, name, description, created_at, updated_at) VALUES (?, ?, ?, ?4, ?4)",
        params![id, call.params.text("name")?, call.params.opt_text("description"), call.now],
    )?;
    created(one::<Groups>(call, tx, &id)?)
}

pub(in crate::sandbox) fn get(call: &Call<'_>, tx: &Connection) -> Answer {
    get_one::<Groups>(call, tx)
}

pub(in crate::sandbox) fn update(call: &Call<'_>, tx: &Connection) -> Answer {
    ok(update_row::<Groups>(call, tx, changes(call))?)
}

/// A13, taken to hold for groups too: not while somebody is in it or a policy attached.
pub(in crate::sandbox) fn delete(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = call.params.text("group_id")?;
    must_exist(tx, Kind::Group, id)?;
    if has_owners::<Groups>(tx, id)? {
        return Err(ApiError::in_use(format!("group {id} has members")));
    }
    if has_policies(tx, Kind::Group, id)? {
        return Err(ApiError::in_use(format!(
            "group {id} has policies attached"
        )));
    }
    tx.execute("DELETE FROM groups WHERE id = ?", [id])?;
    gone()
}
