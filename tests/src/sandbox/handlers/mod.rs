//! What the methods mean, a file a resource. A handler is a function of the call and the transaction it runs in.

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
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;

use super::auth::Caller;
use super::clock::Millis;
use super::control::Limits;
use super::crn::Crns;
use super::error::ApiError;
use super::methods::{Answer, Kind};
use super::page::Query;
use super::params::Params;

/// An authenticated call with checked parameters.
pub(super) struct Call<'a> {
    pub(super) caller: &'a Caller,
    pub(super) params: &'a Params,
    pub(super) org: &'a str,
    pub(super) now: Millis,
    pub(super) ip: IpAddr,
    pub(super) limits: &'a Limits,
}

/// A kind of thing that has a table, and how a row of it is shown.
pub(super) trait Resource {
    const KIND: Kind;
    /// The parameter that holds its id.
    const PARAM: &'static str;
    const COLUMNS: &'static str;

    fn show(row: &Row<'_>, now: Millis) -> rusqlite::Result<Value>;
}

impl Call<'_> {
    /// A principal may see, list and revoke its own sessions, and a session itself, whatever the policies say: the
    /// reference does not say so, but a principal that could not end its own sessions would be at the mercy of an
    /// administrator's haste.
    pub(super) fn is_own_session(
        &self,
        kind: Kind,
        id: Option<&str>,
        tx: &Connection,
    ) -> Result<bool, ApiError> {
        if kind != Kind::Session {
            return Ok(false);
        }
        let me = &self.caller.principal_id;
        match (&self.caller.session_id, id) {
            (Some(session), id) => Ok(id == Some(session)),
            (None, None) => Ok(self.params.opt_text("principal_id") == Some(me)),
            (None, Some(id)) => Ok(tx
                .prepare_cached("SELECT 1 FROM sessions WHERE id = ? AND principal_id = ?")?
                .exists([id, me])?),
        }
    }
}

/// The thing that a call acts on, by every name it has; all of its kind where the call names none.
pub(super) fn resource_of(
    call: &Call<'_>,
    kind: Kind,
    id: Option<&str>,
    tx: &Connection,
) -> Result<Crns, ApiError> {
    let service = if kind == Kind::Session { "sts" } else { "iam" };
    let crns = |names: &[&str]| {
        Crns::new(
            service,
            call.org,
            &kind.word().replace('_', "-"),
            names.iter().copied(),
        )
    };
    let Some(id) = id else {
        return Ok(crns(&["*"]));
    };
    let Some(column) = kind.name_column() else {
        return Ok(crns(&[id]));
    };
    let sql = format!("SELECT {column} FROM {} WHERE id = ?", kind.table());
    let name: Option<String> = tx
        .prepare_cached(&sql)?
        .query_row([id], |row| row.get(0))
        .optional()?;
    Ok(name.map_or_else(|| crns(&[id]), |name| crns(&[id, &name])))
}

fn ok(body: Value) -> Answer {
    Ok((200, Some(body)))
}

fn created(body: Value) -> Answer {
    Ok((201, Some(body)))
}

fn gone() -> Answer {
    Ok((204, None))
}

/// Refuses an id that there is nothing behind.
fn must_exist(tx: &Connection, kind: Kind, id: &str) -> Result<(), ApiError> {
    let sql = format!("SELECT 1 FROM {} WHERE id = ?", kind.table());
    match tx.prepare_cached(&sql)?.exists([id])? {
        true => Ok(()),
        false => Err(ApiError::not_found(kind.word(), id)),
    }
}

/// Who removed itself could not be asked why.
fn not_oneself(call: &Call<'_>, id: &str) -> Result<(), ApiError> {
    if call.caller.principal_id == id {
        return Err(ApiError::conflict("a principal cannot remove itself"));
    }
    Ok(())
}

fn one<R: Resource>(call: &Call<'_>, tx: &Connection, id: &str) -> Result<Value, ApiError> {
    tx.prepare_cached(&format!(
        "SELECT {} FROM {} WHERE id = ?",
        R::COLUMNS,
        R::KIND.table()
    ))?
    .query_row([id], |row| R::show(row, call.now))
    .optional()?
    .ok_or_else(|| ApiError::not_found(R::KIND.word(), id))
}

/// The handler of every `get` method.
fn get<R: Resource>(call: &Call<'_>, tx: &Connection) -> Answer {
    ok(one::<R>(call, tx, call.params.text(R::PARAM)?)?)
}

/// The handler of every list that filters by name.
fn list_by_name<R: Resource>(call: &Call<'_>, tx: &Connection) -> Answer {
    let mut query = Query::new::<R>("TRUE", []);
    query.prefix_filter("name", call.params.opt_text("name"));
    ok(query.page(tx, call)?)
}

/// The columns of what nearly every `update` method can change.
fn changes(call: &Call<'_>) -> Vec<(&'static str, Sql)> {
    let given = |key| {
        call.params
            .opt_text(key)
            .map(|text| (key, text.to_owned().into()))
    };
    ["name", "description"]
        .into_iter()
        .filter_map(given)
        .collect()
}

/// Sets the given columns of the row that the call names, leaves the others, and shows the row.
fn update<R: Resource>(
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
    values.push(id.to_owned().into());
    tx.execute(
        &format!("{sql} WHERE id = ?"),
        rusqlite::params_from_iter(values),
    )?;
    one::<R>(call, tx, id)
}
