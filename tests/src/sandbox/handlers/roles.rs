//! Roles and their trust policies.

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::links::{Links, has_policies, links};
use super::policies::Policies;
use super::{
    Call, Resource, changes, created, get as get_one, gone, list_by_name, must_exist, ok, one,
    update as update_row,
};
use crate::sandbox::clock::{Millis, text};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{Answer, Kind};
use crate::sandbox::policy::TrustPolicy;
use crate::sandbox::store::new_id;

struct Roles;

impl Resource for Roles {
    const KIND: Kind = Kind::Role;
    const PARAM: &'static str = "role_id";
    const COLUMNS: &'static str = "id, name, description, trust_policy, created_at, updated_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        let trust = row
            .get::<_, Option<String>>(3)?
            .and_then(|trust| serde_json::from_str::<Value>(&trust).ok());
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "name": row.get::<_, String>(1)?,
            "description": row.get::<_, Option<String>>(2)?,
            "trust_policy": trust,
            "created_at": text(row.get(4)?),
            "updated_at": text(row.get(5)?),
        }))
    }
}

pub(in crate::sandbox) const POLICIES: Links = links::<Roles, Policies>();

fn trust_policy(call: &Call<'_>) -> Result<Option<String>, ApiError> {
    let Some(document) = call.params.opt_value("trust_policy") else {
        return Ok(None);
    };
    TrustPolicy::parse(document)
        .map_err(|why| ApiError::invalid(format!("trust_policy: {why}")))?;
    Ok(Some(document.to_string()))
}

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Connection) -> Answer {
    list_by_name::<Roles>(call, tx)
}

pub(in crate::sandbox) fn create(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = new_id();
    tx.execute(
        "INSERT INTO roles (id, name, description, trust_policy, created_at, updated_at) VALUES (?, ?, ?, ?, ?5, ?5)",
        params![id, call.params.text("name")?, call.params.opt_text("description"), trust_policy(call)?, call.now],
    )?;
    created(one::<Roles>(call, tx, &id)?)
}

pub(in crate::sandbox) fn get(call: &Call<'_>, tx: &Connection) -> Answer {
    get_one::<Roles>(call, tx)
}

pub(in crate::sandbox) fn update(call: &Call<'_>, tx: &Connection) -> Answer {
    let mut columns = changes(call);
    columns.extend(trust_policy(call)?.map(|trust| ("trust_policy", trust.into())));
    ok(update_row::<Roles>(call, tx, columns)?)
}

/// A13: not while a policy is attached or a session active.
pub(in crate::sandbox) fn delete(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = call.params.text("role_id")?;
    must_exist(tx, Kind::Role, id)?;
    if has_policies(tx, Kind::Role, id)? {
        return Err(ApiError::in_use(format!("role {id} has policies attached")));
    }
    let active =
        "SELECT 1 FROM sessions WHERE role_id = ? AND revoked_at IS NULL AND expires_at > ?";
    if tx.prepare_cached(active)?.exists(params![id, call.now])? {
        return Err(ApiError::in_use(format!("role {id} has active sessions")));
    }
    tx.execute("DELETE FROM roles WHERE id = ?", [id])?;
    gone()
}
