//! Roles and their trust policies.

use rusqlite::{Row, Transaction, params};
use serde_json::{Value, json};

use super::attachments::{Attachments, Target, attachments};
use super::{Call, Kind, checked_name, created, gone, must_exist, ok, update as update_row};
use crate::sandbox::clock::text;
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::Answer;
use crate::sandbox::page::Query;
use crate::sandbox::policy::TrustPolicy;
use crate::sandbox::store::new_id;

struct Role;

impl Target for Role {
    const KIND: Kind = Kind::Role;
    const PARAM: &'static str = "role_id";
    const WORD: &'static str = "role";
}

pub(in crate::sandbox) const POLICIES: Attachments = attachments::<Role>();

const COLUMNS: &str = "r.id, r.name, r.description, r.trust_policy, r.created_at, r.updated_at";

fn show(row: &Row<'_>) -> rusqlite::Result<Value> {
    let trust = row.get::<_, Option<String>>(3)?.and_then(|trust| serde_json::from_str::<Value>(&trust).ok());
    Ok(json!({
        "id": row.get::<_, String>(0)?,
        "name": row.get::<_, String>(1)?,
        "description": row.get::<_, Option<String>>(2)?,
        "trust_policy": trust,
        "created_at": text(row.get(4)?),
        "updated_at": text(row.get(5)?),
    }))
}

fn one(tx: &Transaction<'_>, id: &str) -> Result<Value, ApiError> {
    must_exist(tx, Kind::Role, id)?;
    Ok(tx.query_row(&format!("SELECT {COLUMNS} FROM roles r WHERE r.id = ?"), [id], show)?)
}

fn trust_policy(call: &Call<'_>) -> Result<Option<String>, ApiError> {
    let Some(document) = call.params.opt_value("trust_policy") else { return Ok(None) };
    TrustPolicy::parse(document).map_err(|why| ApiError::invalid(format!("trust_policy: {why}")))?;
    Ok(Some(document.to_string()))
}

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let mut query = Query::new(&format!("SELECT {COLUMNS} FROM roles r WHERE TRUE"), "r.id", []);
    query.name_filter("r.name", call.params);
    ok(query.page(tx, call.params, show)?)
}

pub(in crate::sandbox) fn of_policy(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let id = call.params.text("policy_id")?;
    must_exist(tx, Kind::Policy, id)?;
    let select = format!(
        "SELECT {COLUMNS} FROM roles r JOIN attachments a ON a.kind = 'role' AND a.target_id = r.id WHERE a.policy_id = ?"
    );
    ok(Query::new(&select, "r.id", [id.to_owned().into()]).page(tx, call.params, show)?)
}

pub(in crate::sandbox) fn create(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let (id, name) = (new_id(), checked_name(call.params, "name")?);
    tx.execute(
        "INSERT INTO roles (id, name, description, trust_policy, created_at, updated_at) VALUES (?, ?, ?, ?, ?5, ?5)",
        params![id, name, call.params.opt_text("description"), trust_policy(call)?, call.now],
    )?;
    created(one(tx, &id)?)
}

pub(in crate::sandbox) fn get(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    ok(one(tx, call.params.text("role_id")?)?)
}

pub(in crate::sandbox) fn update(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let id = call.params.text("role_id")?;
    let mut columns = Vec::new();
    if call.params.opt_text("name").is_some() {
        columns.push(("name", checked_name(call.params, "name")?.to_owned().into()));
    }
    if let Some(description) = call.params.opt_text("description") {
        columns.push(("description", description.to_owned().into()));
    }
    if let Some(trust) = trust_policy(call)? {
        columns.push(("trust_policy", trust.into()));
    }
    update_row(tx, Kind::Role, id, columns, call.now)?;
    ok(one(tx, id)?)
}

/// A13: not while a policy is attached or a session active.
pub(in crate::sandbox) fn delete(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let id = call.params.text("role_id")?;
    must_exist(tx, Kind::Role, id)?;
    if tx.prepare_cached("SELECT 1 FROM attachments WHERE kind = 'role' AND target_id = ?")?.exists([id])? {
        return Err(ApiError::in_use(format!("role {id} has policies attached")));
    }
    let active = "SELECT 1 FROM sessions WHERE role_id = ? AND revoked_at IS NULL AND expires_at > ?";
    if tx.prepare_cached(active)?.exists(params![id, call.now])? {
        return Err(ApiError::in_use(format!("role {id} has active sessions")));
    }
    tx.execute("DELETE FROM roles WHERE id = ?", [id])?;
    gone()
}
