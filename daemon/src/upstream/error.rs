//! Errors of upstreams. [`UpstreamError`] is for the daemon and is named for what it does next. [`CallError`] is for a
//! person who asked for one call, and has a hint.

use std::time::Duration;

use thiserror::Error;

use crate::token_source::TokenError;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UpstreamError {
    /// Try again later: timeouts, refused connections, 5xx, 429, and every answer that is not the upstream's own.
    #[error("{what}")]
    Unavailable {
        what: String,
        retry_after: Option<Duration>,
        /// What the person can do, if time alone does not help.
        hint: Option<String>,
    },
    /// The long-lived token is missing, expired or revoked: a person has to log in.
    #[error("{what}")]
    LoginNeeded { what: String, hint: String },
    /// A person has to enter a code of the principal's MFA device.
    #[error("{what}")]
    MfaNeeded { what: String, hint: String },
    /// The upstream rejected the request.
    #[error("{what}")]
    Refused { what: String, kind: RefusalKind },
}

/// The cause of a refusal, where the daemon or the hint depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// There is no such role, or session.
    NotFound,
    /// The role does not trust the principal.
    NotTrusted,
    /// The principal's account is disabled, and all of its sessions with it.
    AccountDisabled,
    /// The session whose keys were used has ended.
    BaseEnded,
    Other,
}

impl UpstreamError {
    /// The delay that the upstream asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::LoginNeeded { .. } | Self::MfaNeeded { .. } | Self::Refused { .. } => None,
        }
    }

    /// Whether the same call may succeed later without a person's help.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// Why a request of a person to an upstream failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct CallError {
    pub(crate) kind: CallErrorKind,
    pub(crate) message: String,
    /// What the person can do, as an imperative.
    pub(crate) hint: String,
    /// The upstream's id of the call, if it replied.
    pub(crate) request_id: Option<String>,
}

/// What a [`CallError`] means; it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallErrorKind {
    /// No such upstream is configured.
    UnknownUpstream,
    /// The upstream has no such method.
    UnknownMethod,
    /// The request is invalid, or the upstream does not support it. It has no effect.
    Invalid,
    /// The configuration does not allow the request.
    NotAllowed,
    /// The upstream rejected the call.
    Refused,
    /// The session that the call was made with is revoked.
    SessionRevoked,
    /// There is no reply of the upstream. A change may have taken effect.
    Unavailable,
    /// The principal's token is missing, expired or revoked.
    LoginNeeded,
}

impl CallError {
    pub(crate) fn new(
        kind: CallErrorKind,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: hint.into(),
            request_id: None,
        }
    }

    /// There is no reply. Repeating a call that `changes` something may do it twice.
    pub(crate) fn unavailable(
        message: String,
        changes: bool,
        retry_after: Option<Duration>,
    ) -> Self {
        let hint = match retry_after {
            _ if changes => {
                "check with a list or get method whether it took effect before you retry".into()
            }
            Some(after) => format!("retry in {} s", after.as_secs()),
            None => "retry in a while".into(),
        };

        Self::new(CallErrorKind::Unavailable, message, hint)
    }
}

impl From<TokenError> for CallError {
    fn from(error: TokenError) -> Self {
        Self::new(CallErrorKind::LoginNeeded, error.to_string(), error.hint())
    }
}
