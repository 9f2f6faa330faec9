//! Invitations (A12): `addUser` creates one. The control interface accepts it, which creates the
//! user.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value, json};

use super::groups::Groups;
use super::links::link;
use super::{Call, Resource, created, fetch, must_exist, no_content, ok, users};
use crate::sandbox::clock::{Millis, to_rfc3339};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{HandlerResult, ResourceKind};
use crate::sandbox::pagination::ListQuery;
use crate::sandbox::store::new_id;

pub(in crate::sandbox) struct Invitations;

impl Resource for Invitations {
    const KIND: ResourceKind = ResourceKind::Invitation;
    const PARAM: &'static str = "invitation_id";
    const COLUMNS: &'static str = "id, email, status, group_ids, created_at, updated_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "email": row.get::<_, String>(1)?,
            "status": row.get::<_, String>(2)?,
            "group_ids": serde_json::from_str::<Value>(&row.get::<_, String>(3)?).unwrap_or_default(),
            "created_at": to_rfc3339(row.get(4)?),
            "updated_at": to_rfc3339(row.get(5)?),
        }))
    }
}

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let mut query = ListQuery::new::<Invitations>("TRUE", []);
    if let Some(status) = call.params.opt_text("status") {
        query.and("status = ?", status.to_owned());
    }

    ok(query.page(tx, call)?)
}

/// `addUser`.
pub(in crate::sandbox) fn create(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let email = call.params.text("email")?;
    let groups = call
        .params
        .opt_value("group_ids")
        .cloned()
        .unwrap_or_else(|| json!([]));
    for group in groups
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        must_exist(tx, ResourceKind::Group, group)?;
    }

    let is_user = "SELECT 1 FROM users WHERE email = ?";
    if tx.prepare_cached(is_user)?.exists([email])? {
        return Err(ApiError::conflict(format!("{email} is already a user")));
    }
    let is_invited = "SELECT 1 FROM invitations WHERE email = ? AND status = 'pending'";
    if tx.prepare_cached(is_invited)?.exists([email])? {
        return Err(ApiError::conflict(format!("{email} is already invited")));
    }

    let id = new_id();
    tx.execute(
        "INSERT INTO invitations (id, email, status, group_ids, created_at, updated_at)
         VALUES (?, ?, 'pending', ?, ?4, ?4)",
        params![id, email, groups.to_string(), call.now],
    )?;

    created(fetch::<Invitations>(call, tx, &id)?)
}

/// The invitation remains, with the status `cancelled`.
pub(in crate::sandbox) fn cancel(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = call.params.text("invitation_id")?;
    pending(tx, id)?;

    tx.execute(
        "UPDATE invitations SET status = 'cancelled', updated_at = ?2 WHERE id = ?1",
        params![id, call.now],
    )?;
    no_content()
}

/// The e-mail address and the groups of a pending invitation.
fn pending(tx: &Connection, id: &str) -> Result<(String, Vec<String>), ApiError> {
    let (email, status, groups): (String, String, String) = tx
        .prepare_cached("SELECT email, status, group_ids FROM invitations WHERE id = ?")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?
        .ok_or_else(|| ApiError::not_found(ResourceKind::Invitation.api_name(), id))?;
    if status != "pending" {
        return Err(ApiError::conflict(format!("invitation {id} is {status}")));
    }
    Ok((email, serde_json::from_str(&groups).unwrap_or_default()))
}

/// Creates the invited user in those groups that still exist, and returns its id.
pub(in crate::sandbox) fn accept(
    tx: &Connection,
    id: &str,
    name: Option<&str>,
    now: Millis,
) -> Result<String, ApiError> {
    let (email, groups) = pending(tx, id)?;

    let user = users::insert(tx, name, &email, now)?;
    for group in &groups {
        if must_exist(tx, ResourceKind::Group, group).is_ok() {
            link::<Groups>(tx, ResourceKind::User, &user, group)?;
        }
    }

    tx.execute(
        "UPDATE invitations SET status = 'accepted', updated_at = ?2 WHERE id = ?1",
        params![id, now],
    )?;
    Ok(user)
}
