//! The records of the journal. Their fields are a file format: they share no type with the wire protocol.

use rolekeeper::protocol;
use serde::{Deserialize, Serialize};

use crate::model::{self, EndCause, to_rfc3339_millis};

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Record {
    /// A connection received a session's credentials for the first time.
    Issued(SessionUse),
    /// The daemon made one API call with a session for a caller, which received no credentials.
    Called(SessionUse),
    /// A request for credentials was refused.
    Refused {
        at: String,
        profile: String,
        /// The name of the error, as the client prints it.
        code: String,
        message: String,
        #[serde(skip_serializing_if = "is_zero", default)]
        suppressed: u64,
        #[serde(flatten)]
        caller: CallerRecord,
    },
    ApprovalRequested {
        at: String,
        profile: String,
        /// The requesting program, as the user reads it.
        program: String,
        #[serde(flatten)]
        caller: CallerRecord,
    },
    /// Its caller is the one who decided.
    ApprovalDecided {
        at: String,
        profile: String,
        program: String,
        decision: Decision,
        #[serde(flatten)]
        caller: CallerRecord,
    },
    /// A token was stored for an upstream.
    LoggedIn {
        at: String,
        upstream: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        principal: Option<String>,
        #[serde(flatten)]
        caller: CallerRecord,
    },
    /// The daemon's owner requested a change, here or at an upstream, or called a method as the principal.
    Command {
        at: String,
        /// `resume`, `iam attachRolePolicy`
        command: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        profile: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        upstream: Option<String>,
        /// `role_id=019…, policy_id=019…`
        #[serde(skip_serializing_if = "Option::is_none", default)]
        target: Option<String>,
        /// `ok`, or the name of the error.
        outcome: String,
        #[serde(skip_serializing_if = "is_zero", default)]
        suppressed: u64,
        #[serde(flatten)]
        caller: CallerRecord,
    },
    SessionEnded(SessionEnded),
}

/// The use of a session by a caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionUse {
    /// RFC 3339, by the upstream's clock.
    pub(crate) at: String,
    pub(crate) profile: String,
    pub(crate) session_id: String,
    /// The session's principal: `user/019…`.
    pub(crate) principal: String,
    /// Of the API call, in a record of the type `called`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) request_id: Option<String>,
    /// The number of similar records that the rate limit left out.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub(crate) suppressed: u64,
    #[serde(flatten)]
    pub(crate) caller: CallerRecord,
}

/// A session that ended before it expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionEnded {
    /// RFC 3339, by this machine's clock: when the daemon dropped the session.
    pub(crate) at: String,
    pub(crate) profile: String,
    /// Absent if the profile had no session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) session_id: Option<String>,
    pub(crate) cause: EndCause,
    /// Who ended it: `user/dev@example.test`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) by: Option<String>,
    /// RFC 3339, by the upstream's clock.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) revoked_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) reason: Option<String>,
}

/// The process that made a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallerRecord {
    pub(crate) uid: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) via: Option<Via>,
    /// The process itself, then its parents, as far as the peer inspector saw them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) processes: Vec<Process>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// The path of its executable. Its arguments may contain secrets, so the journal leaves them out.
    pub(crate) program: String,
}

/// The interface that a request used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Via {
    Socket,
    Http,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decision {
    Allowed,
    Denied,
    TimedOut,
    Withdrawn,
}

