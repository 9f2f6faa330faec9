//! Calls of an upstream's API on behalf of people at this machine: with the principal's token, which stays here, or with
//! a profile's session.

mod no_call;

use std::sync::Arc;

use rolekeeper::protocol::IamCall;
use zeroize::Zeroizing;

use crate::broker::{Broker, Refusal, WAIT};
use crate::config::nearest;
use crate::printable;
use crate::serve::peer::Peer;
use crate::upstream::bycloud::{self, Answer, ByCloud, IamError, Route};

pub use no_call::NoCall;

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
