//! Policies.

use rusqlite::{Row, Transaction, params};
use serde_json::{Value, json};

use super::{Call, Kind, checked_name, created, gone, must_exist, ok, update as update_row};
use crate::sandbox::clock::text;
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::Answer;
use crate::sandbox::page::Query;
use crate::sandbox::policy::Policy;
use crate::sandbox::store::new_id;

pub(super) const COLUMNS: &str = "p.id, p.name, p.description, p.document, p.created_at, p.updated_at";

pub(super) fn show(row: &Row<'_>) -> rusqlite::Result<Value> {
    Ok(json!({
        "id": row.get::<_, String>(0)?,
        "name": row.get::<_, String>(1)?,
        "description": row.get::<_, Option<String>>(2)?,
        "document": serde_json::from_str::<Value>(&row.get::<_, String>(3)?).unwrap_or_default(),
        "created_at": text(row.get(4)?),
        "updated_at": text(row.get(5)?),
    }))
}

fn one(tx: &Transaction<'_>, id: &str) -> Result<Value, ApiError> {
    must_exist(tx, Kind::Policy, id)?;
    Ok(tx.query_row(&format!("SELECT {COLUMNS} FROM policies p WHERE p.id = ?"), [id], show)?)
}

fn document(call: &Call<'_>) -> Result<Option<String>, ApiError> {
    let Some(document) = call.params.opt_value("document") else { return Ok(None) };
    Policy::parse(document).map_err(|why| ApiError::invalid(format!("document: {why}")))?;
    Ok(Some(document.to_string()))
}

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let mut query = Query::new(&format!("SELECT {COLUMNS} FROM policies p WHERE TRUE"), "p.id", []);
    query.name_filter("p.name", call.params);
    ok(query.page(tx, call.params, show)?)
}

pub(in crate::sandbox) fn create(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let (id, name) = (new_id(), checked_name(call.params, "name")?);
    tx.execute(
        "INSERT INTO policies (id, name, description, document, created_at, updated_at) VALUES (?, ?, ?, ?, ?5, ?5)",
        params![id, name, call.params.opt_text("description"), document(call)?, call.now],
    )?;
    created(one(tx, &id)?)
}

pub(in crate::sandbox) fn get(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    ok(one(tx, call.params.text("policy_id")?)?)
}

pub(in crate::sandbox) fn update(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let id = call.params.text("policy_id")?;
    let mut columns = Vec::new();
    if call.params.opt_text("name").is_some() {
        columns.push(("name", checked_name(call.params, "name")?.to_owned().into()));
    }
    if let Some(description) = call.params.opt_text("description") {
        columns.push(("description", description.to_owned().into()));
    }
    if let Some(document) = document(call)? {
        columns.push(("document", document.into()));
    }
    update_row(tx, Kind::Policy, id, columns, call.now)?;
    ok(one(tx, id)?)
}

/// A13: not while it is attached.
pub(in crate::sandbox) fn delete(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let id = call.params.text("policy_id")?;
    must_exist(tx, Kind::Policy, id)?;
    if tx.prepare_cached("SELECT 1 FROM attachments WHERE policy_id = ?")?.exists([id])? {
        return Err(ApiError::in_use(format!("policy {id} is attached")));
    }
    tx.execute("DELETE FROM policies WHERE id = ?", [id])?;
    gone()
}
