//! The audit log (A15).

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::wire::{methods, open_enum, paged};
use super::{AuditLogId, ByCloud, Marker, Method, Page, PrincipalId, PrincipalType, SessionId};
use crate::upstream::{AuditEntry, AuditLog, AuditQuery, CallError};

open_enum! {
    /// How a call ended.
    AuditStatus { Success = "success", Denied = "denied", Error = "error" }
}

#[derive(Debug, Clone, Deserialize)]
pub struct AuditLogEntry {
    pub id: AuditLogId,
    pub timestamp: Timestamp,
    /// Absent if the caller could not be authenticated.
    pub actor_id: Option<PrincipalId>,
    pub actor_type: Option<PrincipalType>,
    /// `iam.createRole`, `sts.assumeRole`.
    pub action: String,
    pub resource_type: String,
    pub resource_id: Option<String>,
    pub status: AuditStatus,
    pub ip_address: String,
    pub request_id: String,
    /// The session that called, if it was one.
    pub session_id: Option<SessionId>,
    #[serde(default)]
    pub details: Value,
}

methods! {
    #[derive(Default)]
    Get "/audit-logs" "listAuditLogs" list_audit_logs(ListAuditLogs {
        actor_id: Option<PrincipalId>,
        actor_type: Option<PrincipalType>,
        action: Option<String>,
        resource_type: Option<String>,
        resource_id: Option<String>,
        status: Option<AuditStatus>,
        ip_address: Option<String>,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        limit: Option<u32>,
        marker: Option<Marker>,
    }) -> Page<AuditLogEntry>;
    Get "/audit-logs/{log_id}" "getAuditLog" get_audit_log(GetAuditLog { log_id: AuditLogId }) -> AuditLogEntry;
}

paged! { ListAuditLogs => AuditLogEntry }

impl AuditLog for ByCloud {
    fn calls<'a>(&'a self, query: AuditQuery<'a>) -> BoxStream<'a, Result<AuditEntry, CallError>> {
        stream::iter(query.principals)
            .flat_map(move |principal| self.items(of_principal(principal, query.since)))
            .map_err(|error| error.to_call_error(&ListAuditLogs::ROUTE, false))
            .try_filter_map(move |entry| {
                let session = entry.session_id.as_ref().map(SessionId::as_str);
                let is_asked_for = session.is_some_and(|id| query.sessions.contains(id));
                std::future::ready(Ok(is_asked_for.then(|| entry.into())))
            })
            .boxed()
    }
}

fn of_principal(principal: &str, since: Timestamp) -> ListAuditLogs {
    let id = principal.split_once('/').map_or(principal, |(_, id)| id);

    ListAuditLogs {
        actor_id: Some(id.into()),
        from: Some(since),
        limit: Some(1000),
        ..ListAuditLogs::default()
    }
}

impl From<AuditLogEntry> for AuditEntry {
    fn from(entry: AuditLogEntry) -> Self {
        let resource = match entry.resource_id {
            Some(id) => format!("{}/{id}", entry.resource_type),
            None => entry.resource_type,
        };

        let session_id = entry.session_id.as_ref().map(SessionId::to_string);

        Self {
            at: entry.timestamp,
            action: entry.action,
            resource,
            status: entry.status.as_str().into(),
            ip_address: entry.ip_address,
            session_id: session_id.unwrap_or_default(),
            request_id: entry.request_id,
        }
    }
}
