use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A session that ended before its expiry: the one event that every revocation becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEnded {
    pub(crate) cause: EndCause,
    /// Absent if the profile had no session at that moment.
    pub(crate) session_id: Option<Box<str>>,
    /// Who ended it, as far as it is known: an id of the upstream, or `user/dev@example.test`.
    pub(crate) by: Option<String>,
    /// When it was ended, by the upstream's clock.
    pub(crate) at: Option<Timestamp>,
    pub(crate) reason: Option<String>,
    /// When it took effect here, by this machine's wall clock.
    pub(crate) noticed_at: Timestamp,
}

/// Why a session ended before its expiry. State files contain these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EndCause {
    /// At the upstream, or by `rolekeeper sessions revoke` here.
    Revoked,
    /// The principal's account was disabled, which revokes all of its sessions.
    AccountDisabled,
    LoggedOut,
    ScreenLocked,
    MachineSlept,
    DaemonStopped,
}

impl SessionEnded {
    /// With nothing known yet but the cause.
    pub(crate) fn new(cause: EndCause, noticed_at: Timestamp) -> Self {
        Self {
            cause,
            session_id: None,
            by: None,
            at: None,
            reason: None,
            noticed_at,
        }
    }
}
