//! Sessions: how they end, and what logging out and revoking did.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a session ended before it expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnded {
    pub cause: EndCause,
    /// Absent if the profile had no session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<String>,
    /// Who ended it, if known: `user/dev@example.test`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<String>,
    /// RFC 3339, by the upstream's clock: when it was ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// RFC 3339, by this machine's clock: when the daemon stopped serving it.
    pub noticed_at: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// Revoked at the upstream, or by `rolekeeper sessions revoke`.
    Revoked,
    /// The principal's account was disabled, which revokes all of its sessions.
    AccountDisabled,
    /// `rolekeeper logout`
    LoggedOut,
    /// The screen was locked.
    ScreenLocked,
    /// The machine suspended.
    MachineSlept,
    /// The daemon was stopped.
    DaemonStopped,
    /// A cause of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// `session s-1 was revoked by user/admin@example.test at 2026-…, reason: lost laptop`
impl fmt::Display for SessionEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cause,
            session_id,
            by,
            at,
            reason,
            noticed_at,
        } = self;

        match session_id {
            Some(id) => write!(f, "session {id}")?,
            None => write!(f, "the profile")?,
        }

        f.write_str(match cause {
            EndCause::LoggedOut => " was logged out",
            EndCause::AccountDisabled => " was revoked because its account was disabled",
            EndCause::ScreenLocked => " was dropped when the screen was locked",
            EndCause::MachineSlept => " was dropped when the machine suspended",
            EndCause::DaemonStopped => " was dropped when the daemon stopped",
            EndCause::Revoked | EndCause::Unknown => " was revoked",
        })?;

        if let Some(by) = by {
            write!(f, " by {by}")?;
        }

        write!(f, " at {}", at.as_ref().unwrap_or(noticed_at))?;
        reason
            .as_ref()
            .map_or(Ok(()), |reason| write!(f, ", reason: {reason}"))
    }
}

/// The state of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileUpdate {
    pub profile: String,
    /// A revocation increments it. Credentials with a lower generation are revoked. After a crash of the daemon it restarts
    /// at 0.
    pub generation: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<CurrentSession>,
    /// Why the profile is held, until the user resumes it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<SessionEnded>,
    /// How the last session ended, if it was revoked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<SessionEnded>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentSession {
    pub id: String,
    /// RFC 3339, by the upstream's clock: its true expiry.
    pub expires_at: String,
}

/// The result of `logout`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogoutReport {
    /// In order of name.
    pub profiles: Vec<ProfileLogout>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProfileLogout {
    pub profile: String,
    /// Its session. With `revoke`, also older ones that have not expired.
    pub sessions: Vec<SessionRevocation>,
}

/// A session that was ended here, and whether the upstream has confirmed its revocation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionRevocation {
    pub session_id: String,
    /// The profile that it belonged to, if any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub profile: Option<String>,
    pub at_upstream: UpstreamRevocation,
    /// Why it is not confirmed, if known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamRevocation {
    /// The request did not ask for it.
    NotRequested,
    Confirmed,
    /// The daemon retries until the upstream confirms it or the session expires.
    Pending,
    /// The upstream cannot revoke one session: it is valid there until it expires.
    NotPossible,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sessions {
    pub upstream: String,
    /// Oldest first.
    pub sessions: Vec<UpstreamSession>,
    /// Whether there are more sessions than this reply contains.
    #[serde(default)]
    pub truncated: bool,
}

/// An active session, as listed by the upstream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpstreamSession {
    pub id: String,
    pub role_id: String,
    pub role_name: String,
    /// `user/019…`
    pub principal: String,
    /// RFC 3339, by the upstream's clock.
    pub issued_at: String,
    pub expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_ip: Option<String>,
    /// The profile that it belongs to here, if any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub profile: Option<String>,
}
