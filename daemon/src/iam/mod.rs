//! Calls of an upstream's API on behalf of people at this machine: with the principal's token, which stays here, or with
//! a profile's session.

pub(crate) mod error;

use std::sync::Arc;

use rolekeeper::protocol::IamCall;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::access::peer::Peer;
use crate::cache::CacheEntry;
use crate::config::nearest;
use crate::credentials::{AccessError, Broker, WAIT};
use crate::printable;
use crate::upstream::bycloud::{
    self, Answer, AssumeRole, ByCloud, CreateServiceAccountCredential, IamError, Method,
    RevokeStsSession, Route, ServiceError,
};
use crate::upstream::handle::UpstreamHandle;

use error::IamCallError;

impl Broker {
    /// One call of an upstream's API: its reply, as it came. Once `stop` is over there is no more time for it.
    pub async fn iam(
        self: &Arc<Self>,
        peer: &Peer,
        call: IamCall<'_>,
        stop: impl Future<Output = ()>,
    ) -> Result<Zeroizing<Vec<u8>>, AccessError> {
        let route = bycloud::routes()
            .find(|route| route.name == call.method)
            .ok_or_else(|| IamCallError::UnknownMethod {
                name: printable(&call.method),
                nearest: nearest(&call.method, bycloud::routes().map(|route| route.name)),
            })?;
        let unanswered = |why: &str| {
            let what = format!("{}: {why}", route.name);
            Err(IamCallError::failed(
                IamError::NoAnswer {
                    what,
                    retry_after: None,
                },
                route,
            )
            .into())
        };
        let answer = tokio::select! {
            answer = self.call(peer, route, call) => answer,
            () = tokio::time::sleep(WAIT) => unanswered(&format!("no answer within {} s", WAIT.as_secs())),
            () = stop => unanswered("no answer yet, and rolekeeperd is stopping"),
        };
        let error = answer.as_ref().err().map(tracing::field::display);
        tracing::info!(pid = ?peer.pid, method = route.name, error, "called");
        Ok(answer?.body)
    }

    async fn call(
        self: &Arc<Self>,
        peer: &Peer,
        route: &Route,
        call: IamCall<'_>,
    ) -> Result<Answer, AccessError> {
        let Some(profile) = &call.profile else {
            self.policy.admit_owner(peer).map_err(AccessError::Denied)?;
            let upstream = self.upstream_named(call.upstream.as_deref())?;
            if gives_secrets(route) && self.is_guarded(upstream) {
                return Err(IamCallError::Guarded { method: route.name }.into());
            }
            let revoked = (route.name == RevokeStsSession::ROUTE.name)
                .then(|| call.parameters.get("session_id").cloned());
            let client = client_of(upstream)?;
            let answer = match client.token().await {
                Ok(token) => client.call(route, call.parameters, &token).await,
                Err(error) => Err(error),
            };
            if answer.is_ok() {
                self.something_was_changed(
                    upstream,
                    route,
                    revoked.flatten().as_ref().and_then(Value::as_str),
                );
            }
            return answer.map_err(|error| IamCallError::failed(error, route).into());
        };
        let (grant, session) = self.session(peer, profile).await?;
        let client = bycloud_of(grant.entry())?;
        let answer = client
            .call(route, call.parameters, &session.granted.session_token)
            .await;
        let request_id = answer
            .as_ref()
            .map_or_else(IamError::request_id, |answer| answer.request_id.as_deref());
        self.journal
            .called(peer, profile, &session, self.clock.now().boot, request_id);
        if answer
            .as_ref()
            .is_err_and(|error| error.said() == Some(&ServiceError::SessionRevoked))
        {
            self.token_was_refused(grant.entry(), &session.granted.session_id);
        }
        answer.map_err(|error| {
            IamCallError::Failed {
                error: Arc::new(error),
                route: *route,
                session: Some(profile.to_string()),
            }
            .into()
        })
    }

    /// Whether some profile of an upstream is not for every process: what the principal's token gives is then not either.
    fn is_guarded(&self, upstream: &Arc<UpstreamHandle>) -> bool {
        let mut at_upstream = self
            .cache
            .entries()
            .iter()
            .filter(|entry| Arc::ptr_eq(&entry.upstream, upstream));
        at_upstream.any(|entry| entry.profile.callers.is_guarded())
    }

    /// A call of ours has changed something at an upstream, which may have ended sessions.
    fn something_was_changed(
        self: &Arc<Self>,
        upstream: &Arc<UpstreamHandle>,
        route: &Route,
        revoked: Option<&str>,
    ) {
        if let Some((entry, id)) = revoked.and_then(|id| Some((self.entry_of(upstream, id)?, id))) {
            self.token_was_refused(&entry, id);
        } else if !route.verb.is_read() {
            self.timer_queue
                .set_by(&upstream.feed.plan, self.clock.now().boot);
        }
    }

    pub(crate) fn upstream_named(
        &self,
        name: Option<&str>,
    ) -> Result<&Arc<UpstreamHandle>, IamCallError> {
        let known = || {
            self.upstreams
                .keys()
                .map(AsRef::as_ref)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut all = self.upstreams.values();
        match (name, all.next(), all.next()) {
            (None, Some(only), None) => Ok(only),
            (None, None, _) => Err(IamCallError::UnknownUpstream {
                name: "-".into(),
                known: "none is configured".into(),
            }),
            (None, _, _) => Err(IamCallError::WhichUpstream { known: known() }),
            (Some(name), _, _) => {
                self.upstreams
                    .get(name)
                    .ok_or_else(|| IamCallError::UnknownUpstream {
                        name: printable(name),
                        known: known(),
                    })
            }
        }
    }
}

/// Whether a reply has credentials in it that others could use.
fn gives_secrets(route: &Route) -> bool {
    [
        AssumeRole::ROUTE.name,
        CreateServiceAccountCredential::ROUTE.name,
    ]
    .contains(&route.name)
}

/// The client of an upstream that has the API.
pub(crate) fn client_of(upstream: &UpstreamHandle) -> Result<&ByCloud, IamCallError> {
    upstream
        .client
        .bycloud()
        .ok_or_else(|| IamCallError::NoApi {
            name: upstream.name.to_string(),
        })
}

/// The client of a profile's upstream.
pub(crate) fn bycloud_of(entry: &CacheEntry) -> Result<&ByCloud, IamCallError> {
    client_of(&entry.upstream)
}
