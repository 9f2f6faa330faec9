//! What AWS's errors mean for the daemon: the one table of codes and texts.

use std::time::Duration;

use thiserror::Error;

use crate::text::one_line;
use crate::token_source::TokenError;
use crate::upstream::{CallError, CallErrorKind, RefusalKind, UpstreamError};

/// The daemon adds the name of the upstream.
const LOGIN: &str = "run rolekeeper login";

/// Why a call has no result.
#[derive(Debug, Error)]
pub(crate) enum AwsError {
    #[error(transparent)]
    NoKeys(#[from] TokenError),
    /// The stored text is no access key.
    #[error("{what}")]
    NotKeys { what: String },
    /// There is no answer of AWS.
    #[error("{what}")]
    NoAnswer {
        what: String,
        retry_after: Option<Duration>,
        hint: Option<String>,
    },
    #[error("{0}")]
    Service(Box<ServiceError>),
    /// A person has to enter a code of the MFA device first.
    #[error("upstream {upstream} needs a code of the MFA device {serial}")]
    MfaNeeded { upstream: String, serial: String },
    /// A code that cannot be used.
    #[error("{what}")]
    WrongCode { what: String },
}

/// An error reply of a service.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{action} at {host}: {message} ({code})")]
pub(crate) struct ServiceError {
    pub(crate) action: &'static str,
    pub(crate) host: String,
    pub(crate) code: String,
    message: String,
    request_id: String,
    retry_after: Option<Duration>,
    pub(crate) meaning: Meaning,
    /// What the person can do, as far as the reply says it.
    hint: Option<&'static str>,
}

/// What the daemon does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Try again later.
    Unavailable,
    /// The signature is of another time than the server's.
    WrongTime,
    /// The keys do not exist any more, are inactive, or have another secret.
    KeysInvalid,
    /// The session that signed the request has ended.
    SessionOver,
    WrongCode,
    NotFound,
    NotTrusted,
    Refused,
}

/// An error reply as it was received.
#[derive(Debug)]
pub(super) struct RawError<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    pub(super) request_id: &'a str,
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
}

impl RawError<'_> {
    /// `by_session`: the request was signed with the keys of a session.
    pub(super) fn classify(
        &self,
        action: &'static str,
        host: String,
        by_session: bool,
    ) -> ServiceError {
        let code = bare_code(self.code);

        ServiceError {
            action,
            host,
            code: one_line(code),
            message: one_line(self.message),
            request_id: one_line(self.request_id),
            retry_after: self.retry_after,
            meaning: self.meaning(code, by_session),
            hint: self.hint(code),
        }
    }

    fn meaning(&self, code: &str, by_session: bool) -> Meaning {
        let message = self.message;

        match code {
            "Throttling"
            | "ThrottledRequest"
            | "RequestLimitExceeded"
            | "TooManyRequests"
            | "SlowDown"
            | "IDPCommunicationError" => Meaning::Unavailable,
            _ if self.status >= 500 || self.status == 429 => Meaning::Unavailable,
            "RequestExpired" => Meaning::WrongTime,
            "SignatureDoesNotMatch" | "InvalidSignature"
                if message.starts_with("Signature expired")
                    || message.starts_with("Signature not yet current") =>
            {
                Meaning::WrongTime
            }
            "ExpiredToken" => Meaning::SessionOver,
            "InvalidClientTokenId" | "UnrecognizedClient" if by_session => Meaning::SessionOver,
            "SignatureDoesNotMatch"
            | "InvalidSignature"
            | "InvalidClientTokenId"
            | "UnrecognizedClient" => Meaning::KeysInvalid,
            "AccessDenied" if message.contains("invalid MFA one time pass code") => {
                Meaning::WrongCode
            }
            "AccessDenied" if message.contains("not authorized to perform: sts:AssumeRole") => {
                Meaning::NotTrusted
            }
            "NoSuchEntity" => Meaning::NotFound,
            _ => Meaning::Refused,
        }
    }

    fn hint(&self, code: &str) -> Option<&'static str> {
        let says = |text| self.message.contains(text);

        Some(match code {
            "AccessDenied" if says("not authorized to perform: sts:TagSession") => {
                "allow sts:TagSession in the role's trust policy and to the caller"
            }
            "AccessDenied" if says("not authorized to perform: sts:SetSourceIdentity") => {
                "allow sts:SetSourceIdentity in the role's trust policy and to the caller"
            }
            "AccessDenied" if says("unable to validate MFA code") => {
                "set mfa.serial of the upstream to the MFA device of the user whose keys these are"
            }
            "RegionDisabled" => "set region of the upstream to one that the account has enabled",
            "PackedPolicyTooLarge" | "MalformedPolicyDocument" => {
                "shorten or correct policy, policy_arns and tags of the profile"
            }
            "ValidationError" if says("MaxSessionDuration") => {
                "set duration of the profile to no more than the role's maximum session duration"
            }
            "ValidationError" if says("1 hour session limit") => {
                "set duration = \"1h\" in the profile: a role that is assumed by a session lasts no longer"
            }
            _ => return None,
        })
    }
}

