//! Errors of ByCloud IAM's calls: a kind for each that the service documents (A6), and those of the transport.

use std::time::Duration;

use thiserror::Error;

use super::Route;
use crate::token_source::TokenError;
use crate::upstream::list_limits::ListError;
use crate::upstream::{CallError, CallErrorKind, RefusalKind, UpstreamError};

/// The service's error, by status and code together: a code under another status is not the documented error.
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
    /// A code that is not documented, or not with this status.
    Other(u16),
}

impl ServiceError {
    /// Whether the service evaluated the request, and rejected it.
    pub(crate) fn is_rejection(&self) -> bool {
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
    /// There is no reply, or none of the service's own. The call may have taken effect.
    #[error("{what}")]
    NoAnswer {
        what: String,
        retry_after: Option<Duration>,
        /// What the person can do, if time alone does not help.
        hint: Option<String>,
    },
    /// The service's own error.
    #[error("{what}")]
    Service {
        what: String,
        error: ServiceError,
        request_id: Option<String>,
        retry_after: Option<Duration>,
        /// What to do if the service does not accept the token.
        new_token: String,
    },
    /// The reply exceeds the limit.
    #[error("{what}")]
    TooLong { what: String },
    /// A list does not end.
    #[error("{method}: {why}")]
    List {
        method: &'static str,
        why: ListError,
    },
}

impl IamError {
    /// The service's error, if this is one.
    pub fn service_error(&self) -> Option<&ServiceError> {
        match self {
            Self::Service { error, .. } => Some(error),
            _ => None,
        }
    }

    /// The id of the call in the audit log, if the service replied.
    pub(crate) fn request_id(&self) -> Option<&str> {
        match self {
            Self::Service { request_id, .. } => request_id.as_deref(),
            _ => None,
        }
    }

    /// What the error means to the daemon.
    pub fn to_upstream_error(&self) -> UpstreamError {
        let what = self.to_string();
        match self {
            Self::NoToken(error) => UpstreamError::LoginNeeded {
                what,
                hint: error.hint(),
            },
            Self::Invalid { .. } => UpstreamError::Refused {
                what,
                kind: RefusalKind::Other,
            },
            Self::List { .. } | Self::TooLong { .. } => UpstreamError::Unavailable {
                what,
                retry_after: None,
                hint: None,
            },
            Self::NoAnswer {
                retry_after, hint, ..
            } => UpstreamError::Unavailable {
                what,
                retry_after: *retry_after,
                hint: hint.clone(),
            },
            Self::Service {
                error,
                retry_after,
                new_token,
                ..
            } => error.to_upstream_error(what, *retry_after, new_token),
        }
    }

    /// What the error means to the person who asked for the call. `with_session`: it was made with the session of a
    /// profile, and not with the principal's token.
    pub(super) fn to_call_error(&self, route: &Route, with_session: bool) -> CallError {
        let changes = !route.verb.is_read();
        let mut error = match self {
            Self::NoToken(error) => {
                CallError::new(CallErrorKind::LoginNeeded, self.to_string(), error.hint())
            }
            Self::Invalid { .. } => {
                CallError::new(CallErrorKind::Invalid, self.to_string(), usage(route))
            }
            Self::NoAnswer {
                hint: Some(hint), ..
            } => CallError::new(CallErrorKind::Unavailable, self.to_string(), hint.clone()),
            Self::NoAnswer { retry_after, .. } => {
                CallError::unavailable(self.to_string(), changes, *retry_after)
            }
            Self::TooLong { .. } => CallError::new(
                CallErrorKind::Unavailable,
                self.to_string(),
                "use a smaller --limit",
            ),
            Self::List { .. } => CallError::new(
                CallErrorKind::Unavailable,
                self.to_string(),
                "report it to the upstream's operator: the list does not end",
            ),
            Self::Service {
                error,
                retry_after,
                new_token,
                ..
            } => match error {
                ServiceError::RateLimited => {
                    CallError::unavailable(self.to_string(), false, *retry_after)
                }
                ServiceError::Unavailable | ServiceError::Internal => {
                    CallError::unavailable(self.to_string(), changes, *retry_after)
                }
                ServiceError::Other(status) if !(400..500).contains(status) => {
                    CallError::unavailable(self.to_string(), changes, *retry_after)
                }
                error => CallError::new(
                    error.kind(with_session),
                    self.to_string(),
                    error.hint(route, with_session, new_token),
                ),
            },
        };

        error.request_id = self.request_id().map(Into::into);

        error
    }
}

fn usage(route: &Route) -> String {
    format!("run rolekeeper iam {} --help", route.name)
}

impl ServiceError {
    fn to_upstream_error(
        &self,
        what: String,
        retry_after: Option<Duration>,
        new_token: &str,
    ) -> UpstreamError {
        let kind = match self {
            Self::InvalidToken | Self::TokenExpired | Self::SessionRevoked => {
                return UpstreamError::LoginNeeded {
                    what,
                    hint: new_token.into(),
                };
            }
            Self::RateLimited | Self::Unavailable | Self::Internal | Self::Other(_) => {
                return UpstreamError::Unavailable {
                    what,
                    retry_after,
                    hint: None,
                };
            }
            Self::PrincipalDisabled => RefusalKind::AccountDisabled,
            Self::TrustPolicyDenied => RefusalKind::NotTrusted,
            Self::NotFound => RefusalKind::NotFound,
            Self::InvalidRequest | Self::AccessDenied | Self::Conflict | Self::InUse => {
                RefusalKind::Other
            }
        };

        UpstreamError::Refused { what, kind }
    }

    fn kind(&self, with_session: bool) -> CallErrorKind {
        match self {
            Self::SessionRevoked if with_session => CallErrorKind::SessionRevoked,
            Self::InvalidToken | Self::TokenExpired | Self::SessionRevoked if !with_session => {
                CallErrorKind::LoginNeeded
            }
            _ => CallErrorKind::Refused,
        }
    }

    fn hint(&self, route: &Route, with_session: bool, new_token: &str) -> String {
        let hint = match self {
            Self::InvalidRequest => return usage(route),
            Self::InvalidToken | Self::TokenExpired | Self::SessionRevoked if with_session => {
                "leave out --profile: that profile's session is no longer valid"
            }
            Self::InvalidToken | Self::TokenExpired | Self::SessionRevoked => new_token,
            Self::PrincipalDisabled => {
                "ask an administrator to enable the account: updateServiceAccount --enabled true"
            }
            Self::AccessDenied => "ask an administrator for a policy that allows it",
            Self::TrustPolicyDenied => {
                "ask an administrator to change the role's trust policy: updateRole --trust-policy"
            }
            Self::NotFound => "use the list methods to see what there is",
            Self::Conflict => "use another name, or read the state with a get method",
            Self::InUse => "remove what depends on it first: policies, members, sessions",
            Self::RateLimited | Self::Unavailable | Self::Internal | Self::Other(_) => {
                "change the request: the message has the reason"
            }
        };

        hint.into()
    }
}

impl From<IamError> for UpstreamError {
    fn from(error: IamError) -> Self {
        error.to_upstream_error()
    }
}
