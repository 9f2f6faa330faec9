//! Policies.

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::links::has_owners;
use super::{
    Call, Resource, changes, created, get as get_one, gone, list_by_name, must_exist, ok, one,
    update as update_row,
};
use crate::sandbox::clock::{Millis, text};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{Answer, Kind};
use crate::sandbox::policy::Policy;
use crate::sandbox::store::new_id;

pub(super) struct Policies;

impl Resource for Policies {
    const KIND: Kind = Kind::Policy;
    const PARAM: &'static str = "policy_id";
    const COLUMNS: &'static str = "id, name, description, document, created_at, updated_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "name": row.get::<_, String>(1)?,
            "description": row.get::<_, Option<String>>(2)?,
            "document": serde_json::from_str::<Value>(&row.get::<_, String>(3)?).unwrap_or_default(),
            "created_at": text(row.get(4)?),
            "updated_at": text(row.get(5)?),
        }))
    }
}

fn document(call: &Call<'_>) -> Result<Option<String>, ApiError> {
    let Some(document) = call.params.opt_value("document") else {
        return Ok(None);
    };
    Policy::parse(document).map_err(|why| ApiError::invalid(format!("document: {why}")))?;
    Ok(Some(document.to_string()))
}

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Connection) -> Answer {
    list_by_name::<Policies>(call, tx)
}

pub(in crate::sandbox) fn create(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = new_id();
    tx.execute(
        "INSERT INTO policies (id, name, description, document, created_at, updated_at) VALUES (?, ?, ?, ?, ?5, ?5)",
        params![id, call.params.text("name")?, call.params.opt_text("description"), document(call)?, call.now],
    )?;
    created(one::<Policies>(call, tx, &id)?)
}

pub(in crate::sandbox) fn get(call: &Call<'_>, tx: &Connection) -> Answer {
    get_one::<Policies>(call, tx)
}

pub(in crate::sandbox) fn update(call: &Call<'_>, tx: &Connection) -> Answer {
    let mut columns = changes(call);
    columns.extend(document(call)?.map(|document| ("document", document.into())));
    ok(update_row::<Policies>(call, tx, columns)?)
}

/// A13: not while it is attached.
pub(in crate::sandbox) fn delete(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = call.params.text("policy_id")?;
    must_exist(tx, Kind::Policy, id)?;
    if has_owners::<Policies>(tx, id)? {
        return Err(ApiError::in_use(format!("policy {id} is attached")));
    }
    tx.execute("DELETE FROM policies WHERE id = ?", [id])?;
    gone()
}
