//! Users. They come by accepting an invitation, which the control interface does for them.

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::groups::Groups;
use super::links::{Links, links, unlink};
use super::policies::Policies;
use super::{Call, Resource, get as get_one, gone, list_by_name, must_exist, not_oneself, sts};
use crate::sandbox::clock::{Millis, text};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{Answer, Kind};
use crate::sandbox::store::new_id;

struct Users;

impl Resource for Users {
    const KIND: Kind = Kind::User;
    const PARAM: &'static str = "user_id";
    const COLUMNS: &'static str = "id, name, email, created_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "name": row.get::<_, String>(1)?,
            "email": row.get::<_, String>(2)?,
            "created_at": text(row.get(3)?),
        }))
    }
}

pub(in crate::sandbox) const POLICIES: Links = links::<Users, Policies>();
pub(in crate::sandbox) const GROUPS: Links = links::<Users, Groups>();

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Connection) -> Answer {
    list_by_name::<Users>(call, tx)
}

pub(in crate::sandbox) fn get(call: &Call<'_>, tx: &Connection) -> Answer {
    get_one::<Users>(call, tx)
}

pub(in crate::sandbox) fn remove(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = call.params.text("user_id")?;
    must_exist(tx, Kind::User, id)?;
    not_oneself(call, id)?;
    sts::revoke_all_of(call, tx, id, "the user was removed")?;
    unlink(tx, Kind::User, id)?;
    tx.execute("DELETE FROM tokens WHERE subject_id = ?", [id])?;
    tx.execute("DELETE FROM users WHERE id = ?", [id])?;
    gone()
}

/// A new user, called as its address begins if it has no name, and its id.
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
