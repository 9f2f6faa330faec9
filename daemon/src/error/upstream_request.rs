//! Why a request that is for an upstream was not sent, or failed, and what the user can do.

use std::sync::Arc;

use rolekeeper::protocol::Code;
use thiserror::Error;

use crate::text::printable;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{CallError, CallErrorKind, Upstreams};

#[derive(Debug, Clone, Error)]
pub enum UpstreamRequestError {
    #[error("there is no upstream `{name}`")]
    UnknownUpstream { name: String, known: String },
    #[error("no upstream is configured")]
    NoUpstream,
    #[error("there are several upstreams, and none is named")]
    AmbiguousUpstream { known: String },
    #[error("there is no method `{name}`")]
    UnknownMethod {
        name: String,
        nearest: Option<&'static str>,
    },
    /// The upstream lacks a capability.
    #[error("upstream {upstream} ({kind}) does not support {what}")]
    Unsupported {
        upstream: String,
        kind: &'static str,
        what: String,
    },
    #[error(
        "{method} returns credentials, and some profiles of upstream {upstream} have `callers` or `confirm`"
    )]
    Guarded {
        method: &'static str,
        upstream: String,
    },
    #[error(transparent)]
    Failed(#[from] CallError),
}

impl UpstreamRequestError {
    /// What the user can do, as an imperative.
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownUpstream { known, .. } | Self::AmbiguousUpstream { known } => {
                format!("use --upstream with one of: {known}")
            }
            Self::NoUpstream => "add an [upstream] to the daemon's configuration".into(),
            Self::UnknownMethod {
                nearest: Some(name),
                ..
            } => format!("use `{name}`, if that was meant"),
            Self::UnknownMethod { nearest: None, .. } => {
                "run rolekeeper iam --help to list the methods".into()
            }
            Self::Unsupported { .. } => "use another upstream".into(),
            Self::Guarded { .. } => {
                "use a profile (exec, credential-process), or run rolekeeper login --rotate for a new credential".into()
            }
            Self::Failed(error) => error.hint.clone(),
        }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::UnknownUpstream { .. } | Self::NoUpstream | Self::AmbiguousUpstream { .. } => {
                Code::UnknownUpstream
            }
            Self::UnknownMethod { .. } => Code::UnknownMethod,
            Self::Unsupported { .. } => Code::Usage,
            Self::Guarded { .. } => Code::NotAllowed,
            Self::Failed(error) => match error.kind {
                CallErrorKind::Invalid => Code::Usage,
                CallErrorKind::Refused | CallErrorKind::SessionRevoked => Code::UpstreamRefused,
                CallErrorKind::Unavailable => Code::UpstreamUnavailable,
                CallErrorKind::LoginNeeded => Code::LoginNeeded,
            },
        }
    }
}

/// The error for a capability that the upstream does not have; `what` is a command or a method.
pub(crate) fn unsupported(upstream: &UpstreamHandle, what: &str) -> UpstreamRequestError {
    UpstreamRequestError::Unsupported {
        upstream: upstream.name.to_string(),
        kind: upstream.client.kind(),
        what: what.into(),
    }
}

/// The upstream of this name. Without a name, the only one.
pub(crate) fn choose_upstream<'a>(
    upstreams: &'a Upstreams,
    name: Option<&str>,
) -> Result<&'a Arc<UpstreamHandle>, UpstreamRequestError> {
    let known = || upstreams.names().collect::<Vec<_>>().join(", ");

    if let Some(name) = name {
        return upstreams
            .find(name)
            .ok_or_else(|| UpstreamRequestError::UnknownUpstream {
                name: printable(name),
                known: known(),
            });
    }

    let mut all = upstreams.iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(UpstreamRequestError::NoUpstream),
        _ => Err(UpstreamRequestError::AmbiguousUpstream { known: known() }),
    }
}
