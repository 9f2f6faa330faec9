//! The calls made with a profile's sessions, and the journal.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Failure, SessionEnded};

/// The calls made with a profile's sessions, and the programs that may have made them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Audit {
    pub profile: String,
    /// RFC 3339: the start of the time span.
    pub since: String,
    /// Oldest first.
    pub calls: Vec<AuditedCall>,
    /// Whether there are more calls than this reply contains.
    #[serde(default)]
    pub truncated: bool,
    /// Why the upstream's audit log could not be read. The daemon's own records are reported anyway.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<Failure>,
    /// RFC 3339: the oldest record of the journal. Absent if the journal is empty.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub journal_since: Option<String>,
    /// The processes that received credentials of the profile. Identical ones are grouped.
    pub holders: Vec<HolderGroup>,
    /// The profile's sessions that ended before they expired.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ended_sessions: Vec<SessionEnded>,
}

/// One entry of the upstream's audit log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditedCall {
    /// RFC 3339.
    pub at: String,
    pub action: String,
    pub resource: String,
    pub status: String,
    pub ip_address: String,
    pub session_id: String,
    pub request_id: String,
    /// Indices into [`Audit::holders`]: the groups that had the session's credentials at the time of the call. If the
    /// daemon made the call for a process, only that process.
    pub holders: Vec<usize>,
}

/// Processes of the same programs that received credentials of the same session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderGroup {
    /// The number of processes.
    pub count: usize,
    #[serde(flatten)]
    pub first: CredentialHolder,
}

/// A process that received credentials, as recorded in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialHolder {
    /// RFC 3339, by the upstream's clock: when it received them.
    pub at: String,
    pub session_id: String,
    /// The session's principal: `user/019…`.
    pub principal: String,
    pub profile: String,
    pub uid: u32,
    /// The process received no credentials: the daemon made this call for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
    /// The interface that it used: `socket` or `http`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub via: Option<String>,
    /// The process, then its ancestors, as far as the daemon could inspect them.
    pub processes: Vec<Process>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// The path of its program. Arguments are not recorded, because they may contain secrets.
    pub program: String,
}

/// The journal's file: one JSON object a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JournalLocation {
    pub path: PathBuf,
    /// RFC 3339 as in the journal: the start of the requested time span, if the request has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<String>,
}
