//! The audit log (A15).

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::wire::{methods, open_enum, paged};
use super::{AuditLogId, Marker, Page, PrincipalId, PrincipalType, SessionId};

open_enum! {
    /// How a call ended.
    AuditStatus { Success = "success", Denied = "denied", Error = "error" }
}

#[derive(Debug, Clone, Deserialize)]
pub struct AuditLog {
    pub id: AuditLogId,
    pub timestamp: Timestamp,
    /// Absent if nobody could be authenticated.
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
    }) -> Page<AuditLog>;
    Get "/audit-logs/{log_id}" "getAuditLog" get_audit_log(GetAuditLog { log_id: AuditLogId }) -> AuditLog;
}

paged! { ListAuditLogs => AuditLog }
