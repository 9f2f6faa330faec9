//! Calls of an upstream's API on behalf of people at this machine: with the principal's token, which stays here, or with
//! a profile's session.

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::{Code, IamCall};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::broker::{Broker, Refusal, WAIT, printable};
use crate::config::nearest;
use crate::serve::peer::Peer;
use crate::upstream::UpstreamError;
use crate::upstream::bycloud::{self, Answer, ByCloud, IamError, Route, Said};

/// Why a call was not made, or has no reply.
#[derive(Debug, Clone, Error)]
pub enum NoCall {
    #[error("there is no upstream `{name}`")]
    UnknownUpstream { name: String, known: String },
    #[error("there are several upstreams, and none is named")]
    WhichUpstream { known: String },
    #[error("there is no method `{name}`")]
    UnknownMethod { name: String, nearest: Option<&'static str> },
    #[error("the upstream `{name}` has no such API")]
    NoApi { name: String },
    #[error("{error}")]
    Failed { error: Arc<IamError>, route: Route },
}

impl NoCall {
    pub(crate) fn failed(error: IamError, route: &Route) -> Self {
        Self::Failed { error: Arc::new(error), route: *route }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownUpstream { known, .. } | Self::WhichUpstream { known } => {
                format!("--upstream with one of: {known}")
            }
            Self::UnknownMethod { nearest: Some(name), .. } => format!("`{name}`, if that was meant"),
            Self::UnknownMethod { nearest: None, .. } => "rolekeeper iam --help, which lists the methods".into(),
            Self::NoApi { .. } => "an upstream of the kind bycloud".into(),
            Self::Failed { error, route } => failed(error, route),
        }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::UnknownUpstream { .. } | Self::WhichUpstream { .. } | Self::NoApi { .. } => Code::UnknownUpstream,
            Self::UnknownMethod { .. } => Code::UnknownMethod,
            Self::Failed { error, .. } => match error.consequence() {
                UpstreamError::Unavailable { .. } => Code::UpstreamUnavailable,
                UpstreamError::LoginNeeded { .. } => Code::LoginNeeded,
                UpstreamError::Refused { .. } => Code::UpstreamRefused,
            },
        }
    }
}

fn failed(error: &IamError, route: &Route) -> String {
    let again = |after: Option<Duration>| {
        after.map_or_else(|| "again in a while".into(), |after| format!("again in {} s", after.as_secs()))
    };
    match error {
        IamError::NoToken(error) => error.hint(),
        IamError::Invalid { .. } => format!("rolekeeper iam {} --help", route.name),
        IamError::NoAnswer { retry_after, .. } if route.verb.is_read() => again(*retry_after),
        IamError::NoAnswer { .. } => {
            "see whether it took effect, with a list or get method, before you try again".into()
        }
        IamError::Loop { .. } => "tell whoever runs the upstream: its list does not end".into(),
        IamError::Said { said, retry_after, .. } => match said {
            Said::InvalidRequest => format!("rolekeeper iam {} --help", route.name),
            Said::InvalidToken | Said::TokenExpired | Said::SessionRevoked => {
                "put a new token where the configuration says it is".into()
            }
            Said::PrincipalDisabled => {
                "an administrator, who can enable the account: updateServiceAccount --enabled true".into()
            }
            Said::AccessDenied => "an administrator, whose policies can allow it".into(),
            Said::TrustPolicyDenied => "updateRole --trust-policy, by who may".into(),
            Said::NotFound => "the list methods, which show what there is".into(),
            Said::Conflict => "another name, or see what state it is in".into(),
            Said::InUse => "take away what depends on it first: policies, members, sessions".into(),
            Said::RateLimited | Said::Unavailable | Said::Internal | Said::Other => again(*retry_after),
        },
    }
}

impl Broker {
    /// One call of an upstream's API: its reply, as it came.
    pub async fn iam(self: &Arc<Self>, peer: &Peer, call: IamCall<'_>) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let route = bycloud::routes().find(|route| route.name == call.method).ok_or_else(|| NoCall::UnknownMethod {
            name: printable(&call.method),
            nearest: nearest(&call.method, bycloud::routes().map(|route| route.name)),
        })?;
        let answer = tokio::time::timeout(WAIT, self.call(peer, route, call)).await.unwrap_or_else(|_| {
            let what = format!("{}: no answer within {} s", route.name, WAIT.as_secs());
            Err(NoCall::failed(IamError::NoAnswer { what, retry_after: None }, route).into())
        });
        let error = answer.as_ref().err().map(tracing::field::display);
        tracing::info!(pid = ?peer.pid, method = route.name, error, "called");
        Ok(answer?.body)
    }

    async fn call(self: &Arc<Self>, peer: &Peer, route: &Route, call: IamCall<'_>) -> Result<Answer, Refusal> {
        let answer = match &call.profile {
            Some(profile) => {
                let client = self.bycloud_of(profile)?;
                let session = self.lease(peer, profile).await?.session;
                client.call(route, call.parameters, &session.granted.session_token).await
            }
            None => {
                let client = self.bycloud_named(call.upstream.as_deref())?;
                match client.token() {
                    Ok(token) => client.call(route, call.parameters, &token).await,
                    Err(error) => Err(error),
                }
            }
        };
        answer.map_err(|error| NoCall::failed(error, route).into())
    }

    /// The client of a profile's upstream.
    pub(crate) fn bycloud_of(&self, profile: &str) -> Result<&ByCloud, Refusal> {
        let slot = self.cache.find(profile).ok_or_else(|| self.unknown(profile))?;
        let name = &slot.profile.upstream;
        slot.upstream.bycloud().ok_or_else(|| NoCall::NoApi { name: name.clone() }.into())
    }

    fn bycloud_named(&self, name: Option<&str>) -> Result<&ByCloud, NoCall> {
        let known = || self.upstreams.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let mut all = self.upstreams.iter();
        let (name, upstream) = match (name, all.next(), all.next()) {
            (None, Some(only), None) => only,
            (None, None, _) => {
                return Err(NoCall::UnknownUpstream { name: "-".into(), known: "none is configured".into() });
            }
            (None, _, _) => return Err(NoCall::WhichUpstream { known: known() }),
            (Some(name), _, _) => self
                .upstreams
                .get_key_value(name)
                .ok_or_else(|| NoCall::UnknownUpstream { name: printable(name), known: known() })?,
        };
        upstream.bycloud().ok_or_else(|| NoCall::NoApi { name: name.clone() })
    }
}
