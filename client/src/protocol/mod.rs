//! Requests, replies and error codes: the only definition of what crosses the socket.
//!
//! One frame holds one JSON object: `{"v": 1, "request": …}` from the client, `{"v": 1, "reply": …}` from the daemon.
//! A reply never repeats a request that could not be understood.

mod guard;
mod report;

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use guard::*;
pub use report::*;

/// The version of this protocol. It is raised when an older peer would misread a newer one; new optional fields and
/// new error codes do not raise it.
pub const VERSION: u32 = 1;

/// The most profiles in one [`StatusPage`], so that a page fits a frame however long its messages are.
pub const STATUS_PAGE: usize = 10;

/// Whether a text can be the name of a profile or an upstream: 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter
/// or digit.
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|each| each.is_ascii_alphanumeric() || "-_.".contains(each))
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RequestFrame<'a> {
    pub v: u32,
    #[serde(borrow)]
    pub request: Request<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ReplyFrame<'a> {
    pub v: u32,
    #[serde(borrow)]
    pub reply: Reply<'a>,
}

/// Read before anything else of a frame, so that a peer of another version gets an answer it can act on.
#[derive(Debug, Deserialize)]
pub struct Version {
    pub v: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request<'a> {
    /// Credentials of one profile.
    Lease {
        #[serde(borrow)]
        profile: Cow<'a, str>,
    },
    /// The daemon and its profiles in order of name, those behind `after`.
    Status {
        #[serde(borrow, default)]
        after: Option<Cow<'a, str>>,
    },
    /// One call of an upstream's API, answered with its reply in parts.
    Iam(#[serde(borrow)] IamCall<'a>),
    /// Why a profile's role can or cannot be assumed: an [`Explanation`] in parts.
    Explain {
        #[serde(borrow)]
        profile: Cow<'a, str>,
    },
    /// What was done with a profile's sessions: an [`Audit`] in parts.
    Audit {
        #[serde(borrow)]
        profile: Cow<'a, str>,
        /// How far to look back.
        since_seconds: u64,
    },
    /// A [`ProfileUpdate`] of a profile at once, and another whenever it has changed, until the client hangs up. Changes that
    /// come faster than the client reads are told as one.
    Watch {
        #[serde(borrow)]
        profile: Cow<'a, str>,
    },
    /// Fetch a new session now: a [`ProfileUpdate`] in parts.
    Refresh {
        #[serde(borrow)]
        profile: Cow<'a, str>,
    },
    /// Give credentials of a held profile again: a [`ProfileUpdate`] in parts.
    Resume {
        #[serde(borrow)]
        profile: Cow<'a, str>,
    },
    /// A service has refused credentials of this profile. Its session is looked at, and what is found is told: a
    /// [`ProfileUpdate`] in parts.
    ReportRejected {
        #[serde(borrow)]
        profile: Cow<'a, str>,
    },
    /// Drop the session of a profile, or of all, and hold it: a [`LogoutReport`] in parts.
    Logout {
        #[serde(borrow, default)]
        profile: Option<Cow<'a, str>>,
        /// Revoke it at the upstream, too.
        revoke: bool,
    },
    /// Where programs on this machine can ask for a profile's credentials over HTTP, opened if need be: an [`Endpoint`] in
    /// parts.
    Endpoint {
        #[serde(borrow)]
        profile: Cow<'a, str>,
        kind: EndpointKind,
    },
    /// The path of the journal, once all records are written: a [`JournalLocation`] in parts.
    Journal {
        #[serde(default)]
        since_seconds: Option<u64>,
    },
    /// What people are asked now: [`Approvals`] in parts.
    Approvals,
    /// A person's word on one of them: what is still asked then, [`Approvals`] in parts.
    Approve { id: u64, allow: bool },
    /// The answer to [`Reply::Challenge`]; the reply to the request before it follows.
    ChallengeResponse {
        #[serde(borrow)]
        nonce: Cow<'a, str>,
    },
    /// Where an upstream's token lives: a [`TokenSourceInfo`] in parts.
    TokenSource {
        /// May be left out if there is only one.
        #[serde(borrow, default)]
        upstream: Option<Cow<'a, str>>,
    },
    /// Put a token there, once the upstream has taken it: a [`LoginReport`] in parts.
    Login {
        #[serde(borrow, default)]
        upstream: Option<Cow<'a, str>>,
        #[serde(borrow)]
        token: SecretText<'a>,
        /// Of an encrypted file that has one.
        #[serde(borrow, default)]
        passphrase: Option<SecretText<'a>>,
    },
    /// Open an encrypted file with its passphrase, or ask once more to unlock the keyring: a [`LoginReport`] in parts.
    Unlock {
        #[serde(borrow, default)]
        upstream: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        passphrase: Option<SecretText<'a>>,
    },
    /// Replace a service account's credential by a new one: a [`RotationReport`] in parts.
    Rotate {
        #[serde(borrow, default)]
        upstream: Option<Cow<'a, str>>,
        /// The one to be replaced, where that cannot be told.
        #[serde(borrow, default)]
        old: Option<Cow<'a, str>>,
    },
    /// The principal's active sessions at an upstream: [`Sessions`] in parts.
    Sessions {
        /// May be left out if there is only one.
        #[serde(borrow, default)]
        upstream: Option<Cow<'a, str>>,
    },
    /// End a session at an upstream, and here if it is one of ours: a [`SessionRevocation`] in parts.
    RevokeSession {
        #[serde(borrow, default)]
        upstream: Option<Cow<'a, str>>,
        #[serde(borrow)]
        session_id: Cow<'a, str>,
        #[serde(borrow, default)]
        reason: Option<Cow<'a, str>>,
    },
}

/// A text that is shown to nobody: a token or a passphrase on its way to where it is kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl fmt::Debug for SecretText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IamCall<'a> {
    /// The upstream whose principal calls; may be left out if there is only one.
    #[serde(borrow, default)]
    pub upstream: Option<Cow<'a, str>>,
    /// Call with this profile's session instead.
    #[serde(borrow, default)]
    pub profile: Option<Cow<'a, str>>,
    /// The documented name: `listRoles`.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    pub parameters: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply<'a> {
    #[serde(borrow)]
    Lease(Lease<'a>),
    Status(StatusPage),
    #[serde(borrow)]
    Part(Part<'a>),
    ProfileUpdate(ProfileUpdate),
    /// A person is asked first, which takes so long at the most; the reply to the request follows.
    AwaitingUser {
        seconds: u64,
    },
    /// The profile is for some programs only: whoever asked is to say this word, so that it is known to be the process
    /// that was looked at meanwhile, and not another that it has put in its own place.
    Challenge {
        #[serde(borrow)]
        nonce: Cow<'a, str>,
    },
    Error(Failure),
}

/// A piece of a JSON document that may be longer than a frame. A document of no length stands for no reply.
#[derive(Serialize, Deserialize)]
pub struct Part<'a> {
    #[serde(borrow)]
    pub text: Cow<'a, str>,
    /// Whether another part follows.
    pub more: bool,
}

/// It may be part of a secret.
impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("length", &self.text.len())
            .field("more", &self.more)
            .finish()
    }
}

