//! RefusalKind a call of an upstream's API was not made, or has no reply, and what to do about it.

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::Code;
use thiserror::Error;

use crate::upstream::UpstreamError;
use crate::upstream::bycloud::{IamError, NEW_TOKEN, Route, ServiceError};

/// After a change that has no answer: to ask for it again may do it twice.
const TOOK_EFFECT: &str =
    "see whether it took effect, with a list or get method, before you try again";

/// RefusalKind a call was not made, or has no reply.
#[derive(Debug, Clone, Error)]
pub enum IamCallError {
    #[error("there is no upstream `{name}`")]
    UnknownUpstream { name: String, known: String },
    #[error("there are several upstreams, and none is named")]
    WhichUpstream { known: String },
    #[error("there is no method `{name}`")]
    UnknownMethod {
        name: String,
        nearest: Option<&'static str>,
    },
    #[error("the upstream `{name}` has no such API")]
    NoApi { name: String },
    #[error(
        "{method} would give out credentials that profiles of this upstream are to be asked for: some have `callers` or `confirm`"
    )]
    Guarded { method: &'static str },
    /// `session` is the profile whose session called, if it was not the principal.
    #[error("{error}")]
    Failed {
        error: Arc<IamError>,
        route: Route,
        session: Option<String>,
    },
}

impl IamCallError {
    pub(crate) fn failed(error: IamError, route: &Route) -> Self {
        Self::Failed {
            error: Arc::new(error),
            route: *route,
            session: None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownUpstream { known, .. } | Self::WhichUpstream { known } => {
                format!("--upstream with one of: {known}")
            }
            Self::UnknownMethod { nearest: Some(name), .. } => format!("`{name}`, if that was meant"),
            Self::UnknownMethod { nearest: None, .. } => "rolekeeper iam --help, which lists the methods".into(),
            Self::Guarded { .. } => {
                "a profile: exec, credential-process; or login --rotate for a new credential of the service account"
                    .into()
            }
            Self::NoApi { .. } => "an upstream of the kind bycloud".into(),
            Self::Failed { error, route, session } => hint_of(error, route, session.as_deref()),
        }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::UnknownUpstream { .. } | Self::WhichUpstream { .. } | Self::NoApi { .. } => {
                Code::UnknownUpstream
            }
            Self::UnknownMethod { .. } => Code::UnknownMethod,
            Self::Guarded { .. } => Code::NotAllowed,
            Self::Failed { error, session, .. } => code_of(error, session.is_some()),
        }
    }
}

fn code_of(error: &IamError, by_session: bool) -> Code {
    match (error, error.consequence()) {
        (IamError::Invalid { .. }, _) => Code::Usage,
        // For the broker a refusal that nobody knows may pass; for a person it is an answer.
        (
            IamError::Service {
                said: ServiceError::Other(400..=499),
                ..
            },
            _,
        )
        | (_, UpstreamError::Refused { .. }) => Code::UpstreamRefused,
        (_, UpstreamError::Unavailable { .. }) => Code::UpstreamUnavailable,
        (_, UpstreamError::LoginNeeded { .. }) if by_session => Code::UpstreamRefused,
        (_, UpstreamError::LoginNeeded { .. }) => Code::LoginNeeded,
    }
}

fn hint_of(error: &IamError, route: &Route, session: Option<&str>) -> String {
    let again = |after: Option<Duration>| {
        after.map_or_else(
            || "again in a while".into(),
            |after| format!("again in {} s", after.as_secs()),
        )
    };
    match error {
        IamError::NoToken(error) => error.hint(),
        IamError::Invalid { .. } => format!("rolekeeper iam {} --help", route.name),
        IamError::NoAnswer { retry_after, .. } if route.verb.is_read() => again(*retry_after),
        IamError::NoAnswer { .. } => TOOK_EFFECT.into(),
        IamError::TooLong { .. } => "a smaller --limit".into(),
        IamError::Loop { .. } => "tell whoever runs the upstream: its list does not end".into(),
        IamError::Service { said, retry_after, .. } => match said {
            ServiceError::InvalidRequest => format!("rolekeeper iam {} --help", route.name),
            ServiceError::InvalidToken | ServiceError::TokenExpired | ServiceError::SessionRevoked => session.map_or_else(
                || NEW_TOKEN.into(),
                |profile| format!("without --profile {profile}: it is that profile's session that no longer counts"),
            ),
            ServiceError::PrincipalDisabled => {
                "an administrator, who can enable the account: updateServiceAccount --enabled true".into()
            }
            ServiceError::AccessDenied => "an administrator, whose policies can allow it".into(),
            ServiceError::TrustPolicyDenied => "updateRole --trust-policy, by who may".into(),
            ServiceError::NotFound => "the list methods, which show what there is".into(),
            ServiceError::Conflict => "another name, or see what state it is in".into(),
            ServiceError::InUse => "take away what depends on it first: policies, members, sessions".into(),
            ServiceError::Other(400..=499) => "what the message says".into(),
            ServiceError::Unavailable | ServiceError::Internal | ServiceError::Other(_) if !route.verb.is_read() => TOOK_EFFECT.into(),
            ServiceError::RateLimited | ServiceError::Unavailable | ServiceError::Internal | ServiceError::Other(_) => again(*retry_after),
        },
    }
}
