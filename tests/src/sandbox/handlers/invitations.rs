//! Invitations (A12): `addUser` makes one, and the user is there once it is accepted, which is a call of the control
//! interface.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value, json};

use super::groups::Groups;
use super::links::link;
use super::{Call, Resource, created, get as get_one, gone, must_exist, ok, one, users};
use crate::sandbox::clock::{Millis, text};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{Answer, Kind};
use crate::sandbox::page::Query;
use crate::sandbox::store::new_id;

pub(super) struct Invitations;

impl Resource for Invitations {
    const KIND: Kind = Kind::Invitation;
    const PARAM: &'static str = "invitation_id";
    const COLUMNS: &'static str = "id, email, status, group_ids, created_at, updated_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "email": row.get::<_, String>(1)?,
            "status": row.get::<_, String>(2)?,
            "group_ids": serde_json::from_str::<Value>(&row.get::<_, String>(3)?).unwrap_or_default(),
            "created_at": text(row.get(4)?),
            "updated_at": text(row.get(5)?),
        }))
    }
}

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Connection) -> Answer {
    let mut query = Query::new::<Invitations>("TRUE", []);
    if let Some(status) = call.params.opt_text("status") {
        query.and("status = ?", status.to_owned());
    }
    ok(query.page(tx, call)?)
}

pub(in crate::sandbox) fn get(call: &Call<'_>, tx: &Connection) -> Answer {
    get_one::<Invitations>(call, tx)
}

/// `addUser`.
pub(in crate::sandbox) fn create(call: &Call<'_>, tx: &Connection) -> Answer {
    let (id, email) = (new_id(), call.params.text("email")?);
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
        must_exist(tx, Kind::Group, group)?;
    }
    if tx
        .prepare_cached("SELECT 1 FROM users WHERE email = ?")?
        .exists([email])?
    {
        return Err(ApiError::conflict(format!("{email} is a user already")));
    }
    if tx
        .prepare_cached("SELECT 1 FROM invitations WHERE email = ? AND status = 'pending'")?
        .exists([email])?
    {
        return Err(ApiError::conflict(format!(
            "{email} has been invited already"
        )));
    }
    tx.execute(
        "INSERT INTO invitations (id, email, status, group_ids, created_at, updated_at)
         VALUES (?, ?, 'pending', ?, ?4, ?4)",
        params![id, email, groups.to_string(), call.now],
    )?;
    created(one::<Invitations>(call, tx, &id)?)
}

/// It stays to be seen, as `cancelled`.
pub(in crate::sandbox) fn cancel(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = call.params.text("invitation_id")?;
    pending(tx, id)?;
    tx.execute(
        "UPDATE invitations SET status = 'cancelled', updated_at = ?2 WHERE id = ?1",
        params![id, call.now],
    )?;
    gone()
}

/// The address and the groups of an invitation that is still open.
fn pending(tx: &Connection, id: &str) -> Result<(String, Vec<String>), ApiError> {
    let (email, status, groups): (String, String, String) = tx
        .prepare_cached("SELECT email, status, group_ids FROM invitations WHERE id = ?")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?
        .ok_or_else(|| ApiError::not_found(Kind::Invitation.word(), id))?;
    if status != "pending" {
        return Err(ApiError::conflict(format!("invitation {id} is {status}")));
    }
    Ok((email, serde_json::from_str(&groups).unwrap_or_default()))
}

/// Makes the user that was invited, in those of the groups that are still there, and returns its id.
pub(in crate::sandbox) fn accept(
    tx: &Connection,
    id: &str,
    name: Option<&str>,
    now: Millis,
) -> Result<String, ApiError> {
    let (email, groups) = pending(tx, id)?;
    let user = users::insert(tx, name, &email, now)?;
    for group in &groups {
        if must_exist(tx, Kind::Group, group).is_ok() {
            link::<Groups>(tx, Kind::User, &user, group)?;
        }
    }
    tx.execute(
        "UPDATE invitations SET status = 'accepted', updated_at = ?2 WHERE id = ?1",
        params![id, now],
    )?;
    Ok(user)
}
