//! Why a call of an upstream's API was not made, or failed, and what the person can do.

use rolekeeper::protocol::Code;
use thiserror::Error;

use crate::credentials::AccessError;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{CallError, CallErrorKind};

#[derive(Debug, Clone, Error)]
pub enum IamCallError {
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

impl IamCallError {
    /// What the person can do, as an imperative.
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
pub(crate) fn unsupported(upstream: &UpstreamHandle, what: &str) -> IamCallError {
    IamCallError::Unsupported {
        upstream: upstream.name.to_string(),
        kind: upstream.client.kind(),
        what: what.into(),
    }
}

impl From<CallError> for AccessError {
    fn from(error: CallError) -> Self {
        Self::Iam(IamCallError::Failed(error))
    }
}
