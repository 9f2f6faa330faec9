//! The handlers of the methods, one file a kind of resource. A handler is a function of the call
//! and of its transaction.

pub(super) mod audit_logs;
pub(super) mod groups;
pub(super) mod invitations;
mod links;
pub(super) mod policies;
pub(super) mod roles;
pub(super) mod service_accounts;
pub(super) mod sts;
pub(super) mod users;

use std::net::IpAddr;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde_json::Value;

use super::auth::Caller;
use super::clock::Millis;
use super::control::Limits;
use super::crn::Crns;
use super::error::ApiError;
use super::methods::{HandlerResult, ResourceKind};
use super::pagination::ListQuery;
use super::params::Params;

/// An authenticated call with valid parameters.
pub(super) struct Call<'a> {
    pub(super) caller: &'a Caller,
    pub(super) params: &'a Params,
    pub(super) org: &'a str,
    pub(super) now: Millis,
    pub(super) ip: IpAddr,
    pub(super) limits: &'a Limits,
}

/// A kind of resource: its table, and the JSON of its rows.
pub(super) trait Resource {
    const KIND: ResourceKind;
    /// The parameter with its id.
    const PARAM: &'static str;
    const COLUMNS: &'static str;

    /// The JSON of a row with [`Self::COLUMNS`].
    fn show(row: &Row<'_>, now: Millis) -> rusqlite::Result<Value>;
}

impl Call<'_> {
    /// Whether the call concerns only the caller's own sessions. A principal may read, list and
    /// revoke its own sessions, and a session itself, without a policy. The reference does not say
    /// so. But otherwise a principal could not end its own sessions in an emergency.
    pub(super) fn is_own_session(
        &self,
        kind: ResourceKind,
        id: Option<&str>,
        tx: &Connection,
    ) -> Result<bool, ApiError> {
        if kind != ResourceKind::Session {
            return Ok(false);
        }

        let principal = &self.caller.principal_id;
        match (&self.caller.session_id, id) {
            (Some(own), id) => Ok(id == Some(own)),
            (None, None) => Ok(self.params.opt_text("principal_id") == Some(principal)),
            (None, Some(id)) => {
                let sql = "SELECT 1 FROM sessions WHERE id = ? AND principal_id = ?";
                Ok(tx.prepare_cached(sql)?.exists([id, principal])?)
            }
        }
    }
}

/// The CRNs of the resource that a call acts on. Without an id, all resources of the kind.
pub(super) fn crns_of(
    call: &Call<'_>,
    kind: ResourceKind,
    id: Option<&str>,
    tx: &Connection,
) -> Result<Crns, ApiError> {
    let service = if kind == ResourceKind::Session {
        "sts"
    } else {
        "iam"
    };
    let crn_kind = kind.api_name().replace('_', "-");
    let id = id.unwrap_or("*");
    let mut names = vec![id];

    let name = find_name(tx, kind, id)?;
    names.extend(name.as_deref());

    Ok(Crns::new(service, call.org, &crn_kind, &names))
}

fn find_name(tx: &Connection, kind: ResourceKind, id: &str) -> rusqlite::Result<Option<String>> {
    let Some(column) = kind.name_column() else {
        return Ok(None);
    };

    let sql = format!("SELECT {column} FROM {} WHERE id = ?", kind.table());
    tx.prepare_cached(&sql)?
        .query_row([id], |row| row.get(0))
        .optional()
}

fn ok(body: Value) -> HandlerResult {
    Ok((200, Some(body)))
}

fn created(body: Value) -> HandlerResult {
    Ok((201, Some(body)))
}

fn no_content() -> HandlerResult {
    Ok((204, None))
}

fn must_exist(tx: &Connection, kind: ResourceKind, id: &str) -> Result<(), ApiError> {
    let sql = format!("SELECT 1 FROM {} WHERE id = ?", kind.table());

    if tx.prepare_cached(&sql)?.exists([id])? {
        Ok(())
    } else {
        Err(ApiError::not_found(kind.api_name(), id))
    }
}

/// Prevents an organization from losing its last administrator by mistake.
fn reject_self_removal(call: &Call<'_>, id: &str) -> Result<(), ApiError> {
    if call.caller.principal_id == id {
        return Err(ApiError::conflict("a principal cannot remove itself"));
    }
    Ok(())
}

fn fetch<R: Resource>(call: &Call<'_>, tx: &Connection, id: &str) -> Result<Value, ApiError> {
    let sql = format!(
        "SELECT {} FROM {} WHERE id = ?",
        R::COLUMNS,
        R::KIND.table()
    );

    tx.prepare_cached(&sql)?
        .query_row([id], |row| R::show(row, call.now))
        .optional()?
        .ok_or_else(|| ApiError::not_found(R::KIND.api_name(), id))
}

/// The handler of every `get` method.
pub(super) fn get<R: Resource>(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    ok(fetch::<R>(call, tx, call.params.text(R::PARAM)?)?)
}

/// The handler of every list with a filter by name.
pub(super) fn list_by_name<R: Resource>(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let mut query = ListQuery::new::<R>("TRUE", []);
    query.prefix_filter("name", call.params.opt_text("name"));

    ok(query.page(tx, call)?)
}

/// The values of the columns `name` and `description` for [`update_row`].
fn name_and_description(call: &Call<'_>) -> Vec<(&'static str, Sql)> {
    let mut values = Vec::new();
    for column in ["name", "description"] {
        if let Some(text) = call.params.opt_text(column) {
            values.push((column, text.to_owned().into()));
        }
    }
    values
}

/// Sets columns of the row that the call names, and returns the row.
fn update_row<R: Resource>(
    call: &Call<'_>,
    tx: &Connection,
    columns: Vec<(&str, Sql)>,
) -> Result<Value, ApiError> {
    let id = call.params.text(R::PARAM)?;
    must_exist(tx, R::KIND, id)?;

    let mut sql = format!("UPDATE {} SET updated_at = ?", R::KIND.table());
    let mut values = vec![Sql::from(call.now)];
    for (column, value) in columns {
        sql += &format!(", {column} = ?");
        values.push(value);
    }
    sql += " WHERE id = ?";
    values.push(id.to_owned().into());
    tx.execute(&sql, params_from_iter(values))?;

    fetch::<R>(call, tx, id)
}
