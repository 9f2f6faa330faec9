//! What AWS's errors mean for the daemon: the one table of codes and texts.

use std::time::Duration;

use thiserror::Error;

use crate::text::one_line;
use crate::token_source::{TokenError, TokenSource};
use crate::upstream::{CallError, CallErrorKind, RefusalKind, UpstreamError};

const NEXT_CODE: &str = "wait for the next code, and enter that";

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
    SessionEnded,
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
            "ExpiredToken" => Meaning::SessionEnded,
            "InvalidClientTokenId" | "UnrecognizedClient" if by_session => Meaning::SessionEnded,
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

    /// For a person who asked for the call. `keys` is where the user's keys come from.
    pub(super) fn into_call_error(self, keys: &TokenSource, changes: bool) -> CallError {
        let message = self.to_string();
        match self {
            Self::NoKeys(error) => error.into(),
            Self::NotKeys { .. } => {
                CallError::new(CallErrorKind::LoginNeeded, message, keys.new_token_hint())
            }
            Self::MfaNeeded { .. } => {
                CallError::new(CallErrorKind::LoginNeeded, message, code_hint(keys))
            }
            Self::WrongCode { .. } => {
                CallError::new(CallErrorKind::LoginNeeded, message, NEXT_CODE)
            }
            Self::NoAnswer {
                retry_after, hint, ..
            } => {
                let mut error = CallError::unavailable(message, changes, retry_after);
                error.hint = hint.unwrap_or(error.hint);
                error
            }
            Self::Service(error) => CallError {
                request_id: Some(error.request_id.clone()),
                ..error.into_call_error(message, keys, changes)
            },
        }
    }

    /// For the daemon. `keys` is where the user's keys come from.
    pub(super) fn into_upstream_error(self, keys: &TokenSource) -> UpstreamError {
        let what = self.to_string();
        match self {
            Self::NoKeys(error) => UpstreamError::LoginNeeded {
                what,
                hint: error.hint(),
            },
            Self::NotKeys { .. } => UpstreamError::LoginNeeded {
                what,
                hint: keys.new_token_hint(),
            },
            Self::MfaNeeded { .. } => UpstreamError::MfaNeeded {
                what,
                hint: code_hint(keys),
            },
            Self::WrongCode { .. } => UpstreamError::LoginNeeded {
                what,
                hint: NEXT_CODE.into(),
            },
            Self::NoAnswer {
                retry_after, hint, ..
            } => UpstreamError::Unavailable {
                what,
                retry_after,
                hint,
            },
            Self::Service(error) => error.into_upstream_error(what, keys),
        }
    }
}

impl ServiceError {
    fn into_call_error(self, message: String, keys: &TokenSource, changes: bool) -> CallError {
        match self.meaning {
            Meaning::Unavailable | Meaning::WrongTime | Meaning::SessionEnded => {
                CallError::unavailable(message, changes, self.retry_after)
            }
            Meaning::KeysInvalid => {
                CallError::new(CallErrorKind::LoginNeeded, message, keys.new_token_hint())
            }
            Meaning::WrongCode => CallError::new(CallErrorKind::LoginNeeded, message, NEXT_CODE),
            Meaning::NotFound | Meaning::NotTrusted | Meaning::Refused => {
                let hint = self.hint.unwrap_or("check the permissions of the keys");
                CallError::new(CallErrorKind::Refused, message, hint)
            }
        }
    }

    fn into_upstream_error(self, what: String, keys: &TokenSource) -> UpstreamError {
        let refused = |what, kind| UpstreamError::Refused { what, kind };

        match self.meaning {
            Meaning::SessionEnded => refused(what, RefusalKind::BaseEnded),
            Meaning::Unavailable => UpstreamError::Unavailable {
                what,
                retry_after: self.retry_after,
                hint: None,
            },
            Meaning::WrongTime => UpstreamError::Unavailable {
                what,
                retry_after: None,
                hint: Some("set the clock of this machine".into()),
            },
            Meaning::KeysInvalid => UpstreamError::LoginNeeded {
                what,
                hint: keys.new_token_hint(),
            },
            Meaning::WrongCode => UpstreamError::LoginNeeded {
                what,
                hint: NEXT_CODE.into(),
            },
            Meaning::NotFound => refused(what, RefusalKind::NotFound),
            Meaning::NotTrusted => refused(what, RefusalKind::NotTrusted),
            Meaning::Refused => {
                let hint = self
                    .hint
                    .map(|hint| format!("; {hint}"))
                    .unwrap_or_default();
                refused(what + &hint, RefusalKind::Other)
            }
        }
    }
}

fn code_hint(keys: &TokenSource) -> String {
    format!("run rolekeeper login {}, and enter a code", keys.upstream())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSUME: &str =
        "User: arn:aws:iam::111122223333:user/ada is not authorized to perform: sts:AssumeRole";
    const EXPIRED: &str =
        "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z";

    fn meaning(status: u16, code: &str, message: &str, by_session: bool) -> Meaning {
        let raw = RawError {
            code,
            message,
            request_id: "q-1",
            status,
            retry_after: None,
        };

        raw.classify("AssumeRole", "https://sts.example.test".into(), by_session)
            .meaning
    }

    #[test]
    fn each_error_has_its_consequence() {
        let table = [
            (400, "Throttling", "Rate exceeded", Meaning::Unavailable),
            (400, "ThrottlingException", "", Meaning::Unavailable),
            (503, "RequestLimitExceeded", "", Meaning::Unavailable),
            (400, "IDPCommunicationError", "", Meaning::Unavailable),
            (500, "InvalidClientTokenId", "", Meaning::Unavailable),
            (429, "Anything", "", Meaning::Unavailable),
            (403, "SignatureDoesNotMatch", EXPIRED, Meaning::WrongTime),
            (
                403,
                "SignatureDoesNotMatch",
                "Signature not yet current: x",
                Meaning::WrongTime,
            ),
            (400, "RequestExpired", "", Meaning::WrongTime),
            (
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated",
                Meaning::KeysInvalid,
            ),
            (403, "InvalidClientTokenId", "", Meaning::KeysInvalid),
            (403, "UnrecognizedClientException", "", Meaning::KeysInvalid),
            (403, "ExpiredToken", "", Meaning::SessionEnded),
            (400, "ExpiredTokenException", "", Meaning::SessionEnded),
            (
                403,
                "AccessDenied",
                "MultiFactorAuthentication failed with invalid MFA one time pass code.",
                Meaning::WrongCode,
            ),
            (
                403,
                "AccessDenied",
                "MultiFactorAuthentication failed, unable to validate MFA code.",
                Meaning::Refused,
            ),
            (403, "AccessDenied", ASSUME, Meaning::NotTrusted),
            (
                403,
                "AccessDenied",
                "x not authorized to perform: sts:TagSession",
                Meaning::Refused,
            ),
            (
                400,
                "ValidationError",
                "the 1 hour session limit",
                Meaning::Refused,
            ),
            (400, "PackedPolicyTooLarge", "", Meaning::Refused),
            (403, "RegionDisabledException", "", Meaning::Refused),
            (404, "NoSuchEntity", "", Meaning::NotFound),
        ];
        for (status, code, message, want) in table {
            assert_eq!(
                meaning(status, code, message, false),
                want,
                "{code} {message}"
            );
        }

        // The keys of a session end with it. Those of a user need a person.
        let of_session = meaning(403, "InvalidClientTokenId", "", true);
        assert_eq!(of_session, Meaning::SessionEnded);
    }
}