/// Credentials with an advertised expiry: RFC 3339 in UTC with a `Z`, whole seconds, never later than the true one.
#[derive(Serialize, Deserialize)]
pub struct Lease<'a> {
    #[serde(borrow)]
    pub access_key_id: Cow<'a, str>,
    #[serde(borrow)]
    pub secret_access_key: Cow<'a, str>,
    #[serde(borrow)]
    pub session_token: Cow<'a, str>,
    #[serde(borrow)]
    pub expires_at: Cow<'a, str>,
    #[serde(borrow)]
    pub session_id: Cow<'a, str>,
    /// The session's true end, written as `expires_at` is: for whoever cannot ask again.
    #[serde(borrow, default)]
    pub session_expires_at: Cow<'a, str>,
    /// That of the profile when the session was asked for: a later one means that it has been revoked.
    #[serde(default)]
    pub generation: u64,
    /// How long ago it was last known that nobody has revoked the session, if that is longer than the profile wants.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub view_age_seconds: Option<u64>,
    /// Where the profile's services are, if its configuration says so.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub region: Option<Cow<'a, str>>,
    /// The account that the role is of, 12 digits, if that is known.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub account_id: Option<Cow<'a, str>>,
}

impl fmt::Debug for Lease<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("session_id", &self.session_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// What went wrong, for whom it concerns: a code for programs, a sentence for people, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: Code,
    pub message: String,
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

/// Every way a request can fail.
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
    /// The session was revoked, or logged out of, and nobody has resumed the profile.
    Held,
    UpstreamUnavailable,
    /// It is not known recently enough whether the session has been revoked, and the profile is strict.
    ViewStale,
    UpstreamRefused,
    /// The upstream does not know the role.
    RoleGone,
    /// The role does not trust the principal.
    TrustDenied,
    /// The principal's account is disabled.
    AccountDisabled,
    /// Arises in the client: the command line.
    Usage,
    /// Arises in the client: a daemon that it started refused its configuration.
    Configuration,
    /// Arises in the client.
    NoDaemon,
    /// Arises in the client: what `exec` is to run is not there.
    CommandNotFound,
    /// Arises in the client: what `exec` is to run is there, and cannot be run.
    CommandNotRun,
    /// Also any code of a newer daemon that this client does not know.
    #[serde(other)]
    Unexpected,
}

impl Code {
    /// The name on the wire and behind a message.
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
            Self::LoginNeeded => 5,
            Self::Held => 6,
            Self::UpstreamUnavailable | Self::ViewStale => 7,
            Self::UpstreamRefused | Self::RoleGone | Self::TrustDenied | Self::AccountDisabled => 8,
            // As a shell and env(1) have it.
            Self::CommandNotRun => 126,
            Self::CommandNotFound => 127,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_spelled_alike_on_the_wire_and_in_messages() {
        for code in [
            Code::BadRequest,
            Code::LoginNeeded,
            Code::Held,
            Code::ViewStale,
            Code::UpstreamRefused,
            Code::RoleGone,
            Code::TrustDenied,
            Code::AccountDisabled,
            Code::NoDaemon,
            Code::Unexpected,
        ] {
            assert_eq!(
                serde_json::to_string(&code).unwrap(),
                format!("\"{}\"", code.as_str())
            );
        }
    }

    #[test]
    fn an_unknown_code_of_a_newer_daemon_is_unexpected_and_keeps_its_message() {
        let failure: Failure = serde_json::from_str(
            r#"{"code":"tired","message":"asleep","hint":"wake it","who":"x"}"#,
        )
        .unwrap();
        assert_eq!(failure, Failure::new(Code::Unexpected, "asleep", "wake it"));
    }

    #[test]
    fn debugging_a_lease_shows_no_secret() {
        let lease = Lease {
            access_key_id: "BYIA1".into(),
            secret_access_key: "canary-secret".into(),
            session_token: "canary-token".into(),
            expires_at: "2026-01-01T00:00:00Z".into(),
            session_id: "s-1".into(),
            session_expires_at: "2026-01-01T00:30:00Z".into(),
            generation: 0,
            view_age_seconds: None,
            region: None,
            account_id: None,
        };
        assert!(!format!("{lease:?}").contains("canary"));
    }
}
