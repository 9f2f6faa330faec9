//! RefusalKind a call of ByCloud IAM has no reply: a kind for every error that the service documents (A6), and those of the way
//! there.

use std::time::Duration;

use thiserror::Error;

use crate::token_source::TokenError;
use crate::upstream::{RefusalKind, UpstreamError};

/// What to do about a token that no longer counts.
pub const NEW_TOKEN: &str = "put a new token where the configuration says it is; rolekeeper login does that for a keyring or an encrypted file";

/// What the service said, by status and code together: a code under another status is not the documented error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceError {
    InvalidRequest,
    InvalidToken,
    TokenExpired,
    SessionRevoked,
    PrincipalDisabled,
    AccessDenied,
    TrustPolicyDenied,
    NotFound,
    Conflict,
    InUse,
    RateLimited,
    Unavailable,
    Internal,
    /// Not documented, or not with this status, which is here.
    Other(u16),
}

impl ServiceError {
    /// The upstream has looked at the request, and said no.
    pub fn is_verdict(&self) -> bool {
        !matches!(
            self,
            Self::RateLimited | Self::Unavailable | Self::Internal | Self::Other(_)
        )
    }

    pub(super) fn new(status: u16, code: &str) -> Self {
        match (status, code) {
            (400, "invalid_request") => Self::InvalidRequest,
            (401, "invalid_token") => Self::InvalidToken,
            (401, "token_expired") => Self::TokenExpired,
            (401, "session_revoked") => Self::SessionRevoked,
            (401, "principal_disabled") => Self::PrincipalDisabled,
            (403, "access_denied") => Self::AccessDenied,
            (403, "trust_policy_denied") => Self::TrustPolicyDenied,
            (404, "not_found") => Self::NotFound,
            (409, "conflict") => Self::Conflict,
            (409, "in_use") => Self::InUse,
            (429, "rate_limited") => Self::RateLimited,
            (500, "internal") => Self::Internal,
            (503, "unavailable") => Self::Unavailable,
            _ => Self::Other(status),
        }
    }
}

#[derive(Debug, Error)]
pub enum IamError {
    /// The principal's token could not be read.
    #[error(transparent)]
    NoToken(#[from] TokenError),
    /// Nothing was sent.
    #[error("{method} cannot be sent: {why}")]
    Invalid { method: &'static str, why: String },
    /// No answer, or none of the service's own. What was asked for may have been done.
    #[error("{what}")]
    NoAnswer {
        what: String,
        retry_after: Option<Duration>,
    },
    /// The service's own error.
    #[error("{what}")]
    Service {
        what: String,
        said: ServiceError,
        request_id: Option<String>,
        retry_after: Option<Duration>,
    },
    /// The reply is longer than is read.
    #[error("{what}")]
    TooLong { what: String },
    /// A list named a marker twice.
    #[error("{method} goes round in circles: it named the marker {marker} twice")]
    Loop {
        method: &'static str,
        marker: String,
    },
}

impl IamError {
    /// What the service said, if it did.
    pub fn said(&self) -> Option<&ServiceError> {
        match self {
            Self::Service { said, .. } => Some(said),
            _ => None,
        }
    }

    /// How the audit log names the call, if the service said so.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Service { request_id, .. } => request_id.as_deref(),
            _ => None,
        }
    }

    /// What it means for who wants a session.
    pub fn consequence(&self) -> UpstreamError {
        let what = self.to_string();
        match self {
            Self::NoToken(error) => UpstreamError::LoginNeeded {
                what,
                hint: error.hint(),
            },
            Self::Invalid { .. } => UpstreamError::Refused {
                what,
                why: RefusalKind::Other,
            },
            Self::Loop { .. } | Self::TooLong { .. } => UpstreamError::Unavailable {
                what,
                retry_after: None,
            },
            Self::NoAnswer { retry_after, .. } => UpstreamError::Unavailable {
                what,
                retry_after: *retry_after,
            },
            Self::Service {
                said, retry_after, ..
            } => match said {
                ServiceError::InvalidToken
                | ServiceError::TokenExpired
                | ServiceError::SessionRevoked => UpstreamError::LoginNeeded {
                    what,
                    hint: NEW_TOKEN.into(),
                },
                ServiceError::PrincipalDisabled => UpstreamError::Refused {
                    what,
                    why: RefusalKind::AccountDisabled,
                },
                ServiceError::TrustPolicyDenied => UpstreamError::Refused {
                    what,
                    why: RefusalKind::NotTrusted,
                },
                ServiceError::NotFound => UpstreamError::Refused {
                    what,
                    why: RefusalKind::NotFound,
                },
                ServiceError::InvalidRequest
                | ServiceError::AccessDenied
                | ServiceError::Conflict
                | ServiceError::InUse => UpstreamError::Refused {
                    what,
                    why: RefusalKind::Other,
                },
                ServiceError::RateLimited
                | ServiceError::Unavailable
                | ServiceError::Internal
                | ServiceError::Other(_) => UpstreamError::Unavailable {
                    what,
                    retry_after: *retry_after,
                },
            },
        }
    }
}

impl From<IamError> for UpstreamError {
    fn from(error: IamError) -> Self {
        error.consequence()
    }
}