/// Without `Exception` at the end, and without what some protocols put around it.
fn bare_code(code: &str) -> &str {
    let code = code.split(':').next().unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default();
    code.strip_suffix("Exception").unwrap_or(code)
}

impl AwsError {
    pub(crate) fn service(&self) -> Option<&ServiceError> {
        match self {
            Self::Service(error) => Some(error),
            _ => None,
        }
    }

    pub(crate) fn meaning(&self) -> Option<Meaning> {
        self.service().map(|error| error.meaning)
    }

    /// For a person who asked for the call.
    pub(crate) fn into_call_error(self, changes: bool) -> CallError {
        let message = self.to_string();
        match self {
            Self::NoKeys(error) => error.into(),
            Self::NotKeys { .. } | Self::MfaNeeded { .. } | Self::WrongCode { .. } => {
                CallError::new(CallErrorKind::LoginNeeded, message, LOGIN)
            }
            Self::NoAnswer {
                retry_after, hint, ..
            } => {
                let mut error = CallError::unavailable(message, changes, retry_after);
                error.hint = hint.unwrap_or(error.hint);
                error
            }
            Self::Service(error) => {
                let request_id = Some(error.request_id.clone());
                let mut call = match error.meaning {
                    Meaning::Unavailable | Meaning::WrongTime => {
                        CallError::unavailable(message, changes, error.retry_after)
                    }
                    Meaning::KeysInvalid | Meaning::WrongCode | Meaning::SessionOver => {
                        CallError::new(CallErrorKind::LoginNeeded, message, LOGIN)
                    }
                    Meaning::NotFound | Meaning::NotTrusted | Meaning::Refused => {
                        let hint = error.hint.unwrap_or("check the permissions of the keys");
                        CallError::new(CallErrorKind::Refused, message, hint)
                    }
                };
                call.request_id = request_id;
                call
            }
        }
    }
}

impl From<AwsError> for UpstreamError {
    fn from(error: AwsError) -> Self {
        let what = error.to_string();
        match error {
            AwsError::NoKeys(error) => Self::LoginNeeded {
                what,
                hint: error.hint(),
            },
            AwsError::NotKeys { .. } | AwsError::MfaNeeded { .. } | AwsError::WrongCode { .. } => {
                Self::LoginNeeded {
                    what,
                    hint: LOGIN.into(),
                }
            }
            AwsError::NoAnswer {
                retry_after, hint, ..
            } => Self::Unavailable {
                what,
                retry_after,
                hint,
            },
            AwsError::Service(service) => match service.meaning {
                Meaning::Unavailable | Meaning::SessionOver => Self::Unavailable {
                    what,
                    retry_after: service.retry_after,
                    hint: None,
                },
                Meaning::WrongTime => Self::Unavailable {
                    what,
                    retry_after: None,
                    hint: Some("set the clock of this machine".into()),
                },
                Meaning::KeysInvalid | Meaning::WrongCode => Self::LoginNeeded {
                    what,
                    hint: LOGIN.into(),
                },
                Meaning::NotFound => Self::Refused {
                    what,
                    kind: RefusalKind::NotFound,
                },
                Meaning::NotTrusted => Self::Refused {
                    what,
                    kind: RefusalKind::NotTrusted,
                },
                Meaning::Refused => {
                    let hint = service.hint.map(|hint| format!("; {hint}"));
                    Self::Refused {
                        what: what + hint.as_deref().unwrap_or_default(),
                        kind: RefusalKind::Other,
                    }
                }
            },
        }
    }
}
