//! Why a request failed, named for what its sender can do about it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rolekeeper::protocol::{Code, Failure};
use thiserror::Error;

use crate::access::AccessError;
use crate::clock::Now;
use crate::config::ProfileName;
use crate::model::{SessionEnded, to_rfc3339};
use crate::report;
use crate::token_source::TokenWait;
use crate::upstream::backoff::BackoffState;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{CallError, CallErrorKind, RefusalKind, UpstreamError};

/// How long a consumer waits for the upstream. The call continues without it.
pub const WAIT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Error)]
pub enum RequestError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("profile {profile} is held")]
    Held {
        profile: String,
        ended: Arc<SessionEnded>,
    },
    #[error(
        "the last successful revocation check for profile {profile} was {} s ago: {reason}",
        .age.as_secs()
    )]
    ViewStale {
        profile: String,
        age: Duration,
        /// Why the check failed.
        reason: String,
    },
    /// The upstream failed, and the next attempt is not due yet.
    #[error("{}", .0.error)]
    Upstream(Box<BackoffState>, Now, ProfileName),
    /// The fetch continues in the background.
    #[error("no answer from the upstream within {} s", WAIT.as_secs())]
    StillWaiting,
    /// The call was cancelled.
    #[error("the upstream did not complete its answer within {} s", WAIT.as_secs())]
    TooSlow,
    /// The upstream was not even called.
    #[error("{} has given no token within {} s", .0.location, WAIT.as_secs())]
    NoTokenYet(TokenWait),
    /// A token command requests what needs its own output.
    #[error(
        "the token command of upstream {upstream} waits for itself: it asks rolekeeper for what needs the token of upstream \
         {target}"
    )]
    TokenRecursion { upstream: String, target: String },
    #[error("internal error: the task of this request panicked")]
    Aborted,
    #[error("rolekeeperd is stopping, and the upstream has not answered yet")]
    Stopping,
    /// It is in force until this daemon ends.
    #[error("it is done, but a restart undoes it, because it cannot be stored in {0}")]
    NotStored(String),
    #[error("the journal is in memory only")]
    NoJournal,
    #[error("cannot open an HTTP endpoint: {0}")]
    NoEndpoint(String),
    #[error(transparent)]
    Call(#[from] CallError),
    /// A service refused it, and says what to do.
    #[error("{message}")]
    Rejected {
        code: Code,
        message: String,
        hint: String,
    },
}

impl RequestError {
    /// Whether a person's code of an MFA device would help.
    pub(crate) fn needs_mfa_code(&self) -> bool {
        matches!(
            self,
            Self::Upstream(backoff, ..) if matches!(backoff.error, UpstreamError::MfaNeeded { .. })
        )
    }

    /// The upstream's answer, or its token, has taken too long. The call continues in the background.
    pub(crate) fn still_waiting(upstream: &UpstreamHandle) -> Self {
        match upstream.client.token_wait() {
            Some(wait) => Self::NoTokenYet(wait),
            None => Self::StillWaiting,
        }
    }

    /// The same for a call that is cancelled.
    pub(crate) fn too_slow(upstream: &UpstreamHandle) -> Self {
        match upstream.client.token_wait() {
            Some(wait) => Self::NoTokenYet(wait),
            None => Self::TooSlow,
        }
    }

    /// As the client prints it: a code, a message, and what to do.
    pub fn failure(&self) -> Failure {
        let (code, hint) = match self {
            Self::Access(error) => return error.into(),
            Self::Upstream(backoff, now, profile) => return upstream_failure(backoff, now, profile),
            Self::Held { profile, ended } => {
                let message = format!("{self}: {}", report::session_ended(ended));
                let hint = format!(
                    "run rolekeeper audit {profile} to see what was done with it, then rolekeeper resume {profile}"
                );
                return Failure::new(Code::Held, message, hint);
            }
            Self::Call(error) => (code(error.kind), error.hint.clone()),
            Self::Rejected { code, hint, .. } => (*code, hint.clone()),
            Self::ViewStale { .. } => (
                Code::ViewStale,
                "run the command again in a minute".into(),
            ),
            Self::StillWaiting => (
                Code::UpstreamUnavailable,
                "run the command again in a minute; the upstream is still asked".into(),
            ),
            Self::NoTokenYet(wait) => (Code::LoginNeeded, wait.hint.clone()),
            Self::TokenRecursion { upstream, .. } => (
                Code::Configuration,
                format!(
                    "take the token of [upstream.{upstream}] from elsewhere, or from a profile of another upstream"
                ),
            ),
            Self::TooSlow => (
                Code::UpstreamUnavailable,
                "run the command again in a minute".into(),
            ),
            Self::Stopping => (
                Code::ShuttingDown,
                "run the command again, which starts the daemon".into(),
            ),
            Self::NotStored(_) => (
                Code::Configuration,
                "make room in the state folder, or make it writable, and run the command again".into(),
            ),
            Self::NoJournal => (
                Code::Configuration,
                "make the state folder writable (XDG_STATE_HOME, or ~/.local/state), and restart rolekeeperd".into(),
            ),
            Self::NoEndpoint(_) => (
                Code::Configuration,
                "set another port under [endpoint] in the configuration, or stop the program that uses it".into(),
            ),
            Self::Aborted => (
                Code::Unexpected,
                "run the command again, and report what rolekeeperd logged".into(),
            ),
        };

        Failure::new(code, self.to_string(), hint)
    }
}