impl Record {
    /// Whether the daemon itself reads the record later.
    pub(super) fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Issued(_) | Self::Called(_) | Self::SessionEnded(_)
        )
    }

    pub(super) fn at(&self) -> &str {
        match self {
            Self::Issued(usage) | Self::Called(usage) => &usage.at,
            Self::SessionEnded(ended) => &ended.at,
            Self::Refused { at, .. }
            | Self::ApprovalRequested { at, .. }
            | Self::ApprovalDecided { at, .. }
            | Self::LoggedIn { at, .. }
            | Self::Command { at, .. } => at,
        }
    }

    fn caller(&self) -> Option<&CallerRecord> {
        match self {
            Self::Issued(usage) | Self::Called(usage) => Some(&usage.caller),
            Self::Refused { caller, .. }
            | Self::ApprovalRequested { caller, .. }
            | Self::ApprovalDecided { caller, .. }
            | Self::LoggedIn { caller, .. }
            | Self::Command { caller, .. } => Some(caller),
            Self::SessionEnded(_) => None,
        }
    }

    /// The user, unless it has no caller.
    pub(super) fn uid(&self) -> Option<u32> {
        self.caller().map(|caller| caller.uid)
    }

    /// The caller, whose processes the writer adds.
    pub(super) fn caller_mut(&mut self) -> Option<&mut CallerRecord> {
        match self {
            Self::Issued(usage) | Self::Called(usage) => Some(&mut usage.caller),
            Self::Refused { caller, .. }
            | Self::ApprovalRequested { caller, .. }
            | Self::ApprovalDecided { caller, .. }
            | Self::LoggedIn { caller, .. }
            | Self::Command { caller, .. } => Some(caller),
            Self::SessionEnded(_) => None,
        }
    }
}

impl From<SessionUse> for Record {
    fn from(usage: SessionUse) -> Self {
        if usage.request_id.is_some() {
            Self::Called(usage)
        } else {
            Self::Issued(usage)
        }
    }
}

impl SessionEnded {
    pub(super) fn new(profile: &str, ended: &model::SessionEnded) -> Self {
        Self {
            at: to_rfc3339_millis(ended.noticed_at),
            profile: profile.into(),
            session_id: ended.session_id.as_deref().map(Into::into),
            cause: ended.cause,
            by: ended.by.clone(),
            revoked_at: ended.at.map(to_rfc3339_millis),
            reason: ended.reason.clone(),
        }
    }
}

impl From<protocol::Process> for Process {
    fn from(process: protocol::Process) -> Self {
        Self {
            pid: process.pid,
            program: process.program,
        }
    }
}

impl Via {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Http => "http",
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
impl Record {
    pub(super) fn refused(message: &str) -> Self {
        Self::Refused {
            at: "2026-01-01T00:00:00.000Z".into(),
            profile: "dev".into(),
            code: "not_allowed".into(),
            message: message.into(),
            suppressed: 0,
            caller: CallerRecord {
                uid: 1000,
                via: Some(Via::Socket),
                processes: Vec::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(record: &Record) -> serde_json::Value {
        let text = serde_json::to_string(record).unwrap();
        assert_eq!(&serde_json::from_str::<Record>(&text).unwrap(), record);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn records_are_flat_objects_with_a_type() {
        let at = "2026-01-01T00:00:00.000Z";

        let refused = line(&Record::refused("no"));
        assert_eq!(
            refused,
            json!({
                "type": "refused", "at": at, "profile": "dev", "code": "not_allowed", "message": "no",
                "uid": 1000, "via": "socket",
            })
        );

        let ended = line(&Record::SessionEnded(SessionEnded {
            at: at.into(),
            profile: "dev".into(),
            session_id: Some("s-1".into()),
            cause: EndCause::AccountDisabled,
            by: None,
            revoked_at: None,
            reason: None,
        }));
        assert_eq!(
            ended,
            json!({
                "type": "session_ended", "at": at, "profile": "dev", "session_id": "s-1",
                "cause": "account_disabled",
            })
        );

        let called = line(&Record::from(SessionUse {
            at: at.into(),
            profile: "dev".into(),
            session_id: "s-1".into(),
            principal: "user/u-1".into(),
            request_id: Some("q-1".into()),
            suppressed: 2,
            caller: CallerRecord {
                uid: 1000,
                via: None,
                processes: vec![Process {
                    pid: 7,
                    program: "/bin/aws".into(),
                }],
            },
        }));
        assert_eq!(
            called,
            json!({
                "type": "called", "at": at, "profile": "dev", "session_id": "s-1", "principal": "user/u-1",
                "request_id": "q-1", "suppressed": 2, "uid": 1000,
                "processes": [{ "pid": 7, "program": "/bin/aws" }],
            })
        );
    }
}
