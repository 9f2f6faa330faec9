//! `rolekeeper iam`: calls of an upstream's API, with the principal's token, which stays in the daemon, or with the session
//! of a profile.

use std::sync::Arc;

use rolekeeper::protocol::{Code, IamCall};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::access::peer::Peer;
use crate::config::nearest;
use crate::credentials::{AccessError, Broker, WAIT};
use crate::printable;
use crate::upstream::handle::{UpstreamHandle, find};
use crate::upstream::{ApiCaller, ApiMethod, ApiReply, CallError, CallErrorKind, ManagementApi};

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
            return Err(guarded(upstream, method).into());
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

    /// The upstream of this name; without a name, the only one.
    pub(crate) fn upstream_named(
        &self,
        name: Option<&str>,
    ) -> Result<&Arc<UpstreamHandle>, CallError> {
        find(&self.upstreams, name)
    }
}

fn guarded(upstream: &UpstreamHandle, method: &ApiMethod) -> CallError {
    let message = format!(
        "{} returns credentials, and some profiles of upstream {} have `callers` or `confirm`",
        method.name, upstream.name
    );
    let hint = "use a profile (exec, credential-process), or run rolekeeper login --rotate for a new credential";

    CallError::new(CallErrorKind::NotAllowed, message, hint)
}

/// The reply's code for an error.
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

fn management<'a>(
    upstream: &'a UpstreamHandle,
    method: &str,
) -> Result<&'a dyn ManagementApi, CallError> {
    upstream.require(upstream.client.management(), &printable(method))
}

fn method<'a>(upstream: &'a UpstreamHandle, name: &str) -> Result<&'a ApiMethod, CallError> {
    let methods = management(upstream, name)?.methods();
    if let Some(method) = methods.iter().find(|method| method.name == name) {
        return Ok(method);
    }

    let hint = match nearest(name, methods.iter().map(|method| method.name)) {
        Some(nearest) => format!("use `{nearest}`, if that was meant"),
        None => "run rolekeeper iam --help to list the methods".into(),
    };
    Err(CallError::new(
        CallErrorKind::UnknownMethod,
        format!("there is no method `{}`", printable(name)),
        hint,
    ))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LeaseLimit;
    use crate::credentials::tests::{Scripted, broker, me};

    #[tokio::test(start_paused = true)]
    async fn absent_capability_is_a_usage_error() {
        let (broker, _) = broker(LeaseLimit::Full, Scripted::default());
        let call = IamCall {
            upstream: None,
            profile: None,
            method: "listRoles".into(),
            parameters: Map::new(),
        };
        let stop = std::future::pending();
        let results = [
            ("explain", broker.explain(&me(), "dev").await.err()),
            ("audit", broker.audit(&me(), "dev", WAIT).await.err()),
            ("login", broker.token_source(&me(), None).err()),
            ("sessions", broker.sessions(&me(), None).await.err()),
            ("listRoles", broker.iam(&me(), call, stop).await.err()),
        ];

        for (what, error) in results {
            let error = error.unwrap();
            assert_eq!(
                error.to_string(),
                format!("upstream bycloud (scripted) does not support {what}")
            );
            assert!(
                matches!(&error, AccessError::Call(error) if code(error.kind) == Code::Usage),
                "{error:?}"
            );
        }
    }
}
