//! The audit log (A15), oldest entries first.

use rusqlite::{Connection, Row};
use serde_json::{Value, json};

use super::{Call, Resource, ok};
use crate::sandbox::clock::{Millis, parse_rfc3339, to_rfc3339};
use crate::sandbox::methods::{HandlerResult, ResourceKind};
use crate::sandbox::pagination::ListQuery;

pub(in crate::sandbox) struct AuditLogs;

impl Resource for AuditLogs {
    const KIND: ResourceKind = ResourceKind::AuditLog;
    const PARAM: &'static str = "log_id";
    const COLUMNS: &'static str = "id, timestamp, actor_id, actor_type, action, resource_type, resource_id, status, \
                                   ip_address, request_id, session_id, details";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "timestamp": to_rfc3339(row.get(1)?),
            "actor_id": row.get::<_, Option<String>>(2)?,
            "actor_type": row.get::<_, Option<String>>(3)?,
            "action": row.get::<_, String>(4)?,
            "resource_type": row.get::<_, String>(5)?,
            "resource_id": row.get::<_, Option<String>>(6)?,
            "status": row.get::<_, String>(7)?,
            "ip_address": row.get::<_, String>(8)?,
            "request_id": row.get::<_, String>(9)?,
            "session_id": row.get::<_, Option<String>>(10)?,
            "details": serde_json::from_str::<Value>(&row.get::<_, String>(11)?).unwrap_or_default(),
        }))
    }
}

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let mut query = ListQuery::new::<AuditLogs>("TRUE", []);
    for column in [
        "actor_id",
        "actor_type",
        "resource_type",
        "resource_id",
        "status",
        "ip_address",
    ] {
        if let Some(value) = call.params.opt_text(column) {
            query.and(&format!("{column} = ?"), value.to_owned());
        }
    }

    query.prefix_filter("action", call.params.opt_text("action"));
    for (param, condition) in [("from", "timestamp >= ?"), ("to", "timestamp < ?")] {
        if let Some(at) = call.params.opt_text(param).and_then(parse_rfc3339) {
            query.and(condition, at);
        }
    }

    ok(query.page(tx, call)?)
}
