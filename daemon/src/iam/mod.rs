//! `rolekeeper iam`: calls of an upstream's API, with the principal's token, which stays in the daemon, or with the session
//! of a profile.

pub(crate) mod error;

use std::sync::Arc;

use rolekeeper::protocol::IamCall;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::access::peer::Peer;
use crate::config::nearest;
use crate::credentials::{AccessError, Broker, WAIT};
use crate::printable;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{ApiCaller, ApiMethod, ApiReply, CallError, CallErrorKind, ManagementApi};

use error::{IamCallError, unsupported};

impl Broker {
    /// Makes one call and returns the reply unread. The call is given up when `stop` completes.
    pub async fn iam(
        self: &Arc<Self>,
        peer: &Peer,
        call: IamCall<'_>,
        stop: impl Future<Output = ()>,
    ) -> Result<Zeroizing<Vec<u8>>, AccessError> {
        let name = printable(&call.method);
        let reply = match &call.profile {
            None => {
                let (upstream, method) = self.principal_method(peer, &call)?;
                let making = self.call_as_principal(upstream, method, call.parameters);
                until(stop, method, making).await
            }
            Some(profile) => {
                let grant = self.grant(peer, profile).await?;
                let method = method(&grant.entry().upstream, &call.method)?;
                let making = self.call_with_session(peer, profile, method, call.parameters);
                until(stop, method, making).await
            }
        };

        let error = reply.as_ref().err().map(tracing::field::display);
        tracing::info!(pid = ?peer.pid, method = name, error, "called");
        Ok(reply?.body)
    }

    /// The upstream and the method that the owner calls as the principal.
    fn principal_method(
        &self,
        peer: &Peer,
        call: &IamCall<'_>,
    ) -> Result<(&Arc<UpstreamHandle>, &ApiMethod), AccessError> {
        self.policy.admit_owner(peer).map_err(AccessError::Denied)?;
        let upstream = self.upstream_named(call.upstream.as_deref())?;
        let method = method(upstream, &call.method)?;

        if method.returns_credentials && self.is_guarded(upstream) {
            return Err(IamCallError::Guarded {
                method: method.name,
                upstream: upstream.name.to_string(),
            }
            .into());
        }
        Ok((upstream, method))
    }

    async fn call_as_principal(
        self: &Arc<Self>,
        upstream: &Arc<UpstreamHandle>,
        method: &ApiMethod,
        parameters: Map<String, Value>,
    ) -> Result<ApiReply, AccessError> {
        let api = management(upstream, method.name)?;
        let revoked = method
            .revokes
            .and_then(|name| parameters.get(name)?.as_str().map(str::to_owned));

        let reply = api.call(method, parameters, ApiCaller::Principal).await?;

        self.after_change(upstream, method, revoked.as_deref());
        Ok(reply)
    }

    async fn call_with_session(
        self: &Arc<Self>,
        peer: &Peer,
        profile: &str,
        method: &ApiMethod,
        parameters: Map<String, Value>,
    ) -> Result<ApiReply, AccessError> {
        let (grant, session) = self.session(peer, profile).await?;
        let entry = grant.entry();
        let api = management(&entry.upstream, method.name)?;

        let caller = ApiCaller::Session(&session.granted);
        let reply = api.call(method, parameters, caller).await;

        let request_id = match &reply {
            Ok(reply) => reply.request_id.as_deref(),
            Err(error) => error.request_id.as_deref(),
        };
        self.journal
            .called(peer, profile, &session, self.clock.now().boot, request_id);
        if matches!(&reply, Err(error) if error.kind == CallErrorKind::SessionRevoked) {
            self.token_was_refused(entry, &session.granted.session_id);
        }
        Ok(reply?)
    }

    /// Whether a profile of the upstream is only for some processes. Then the principal's token would be a way around it.
    fn is_guarded(&self, upstream: &Arc<UpstreamHandle>) -> bool {
        self.cache
            .entries()
            .iter()
            .filter(|entry| Arc::ptr_eq(&entry.upstream, upstream))
            .any(|entry| entry.profile.callers.is_guarded())
    }

    /// A successful call may have ended sessions.
    fn after_change(
        self: &Arc<Self>,
        upstream: &Arc<UpstreamHandle>,
        method: &ApiMethod,
        revoked: Option<&str>,
    ) {
        let revoked = revoked.and_then(|id| Some((self.entry_of(upstream, id)?, id)));
        if let Some((entry, id)) = revoked {
            self.token_was_refused(&entry, id);
        } else if method.changes {
            self.timer_queue
                .set_by(&upstream.feed.plan, self.clock.now().boot);
        }
    }

    /// The upstream of this name; without one, the only upstream.
    pub(crate) fn upstream_named(
        &self,
        name: Option<&str>,
    ) -> Result<&Arc<UpstreamHandle>, IamCallError> {
        let Some(name) = name else {
            let mut all = self.upstreams.values();
            return match (all.next(), all.next()) {
                (Some(only), None) => Ok(only),
                (None, _) => Err(IamCallError::NoUpstream),
                _ => Err(IamCallError::AmbiguousUpstream {
                    known: self.upstream_names(),
                }),
            };
        };

        self.upstreams
            .get(name)
            .ok_or_else(|| IamCallError::UnknownUpstream {
                name: printable(name),
                known: self.upstream_names(),
            })
    }

    fn upstream_names(&self) -> String {
        let names: Vec<_> = self.upstreams.keys().map(AsRef::as_ref).collect();
        names.join(", ")
    }
}

fn management<'a>(
    upstream: &'a UpstreamHandle,
    method: &str,
) -> Result<&'a dyn ManagementApi, IamCallError> {
    upstream
        .client
        .management()
        .ok_or_else(|| unsupported(upstream, &printable(method)))
}

fn method<'a>(upstream: &'a UpstreamHandle, name: &str) -> Result<&'a ApiMethod, IamCallError> {
    let methods = management(upstream, name)?.methods();

    methods
        .iter()
        .find(|method| method.name == name)
        .ok_or_else(|| IamCallError::UnknownMethod {
            name: printable(name),
            nearest: nearest(name, methods.iter().map(|method| method.name)),
        })
}

/// Waits for a call, but not for long, and not once the daemon stops.
async fn until(
    stop: impl Future<Output = ()>,
    method: &ApiMethod,
    making: impl Future<Output = Result<ApiReply, AccessError>>,
) -> Result<ApiReply, AccessError> {
    let why = tokio::select! {
        reply = making => return reply,
        () = tokio::time::sleep(WAIT) => format!("no reply within {} s", WAIT.as_secs()),
        () = stop => "no reply yet, and rolekeeperd is stopping".into(),
    };

    let message = format!("{}: {why}", method.name);
    Err(CallError::unavailable(message, method.changes, None).into())
}
