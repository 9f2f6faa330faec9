//! The audit log's writer (A15): an entry for every call of a method, refused ones too, in the transaction of the call.

use std::net::IpAddr;

use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::auth::Caller;
use super::clock::Millis;
use super::error::ApiError;
use super::methods::{Answer, Method};
use super::store::new_id;

/// What is known of a call before it is answered.
pub(super) struct Entry<'a> {
    pub(super) method: &'a Method,
    /// The id that stands first in the path.
    pub(super) target: Option<&'a str>,
    /// Absent if nobody could be authenticated.
    pub(super) caller: Option<&'a Caller>,
    pub(super) ip: IpAddr,
    pub(super) request_id: &'a str,
    pub(super) now: Millis,
}

/// An entry as it is stored.
pub(super) struct Row<'a> {
    /// The id and the type.
    pub(super) actor: Option<(&'a str, &'a str)>,
    pub(super) action: String,
    pub(super) resource_type: &'a str,
    pub(super) resource_id: Option<&'a str>,
    pub(super) status: &'a str,
    pub(super) details: Value,
    pub(super) ip: IpAddr,
    pub(super) request_id: &'a str,
    pub(super) session_id: Option<&'a str>,
    pub(super) now: Millis,
}

pub(super) fn note(tx: &Connection, entry: &Entry<'_>, answer: &Answer) -> rusqlite::Result<()> {
    let Entry {
        method,
        target,
        caller,
        ip,
        request_id,
        now,
    } = entry;
    let body = answer.as_ref().ok().and_then(|(_, body)| body.as_ref());
    let made = body.and_then(|body| body["id"].as_str());
    insert(
        tx,
        &Row {
            actor: caller.map(|caller| (caller.principal_id.as_str(), caller.principal_type)),
            action: format!("{}.{}", method.service(), method.name()),
            resource_type: method.kind.word(),
            resource_id: target.or(made),
            status: status(answer),
            details: details(answer),
            ip: *ip,
            request_id,
            session_id: caller.and_then(|caller| caller.session_id.as_deref()),
            now: *now,
        },
    )
}

pub(super) fn insert(tx: &Connection, row: &Row<'_>) -> rusqlite::Result<()> {
    let sql = "INSERT INTO audit_logs (id, timestamp, actor_id, actor_type, action, resource_type, resource_id, status,
                   ip_address, request_id, session_id, details) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    tx.prepare_cached(sql)?
        .execute(params![
            new_id(),
            row.now,
            row.actor.map(|(id, _)| id),
            row.actor.map(|(_, kind)| kind),
            row.action,
            row.resource_type,
            row.resource_id,
            row.status,
            row.ip.to_string(),
            row.request_id,
            row.session_id,
            row.details.to_string(),
        ])
        .map(drop)
}

fn status(answer: &Answer) -> &'static str {
    match answer {
        Ok(_) => "success",
        Err(ApiError {
            status: 401 | 403, ..
        }) => "denied",
        Err(_) => "error",
    }
}

/// Why it was refused; and which session an `assumeRole` started.
fn details(answer: &Answer) -> Value {
    match answer {
        Err(error) => json!({ "code": error.code, "message": error.message }),
        Ok((_, Some(body))) if body["session"].is_object() => {
            json!({ "session_id": body["session"]["id"] })
        }
        Ok(_) => json!({}),
    }
}
