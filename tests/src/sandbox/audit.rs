//! Writes the audit log (A15): an entry for every call, also a refused one, in the transaction of
//! the call.

use std::net::IpAddr;

use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::auth::Caller;
use super::clock::Millis;
use super::error::ApiError;
use super::methods::{HandlerResult, Method};
use super::store::new_id;

/// A call of the API.
pub(super) struct CallRecord<'a> {
    pub(super) method: &'a Method,
    /// The first id in the path.
    pub(super) target: Option<&'a str>,
    /// Absent if the authentication failed.
    pub(super) caller: Option<&'a Caller>,
    pub(super) ip: IpAddr,
    pub(super) request_id: &'a str,
    pub(super) now: Millis,
}

/// An entry of the audit log.
pub(super) struct Entry<'a> {
    pub(super) actor_id: Option<&'a str>,
    pub(super) actor_type: Option<&'a str>,
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

pub(super) fn record_call(
    tx: &Connection,
    call: &CallRecord<'_>,
    result: &HandlerResult,
) -> rusqlite::Result<()> {
    let body = result.as_ref().ok().and_then(|(_, body)| body.as_ref());
    let created_id = body.and_then(|body| body["id"].as_str());
    let entry = Entry {
        actor_id: call.caller.map(|caller| caller.principal_id.as_str()),
        actor_type: call.caller.map(|caller| caller.principal_type),
        action: format!("{}.{}", call.method.service(), call.method.name),
        resource_type: call.method.kind.api_name(),
        resource_id: call.target.or(created_id),
        status: status(result),
        details: details(result),
        ip: call.ip,
        request_id: call.request_id,
        session_id: call.caller.and_then(|caller| caller.session_id.as_deref()),
        now: call.now,
    };

    insert(tx, &entry)
}

pub(super) fn insert(tx: &Connection, entry: &Entry<'_>) -> rusqlite::Result<()> {
    let sql = "INSERT INTO audit_logs (id, timestamp, actor_id, actor_type, action, resource_type,
                   resource_id, status, ip_address, request_id, session_id, details)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = params![
        new_id(),
        entry.now,
        entry.actor_id,
        entry.actor_type,
        entry.action,
        entry.resource_type,
        entry.resource_id,
        entry.status,
        entry.ip.to_string(),
        entry.request_id,
        entry.session_id,
        entry.details.to_string(),
    ];

    tx.prepare_cached(sql)?.execute(values).map(drop)
}

fn status(result: &HandlerResult) -> &'static str {
    match result {
        Ok(_) => "success",
        Err(ApiError {
            status: 401 | 403, ..
        }) => "denied",
        Err(_) => "error",
    }
}

/// The error, or the session that `assumeRole` created.
fn details(result: &HandlerResult) -> Value {
    match result {
        Err(error) => error_details(error),
        Ok((_, Some(body))) if body["session"].is_object() => {
            json!({ "session_id": body["session"]["id"] })
        }
        Ok(_) => json!({}),
    }
}

pub(super) fn error_details(error: &ApiError) -> Value {
    json!({ "code": error.code, "message": error.message })
}