impl RequestError {
    /// The same for a user who does not own the daemon. Where its token comes from, and which programs print it, is the
    /// owner's business.
    pub(crate) fn failure_for_other_users(&self) -> Failure {
        let failure = self.failure();
        let message = match self {
            Self::ViewStale { profile, age, .. } => format!(
                "the last successful revocation check for profile {profile} was {} s ago",
                age.as_secs()
            ),
            _ if failure.code == Code::LoginNeeded => NO_TOKEN.into(),
            Self::TokenRecursion { .. } => NO_TOKEN.into(),
            _ => return failure,
        };

        let hint = "ask the daemon's administrator, who can see the reason";
        Failure::new(failure.code, message, hint)
    }
}

/// What other users read instead of the reason.
pub(crate) const NO_TOKEN: &str = "the daemon has no valid token";

/// What the journal records of a request that ended: `ok`, or the name of its error. The access rules have recorded their
/// refusals.
pub(crate) fn outcome<T>(result: &Result<T, RequestError>) -> Option<&'static str> {
    match result {
        Ok(_) => Some("ok"),
        Err(RequestError::Access(_)) => None,
        Err(error) => Some(error.failure().code.as_str()),
    }
}

/// The code of a request to an upstream that failed.
pub(crate) fn code(kind: CallErrorKind) -> Code {
    match kind {
        CallErrorKind::UnknownUpstream => Code::UnknownUpstream,
        CallErrorKind::UnknownMethod => Code::UnknownMethod,
        CallErrorKind::Invalid => Code::Usage,
        CallErrorKind::NotAllowed => Code::NotAllowed,
        CallErrorKind::Refused | CallErrorKind::SessionRevoked => Code::UpstreamRefused,
        CallErrorKind::Unavailable => Code::UpstreamUnavailable,
        CallErrorKind::LoginNeeded => Code::LoginNeeded,
    }
}

fn upstream_failure(backoff: &BackoffState, now: &Now, profile: &ProfileName) -> Failure {
    let wait = backoff.next_try.since(now.boot).as_secs_f64().ceil();

    let (code, hint) = match &backoff.error {
        UpstreamError::Unavailable {
            hint: Some(hint), ..
        } => (
            Code::UpstreamUnavailable,
            format!("{hint}; the upstream is asked again after {wait} s"),
        ),
        UpstreamError::Unavailable { .. } => {
            let history = history(backoff, now.wall_of(backoff.since));
            let hint = format!(
                "run the command again in {wait} s, when the upstream is asked again{history}"
            );
            (Code::UpstreamUnavailable, hint)
        }
        UpstreamError::LoginNeeded { hint, .. } => {
            let hint = format!("{hint}; the token is read again in {wait} s");
            (Code::LoginNeeded, hint)
        }
        // A code is accepted at any time.
        UpstreamError::MfaNeeded { hint, .. } => (Code::MfaNeeded, hint.clone()),
        UpstreamError::Refused { kind, .. } => {
            let (code, action) = refusal(*kind, profile);
            (
                code,
                format!("{action}; the upstream is asked again after {wait} s"),
            )
        }
    };

    Failure::new(code, backoff.error.to_string(), hint)
}

fn history(backoff: &BackoffState, since: Timestamp) -> String {
    match backoff.attempts {
        0 | 1 => String::new(),
        attempts => format!("; failing since {}, {attempts} attempts", to_rfc3339(since)),
    }
}

fn refusal(kind: RefusalKind, profile: &ProfileName) -> (Code, String) {
    match kind {
        RefusalKind::NotFound => (
            Code::RoleGone,
            format!("check role_id of [profile.{profile}]; the role may have been deleted"),
        ),
        RefusalKind::NotTrusted => (
            Code::TrustDenied,
            format!(
                "run rolekeeper explain {profile} to compare the role's trust policy with the token's owner"
            ),
        ),
        RefusalKind::AccountDisabled => (
            Code::AccountDisabled,
            "ask the account's administrator to enable it".into(),
        ),
        RefusalKind::BaseEnded => (
            Code::UpstreamRefused,
            format!(
                "retry, which fetches another session of the profile that [profile.{profile}] is assumed from"
            ),
        ),
        RefusalKind::Other => (
            Code::UpstreamRefused,
            format!(
                "run rolekeeper explain {profile}, or check role_id and duration of [profile.{profile}]"
            ),
        ),
    }
}
