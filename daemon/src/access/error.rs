//! Why a request is refused.

use rolekeeper::protocol::{Code, Failure};
use thiserror::Error;

use super::approvals::REMEMBERED_FOR;
use super::interaction::Interrupted;
use crate::config::ProfileName;
use crate::sandbox::helper::peer_inspector::NotHashed;

/// A refusal: what happened, and with [`AccessError::hint`] what the user can do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccessError {
    #[error("there is no profile `{name}`")]
    UnknownProfile {
        name: String,
        /// The most similar name among the profiles that the user may see.
        nearest: Option<String>,
        /// The peer's user, if the profile exists and is for others. Only the journal says so.
        refused_uid: Option<u32>,
        /// The peer's user is the daemon's owner.
        may_configure: bool,
    },
    #[error("this daemon does not serve user {uid}")]
    UserNotServed { uid: u32 },
    #[error("only the daemon's owner may do this, not user {uid}")]
    NotOwner { uid: u32 },
    #[error(
        "profile {profile} allows certain programs only, and HTTP does not identify the caller"
    )]
    NotOverHttp { profile: ProfileName },
    #[error("the Authorization header does not contain the token of profile {profile}")]
    WrongToken { profile: ProfileName },
    #[error("the request has no Authorization header with the token of profile {profile}")]
    NoToken { profile: ProfileName },
    #[error("cannot identify the calling program, which profile {profile} requires")]
    UnknownCaller { profile: ProfileName },
    #[error("cannot identify the calling program: the peer inspector process has exited")]
    InspectorUnavailable,
    #[error("cannot identify the calling program: the peer inspector process does not respond")]
    InspectorSilent,
    #[error("cannot identify the calling program in time: too many programs wait for that")]
    InspectorBusy,
    #[error("another process uses the connection that was opened for profile {profile}")]
    ConnectionPassedOn { profile: ProfileName },
    #[error("the caller failed the identity challenge for profile {profile}")]
    ChallengeFailed { profile: ProfileName },
    #[error("profile {profile} does not allow {program}")]
    ProgramNotAllowed {
        profile: ProfileName,
        program: String,
    },
    #[error(
        "profile {profile} allows programs by their SHA-256, and that of {program} is unknown: {reason}"
    )]
    ProgramNotHashed {
        profile: ProfileName,
        program: String,
        reason: NotHashed,
    },
    #[error("the process that connected for profile {profile} has exited or runs another program")]
    ProcessReplaced { profile: ProfileName },
    #[error("profile {profile} requires approval: {reason}")]
    NotApproved {
        profile: ProfileName,
        reason: NotApprovedReason,
    },
    #[error("no pending approval {id}")]
    NoPendingApproval { id: u64 },
    #[error("an approval must come from a terminal that the requesting program did not start")]
    ApproverNotIndependent,
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Why an approval was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotApprovedReason {
    #[error("denied")]
    Denied,
    #[error("denied a moment ago")]
    DeniedBefore,
    #[error("not answered a moment ago")]
    NotAnsweredBefore,
    #[error("timed out")]
    TimedOut,
    #[error("too many approvals were requested in the last minute")]
    TooManyQuestions,
}

impl AccessError {
    /// Whether the peer was refused. A lost connection and overload are ends without a decision, and
    /// a wrong number a mistake.
    pub(super) fn is_refusal(&self) -> bool {
        !matches!(
            self,
            Self::Interrupted(_) | Self::NoPendingApproval { .. } | Self::InspectorBusy
        )
    }

    /// What the journal records, which only the daemon's owner can read.
    pub(super) fn for_journal(&self) -> Failure {
        match self {
            Self::UnknownProfile {
                refused_uid: Some(uid),
                name,
                ..
            } => Failure::new(
                Code::NotAllowed,
                format!("profile {name} does not allow user {uid}"),
                self.hint(),
            ),
            error => error.into(),
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::UnknownProfile { .. } => Code::UnknownProfile,
            Self::NoPendingApproval { .. } => Code::Usage,
            Self::Interrupted(_) => Code::ShuttingDown,
            Self::InspectorBusy
            | Self::NotApproved {
                reason: NotApprovedReason::TooManyQuestions,
                ..
            } => Code::Busy,
            _ => Code::NotAllowed,
        }
    }

    /// What the user can do about it, as an imperative.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::UnknownProfile {
                nearest: Some(name),
                ..
            } => format!("use `{name}`, or run rolekeeper status to list the profiles"),
            Self::UnknownProfile {
                may_configure: true,
                ..
            } => {
                "run rolekeeper status to list the profiles, or add it to the configuration".into()
            }
            Self::UnknownProfile { .. } => "run rolekeeper status to list your profiles, or ask \
                the daemon's administrator for another one (`users` or `groups` of the profile)"
                .into(),
            Self::UserNotServed { .. } => {
                "set ROLEKEEPER_SOCKET to the socket of your own daemon".into()
            }
            Self::NotOwner { .. } => "ask the daemon's administrator; for credentials, \
                use credential-process, or exec with --mode env"
                .into(),
            Self::NotOverHttp { profile } => {
                format!("run rolekeeper credential-process {profile}, or use exec with --mode env")
            }
            Self::WrongToken { .. } => {
                "read the token from AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE for each request".into()
            }
            Self::NoToken { .. } => {
                "use an AWS CLI from 1.30 or 2.15 on, or an AWS SDK from 2024 on, which read \
                AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; or use exec with --mode env"
                    .into()
            }
            Self::UnknownCaller { profile } => format!(
                "run the program outside of its container, or remove `callers` and `confirm` \
                from [profile.{profile}]"
            ),
            Self::InspectorUnavailable => "restart rolekeeperd".into(),
            Self::InspectorSilent => {
                "continue the process if it is stopped, or restart rolekeeperd".into()
            }
            Self::InspectorBusy => "retry in a moment".into(),
            Self::ProgramNotHashed { profile, .. } => format!(
                "install the program on a local disk, or allow it by `exe` in `callers` of \
                [profile.{profile}]"
            ),
            Self::ConnectionPassedOn { .. }
            | Self::ChallengeFailed { .. }
            | Self::ProcessReplaced { .. } => {
                "use the rolekeeper command, which opens a connection per request".into()
            }
            Self::ProgramNotAllowed { profile, .. } => format!(
                "add the program to `callers` of [profile.{profile}], if it may use the profile"
            ),
            Self::NotApproved { reason, .. } => reason.hint(),
            Self::NoPendingApproval { .. } => {
                "run rolekeeper approve to list the pending approvals".into()
            }
            Self::ApproverNotIndependent => "run rolekeeper approve in another terminal".into(),
            Self::Interrupted(_) => "run the command again, which starts another daemon".into(),
        }
    }
}

impl NotApprovedReason {
    fn hint(self) -> String {
        match self {
            Self::Denied | Self::DeniedBefore | Self::NotAnsweredBefore | Self::TimedOut => {
                format!(
                    "run the command again in {} s, and allow it with rolekeeper approve in another \
                terminal",
                    REMEMBERED_FOR.as_secs()
                )
            }
            Self::TooManyQuestions => {
                "answer the pending approvals with rolekeeper approve, and retry in a minute".into()
            }
        }
    }
}

impl From<&AccessError> for Failure {
    fn from(error: &AccessError) -> Self {
        Self::new(error.code(), error.to_string(), error.hint())
    }
}
