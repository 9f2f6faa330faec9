//! Policies: documents that allow or deny actions on resources.

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::links::has_owners;
use super::{
    Call, Resource, created, fetch, must_exist, name_and_description, no_content, ok, update_row,
};
use crate::sandbox::clock::{Millis, to_rfc3339};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{HandlerResult, ResourceKind};
use crate::sandbox::policy::Policy;
use crate::sandbox::store::new_id;

pub(in crate::sandbox) struct Policies;

impl Resource for Policies {
    const KIND: ResourceKind = ResourceKind::Policy;
    const PARAM: &'static str = "policy_id";
    const COLUMNS: &'static str = "id, name, description, document, created_at, updated_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "name": row.get::<_, String>(1)?,
            "description": row.get::<_, Option<String>>(2)?,
            "document": serde_json::from_str::<Value>(&row.get::<_, String>(3)?).unwrap_or_default(),
            "created_at": to_rfc3339(row.get(4)?),
            "updated_at": to_rfc3339(row.get(5)?),
        }))
    }
}

fn document(call: &Call<'_>) -> Result<Option<String>, ApiError> {
    let Some(document) = call.params.opt_value("document") else {
        return Ok(None);
    };

    Policy::parse(document).map_err(|reason| ApiError::invalid(format!("document: {reason}")))?;
    Ok(Some(document.to_string()))
}

pub(in crate::sandbox) fn create(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = new_id();
    tx.execute(
        "INSERT INTO policies (id, name, description, document, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?5, ?5)",
        params![
            id,
            call.params.text("name")?,
            call.params.opt_text("description"),
            document(call)?,
            call.now
        ],
    )?;

    created(fetch::<Policies>(call, tx, &id)?)
}

pub(in crate::sandbox) fn update(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let mut columns = name_and_description(call);
    columns.extend(document(call)?.map(|document| ("document", document.into())));
    ok(update_row::<Policies>(call, tx, columns)?)
}

/// A13: refused if the policy is attached.
pub(in crate::sandbox) fn delete(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = call.params.text("policy_id")?;
    must_exist(tx, ResourceKind::Policy, id)?;

    if has_owners::<Policies>(tx, id)? {
        return Err(ApiError::in_use(format!("policy {id} is attached")));
    }

    tx.execute("DELETE FROM policies WHERE id = ?", [id])?;
    no_content()
}
