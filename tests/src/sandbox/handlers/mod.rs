//! What the methods mean, a file a resource. A handler is a function of the call and the transaction it runs in.

mod attachments;
pub(super) mod policies;
pub(super) mod roles;
pub(super) mod service_accounts;
pub(super) mod sts;
pub(super) mod users;

use std::net::IpAddr;

use rusqlite::types::Value as Sql;
use rusqlite::{OptionalExtension, Transaction};
use serde_json::Value;

use super::auth::Caller;
use super::clock::Millis;
use super::control::Limits;
use super::crn::Crns;
use super::error::ApiError;
use super::methods::{Answer, Kind};
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

impl Call<'_> {
    /// A principal may see, list and revoke its own sessions, and a session itself, whatever the policies say: the
    /// reference does not say so, but a principal that could not end its own sessions would be at the mercy of an
    /// administrator's haste.
    pub(super) fn is_own_session(&self, kind: Kind, id: Option<&str>, tx: &Transaction<'_>) -> Result<bool, ApiError> {
        if kind != Kind::Session {
            return Ok(false);
        }
        let me = &self.caller.principal_id;
        match (&self.caller.session_id, id) {
            (Some(session), id) => Ok(id == Some(session)),
            (None, None) => Ok(self.params.opt_text("principal_id") == Some(me)),
            (None, Some(id)) => {
                Ok(tx.prepare_cached("SELECT 1 FROM sessions WHERE id = ? AND principal_id = ?")?.exists([id, me])?)
            }
        }
    }
}

impl Kind {
    fn table(self) -> &'static str {
        match self {
            Self::Policy => "policies",
            Self::Role => "roles",
            Self::ServiceAccount => "service_accounts",
            Self::Session => "sessions",
            Self::User => "users",
        }
    }

    /// As a CRN spells it.
    fn spelled(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Role => "role",
            Self::ServiceAccount => "service-account",
            Self::Session => "session",
            Self::User => "user",
        }
    }

    fn crns<'a>(self, org: &str, names: impl IntoIterator<Item = &'a str>) -> Crns {
        Crns::new(if self == Self::Session { "sts" } else { "iam" }, org, self.spelled(), names)
    }
}

/// The thing that a call acts on, by every name it has; all of its kind where the call names none.
pub(super) fn resource_of(
    call: &Call<'_>,
    kind: Kind,
    id: Option<&str>,
    tx: &Transaction<'_>,
) -> Result<Crns, ApiError> {
    let Some(id) = id else { return Ok(kind.crns(call.org, ["*"])) };
    let column = match kind {
        Kind::Session => return Ok(kind.crns(call.org, [id])),
        Kind::User => "email",
        Kind::Policy | Kind::Role | Kind::ServiceAccount => "name",
    };
    let sql = format!("SELECT {column} FROM {} WHERE id = ?", kind.table());
    let name: Option<String> = tx.prepare_cached(&sql)?.query_row([id], |row| row.get(0)).optional()?;
    Ok(kind.crns(call.org, std::iter::once(id).chain(name.as_deref())))
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
fn must_exist(tx: &Transaction<'_>, kind: Kind, id: &str) -> Result<(), ApiError> {
    let sql = format!("SELECT 1 FROM {} WHERE id = ?", kind.table());
    match tx.prepare_cached(&sql)?.exists([id])? {
        true => Ok(()),
        false => Err(ApiError::not_found(kind.spelled(), id)),
    }
}

/// A name as a caller may choose it.
fn checked_name<'a>(params: &'a Params, key: &str) -> Result<&'a str, ApiError> {
    let name = params.text(key)?;
    if (1..=128).contains(&name.chars().count()) && !name.contains('*') && !name.chars().any(char::is_control) {
        Ok(name)
    } else {
        Err(ApiError::invalid(format!("{key}: 1 to 128 characters without `*` and control characters")))
    }
}

/// Sets the given columns of one row, and leaves the others.
fn update(tx: &Transaction<'_>, kind: Kind, id: &str, columns: Vec<(&str, Sql)>, now: Millis) -> Result<(), ApiError> {
    must_exist(tx, kind, id)?;
    let mut sql = format!("UPDATE {} SET updated_at = ?", kind.table());
    let mut values = vec![Sql::from(now)];
    for (column, value) in columns {
        sql += &format!(", {column} = ?");
        values.push(value);
    }
    values.push(id.to_owned().into());
    tx.execute(&format!("{sql} WHERE id = ?"), rusqlite::params_from_iter(values))?;
    Ok(())
}
