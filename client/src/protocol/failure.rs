//! Errors: a code for programs, a message for people, and a hint.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: Code,
    /// What happened, to what.
    pub message: String,
    /// What to do: an imperative that follows `try: `.
    pub hint: String,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({})\n  try: {}",
            self.message,
            self.code.as_str(),
            self.hint
        )
    }
}

impl std::error::Error for Failure {}

/// The kind of a failure. The client alone creates those marked so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    BadRequest,
    FrameTooLarge,
    UnsupportedVersion,
    Busy,
    ShuttingDown,
    UnknownProfile,
    UnknownUpstream,
    UnknownMethod,
    NotAllowed,
    LoginNeeded,
    /// A code of the principal's MFA device is needed.
    MfaNeeded,
    /// The session was revoked or logged out, and the profile waits to be resumed.
    Held,
    UpstreamUnavailable,
    /// The last successful revocation check is too old, and the profile is strict.
    ViewStale,
    UpstreamRefused,
    /// The role does not exist.
    RoleGone,
    /// The role does not trust the principal.
    TrustDenied,
    /// The principal's account is disabled.
    AccountDisabled,
    /// Client: the command line is invalid.
    Usage,
    /// Client: the daemon rejected its configuration and did not start.
    Configuration,
    /// Client: no daemon is running.
    NoDaemon,
    /// Client: the command of `exec` does not exist.
    CommandNotFound,
    /// Client: the command of `exec` cannot be executed.
    CommandNotRun,
    /// Also stands for a code of a newer daemon that this client does not know.
    #[serde(other)]
    Unexpected,
}

impl Code {
    /// The name on the wire and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::FrameTooLarge => "frame_too_large",
            Self::UnsupportedVersion => "unsupported_version",
            Self::Busy => "busy",
            Self::ShuttingDown => "shutting_down",
            Self::UnknownProfile => "unknown_profile",
            Self::UnknownUpstream => "unknown_upstream",
            Self::UnknownMethod => "unknown_method",
            Self::NotAllowed => "not_allowed",
            Self::LoginNeeded => "login_needed",
            Self::MfaNeeded => "mfa_needed",
            Self::Held => "held",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::ViewStale => "view_stale",
            Self::UpstreamRefused => "upstream_refused",
            Self::RoleGone => "role_gone",
            Self::TrustDenied => "trust_denied",
            Self::AccountDisabled => "account_disabled",
            Self::Unexpected => "unexpected",
            Self::Usage => "usage",
            Self::Configuration => "configuration",
            Self::NoDaemon => "no_daemon",
            Self::CommandNotFound => "command_not_found",
            Self::CommandNotRun => "command_not_run",
        }
    }

    /// The exit code of `rolekeeper`: part of its documented surface.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::BadRequest
            | Self::FrameTooLarge
            | Self::UnsupportedVersion
            | Self::Unexpected => 1,
            Self::Usage
            | Self::Configuration
            | Self::UnknownProfile
            | Self::UnknownUpstream
            | Self::UnknownMethod => 2,
            Self::NoDaemon | Self::Busy | Self::ShuttingDown => 3,
            Self::NotAllowed => 4,
            Self::LoginNeeded | Self::MfaNeeded => 5,
            Self::Held => 6,
            Self::UpstreamUnavailable | Self::ViewStale => 7,
            Self::UpstreamRefused | Self::RoleGone | Self::TrustDenied | Self::AccountDisabled => 8,
            // As in a shell and env(1).
            Self::CommandNotRun => 126,
            Self::CommandNotFound => 127,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_has_the_same_name_on_the_wire_and_in_messages() {
        for code in [
            Code::BadRequest,
            Code::LoginNeeded,
            Code::MfaNeeded,
            Code::Held,
            Code::ViewStale,
            Code::UpstreamRefused,
            Code::RoleGone,
            Code::TrustDenied,
            Code::AccountDisabled,
            Code::NoDaemon,
            Code::Unexpected,
        ] {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{}\"", code.as_str()));
        }
    }

    #[test]
    fn unknown_code_is_unexpected_and_keeps_its_message() {
        let json = r#"{"code":"tired","message":"asleep","hint":"wake it","who":"x"}"#;
        let failure: Failure = serde_json::from_str(json).unwrap();
        assert_eq!(failure, Failure::new(Code::Unexpected, "asleep", "wake it"));
    }
}
