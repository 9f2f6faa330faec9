//! Users. The control interface creates them, by accepting an invitation or directly.

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::groups::Groups;
use super::links::{Links, links, unlink};
use super::policies::Policies;
use super::{Call, Resource, must_exist, no_content, reject_self_removal, sts};
use crate::sandbox::clock::{Millis, to_rfc3339};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{HandlerResult, ResourceKind};
use crate::sandbox::store::new_id;

pub(in crate::sandbox) struct Users;

impl Resource for Users {
    const KIND: ResourceKind = ResourceKind::User;
    const PARAM: &'static str = "user_id";
    const COLUMNS: &'static str = "id, name, email, created_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "name": row.get::<_, String>(1)?,
            "email": row.get::<_, String>(2)?,
            "created_at": to_rfc3339(row.get(3)?),
        }))
    }
}

pub(in crate::sandbox) const POLICIES: Links = links::<Users, Policies>();
pub(in crate::sandbox) const GROUPS: Links = links::<Users, Groups>();

pub(in crate::sandbox) fn remove(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = call.params.text("user_id")?;
    must_exist(tx, ResourceKind::User, id)?;
    reject_self_removal(call, id)?;

    sts::revoke_all_of(call, tx, id, "the user was removed")?;
    unlink(tx, ResourceKind::User, id)?;
    tx.execute("DELETE FROM tokens WHERE subject_id = ?", [id])?;
    tx.execute("DELETE FROM users WHERE id = ?", [id])?;

    no_content()
}

/// Creates a user and returns its id. The default name is the local part of the e-mail address.
pub(in crate::sandbox) fn insert(
    tx: &Connection,
    name: Option<&str>,
    email: &str,
    now: Millis,
) -> Result<String, ApiError> {
    let id = new_id();
    let name = name.unwrap_or_else(|| email.split('@').next().unwrap_or_default());

    tx.execute(
        "INSERT INTO users (id, name, email, created_at) VALUES (?, ?, ?, ?)",
        params![id, name, email, now],
    )?;

    Ok(id)
}
