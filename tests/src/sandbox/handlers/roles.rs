//! Roles and their trust policies.

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::links::{Links, has_policies, links};
use super::policies::Policies;
use super::{
    Call, Resource, created, fetch, must_exist, name_and_description, no_content, ok, update_row,
};
use crate::sandbox::clock::{Millis, to_rfc3339};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{HandlerResult, ResourceKind};
use crate::sandbox::policy::TrustPolicy;
use crate::sandbox::store::new_id;

pub(in crate::sandbox) struct Roles;

impl Resource for Roles {
    const KIND: ResourceKind = ResourceKind::Role;
    const PARAM: &'static str = "role_id";
    const COLUMNS: &'static str = "id, name, description, trust_policy, created_at, updated_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        let trust_policy = row
            .get::<_, Option<String>>(3)?
            .and_then(|document| serde_json::from_str::<Value>(&document).ok());

        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "name": row.get::<_, String>(1)?,
            "description": row.get::<_, Option<String>>(2)?,
            "trust_policy": trust_policy,
            "created_at": to_rfc3339(row.get(4)?),
            "updated_at": to_rfc3339(row.get(5)?),
        }))
    }
}

pub(in crate::sandbox) const POLICIES: Links = links::<Roles, Policies>();

fn trust_policy(call: &Call<'_>) -> Result<Option<String>, ApiError> {
    let Some(document) = call.params.opt_value("trust_policy") else {
        return Ok(None);
    };

    TrustPolicy::parse(document)
        .map_err(|reason| ApiError::invalid(format!("trust_policy: {reason}")))?;
    Ok(Some(document.to_string()))
}

pub(in crate::sandbox) fn create(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = new_id();
    tx.execute(
        "INSERT INTO roles (id, name, description, trust_policy, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?5, ?5)",
        params![
            id,
            call.params.text("name")?,
            call.params.opt_text("description"),
            trust_policy(call)?,
            call.now
        ],
    )?;

    created(fetch::<Roles>(call, tx, &id)?)
}

pub(in crate::sandbox) fn update(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let mut columns = name_and_description(call);
    columns.extend(trust_policy(call)?.map(|document| ("trust_policy", document.into())));
    ok(update_row::<Roles>(call, tx, columns)?)
}

/// A13: refused if the role has policies or active sessions.
pub(in crate::sandbox) fn delete(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = call.params.text("role_id")?;
    must_exist(tx, ResourceKind::Role, id)?;

    if has_policies(tx, ResourceKind::Role, id)? {
        return Err(ApiError::in_use(format!("role {id} has policies attached")));
    }

    let active =
        "SELECT 1 FROM sessions WHERE role_id = ? AND revoked_at IS NULL AND expires_at > ?";
    if tx.prepare_cached(active)?.exists(params![id, call.now])? {
        return Err(ApiError::in_use(format!("role {id} has active sessions")));
    }

    tx.execute("DELETE FROM roles WHERE id = ?", [id])?;
    no_content()
}
