//! `rolekeeper iam`: calls of an upstream's API, with the principal's token, which stays in the daemon, or with the session
//! of a profile.

use std::sync::Arc;

use rolekeeper::protocol::IamCall;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::access::peer::Peer;
use crate::access::{Access, Interaction, LeaseGrant};
use crate::cache::{Cache, CacheEntry};
use crate::clock::Clock;
use crate::config::nearest;
use crate::credentials::CredentialService;
use crate::error::{RequestError, WAIT, outcome};
use crate::journal::{Command, Journal, UsedSession};
use crate::revocation::RevocationService;
use crate::text::{one_line, printable};
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{
    ApiCaller, ApiMethod, ApiReply, CallError, CallErrorKind, ManagementApi, Upstreams,
};

#[derive(Debug)]
pub(crate) struct IamService {
    access: Arc<Access>,
    cache: Arc<Cache>,
    upstreams: Arc<Upstreams>,
    clock: Clock,
    journal: Arc<Journal>,
    credentials: Arc<CredentialService>,
    revocation: Arc<RevocationService>,
}

impl IamService {
    pub(crate) fn new(
        access: Arc<Access>,
        cache: Arc<Cache>,
        upstreams: Arc<Upstreams>,
        clock: Clock,
        journal: Arc<Journal>,
        credentials: Arc<CredentialService>,
        revocation: Arc<RevocationService>,
    ) -> Arc<Self> {
        Arc::new(Self {
            access,
            cache,
            upstreams,
            clock,
            journal,
            credentials,
            revocation,
        })
    }

    /// Makes one call and returns the reply unread. The call is given up when `stop` completes.
    pub(crate) async fn call(
        &self,
        peer: &Peer,
        call: IamCall<'_>,
        interaction: &mut impl Interaction,
        stop: impl Future<Output = ()>,
    ) -> Result<Zeroizing<Vec<u8>>, RequestError> {
        let name = printable(&call.method);

        let reply = match &call.profile {
            None => self.call_by_owner(peer, call, interaction, stop).await,
            Some(profile) => {
                let grant = self
                    .access
                    .authorize_lease(peer, profile, interaction)
                    .await?;
                let upstream = &grant.entry().upstream;
                let method = find_method(upstream, &call.method)?;
                let making = self.call_with_session(peer, &grant, method, call.parameters);
                until(stop, upstream, method, making).await
            }
        };

        let error = reply.as_ref().err().map(tracing::field::display);
        tracing::info!(pid = ?peer.pid, method = name, error, "called");

        Ok(reply?.body)
    }

    /// A call as the principal. The journal has each.
    async fn call_by_owner(
        &self,
        peer: &Peer,
        call: IamCall<'_>,
        interaction: &mut impl Interaction,
        stop: impl Future<Output = ()>,
    ) -> Result<ApiReply, RequestError> {
        self.access.authorize_daemon_owner(peer)?;

        let command = Command {
            upstream: call.upstream.as_deref().map(Into::into),
            target: Some(target(&call.parameters)),
            ..Command::new(&format!("iam {}", printable(&call.method)))
        };

        let reply = self.authorize_and_call(peer, call, interaction, stop).await;
        if let Some(outcome) = outcome(&reply) {
            let now = self.clock.now();
            self.journal
                .record_command(peer.caller(), command, outcome, &now);
        }

        reply
    }

    async fn authorize_and_call(
        &self,
        peer: &Peer,
        call: IamCall<'_>,
        interaction: &mut impl Interaction,
        stop: impl Future<Output = ()>,
    ) -> Result<ApiReply, RequestError> {
        let upstream = self.upstreams.choose(call.upstream.as_deref())?;
        let method = find_method(upstream, &call.method)?;
        if let Some(entry) = self.guarded_profile(upstream) {
            self.authorize_past_rules(peer, entry, method, &call, interaction)
                .await?;
        }

        let _waiting = self.credentials.start_token_wait(peer, upstream).await?;
        let making = self.call_as_principal(upstream, method, call.parameters);
        until(stop, upstream, method, making).await
    }

    /// Credentials of the principal's own are beyond any rule, and so is what changes roles and policies.
    async fn authorize_past_rules(
        &self,
        peer: &Peer,
        entry: &CacheEntry,
        method: &ApiMethod,
        call: &IamCall<'_>,
        interaction: &mut impl Interaction,
    ) -> Result<(), RequestError> {
        if method.returns_credentials {
            return Err(guarded(&entry.upstream, method).into());
        }

        // Revoking a session adds no permission.
        if method.changes && method.revokes.is_none() {
            let question = format!("{} ({})", method.name, target(&call.parameters));
            let access = &self.access;
            access
                .authorize_call(peer, entry, &one_line(&question), interaction)
                .await?;
        }

        Ok(())
    }

    async fn call_as_principal(
        &self,
        upstream: &Arc<UpstreamHandle>,
        method: &ApiMethod,
        parameters: Map<String, Value>,
    ) -> Result<ApiReply, RequestError> {
        let api = management(upstream, method.name)?;
        let revoked = method
            .revokes
            .and_then(|name| parameters.get(name)?.as_str().map(str::to_owned));

        let reply = api.call(method, parameters, ApiCaller::Principal).await?;

        self.after_call(upstream, method, revoked.as_deref());
        Ok(reply)
    }

    async fn call_with_session(
        &self,
        peer: &Peer,
        grant: &LeaseGrant,
        method: &ApiMethod,
        parameters: Map<String, Value>,
    ) -> Result<ApiReply, RequestError> {
        let entry = grant.entry();
        let session = self.credentials.session(peer, grant).await?;
        let api = management(&entry.upstream, method.name)?;

        let caller = ApiCaller::Session(&session.issued);
        let reply = api.call(method, parameters, caller).await;

        let request_id = match &reply {
            Ok(reply) => reply.request_id.as_deref(),
            Err(error) => error.request_id.as_deref(),
        };

        if let Some(request_id) = request_id {
            let used = UsedSession::new(entry, &session, self.clock.now().boot);
            self.journal.record_call(peer.caller(), used, request_id);
        }

        if matches!(&reply, Err(error) if error.kind == CallErrorKind::SessionRevoked) {
            self.revocation.session_refused(entry, session.id());
        }

        Ok(reply?)
    }

    /// A profile of the upstream that is only for some processes. The principal's token could bypass its rules.
    fn guarded_profile(&self, upstream: &UpstreamHandle) -> Option<&Arc<CacheEntry>> {
        self.cache
            .entries_of(upstream)
            .find(|entry| entry.profile.callers.is_guarded())
    }

    /// A successful call may have ended sessions.
    fn after_call(&self, upstream: &UpstreamHandle, method: &ApiMethod, revoked: Option<&str>) {
        let own = revoked.and_then(|id| Some((self.cache.entry_of_session(upstream, id)?, id)));

        if let Some((entry, id)) = own {
            self.revocation.session_refused(entry, id);
        } else if method.changes {
            self.revocation.poll_soon(upstream);
        }
    }
}

/// What a call is about, as a user reads it: `role_id=019…, policy_id=019…, document`. The ids come first.
fn target(parameters: &Map<String, Value>) -> String {
    let mut parameters: Vec<_> = parameters.iter().collect();
    parameters.sort_by_key(|(name, _)| !name.ends_with("_id"));

    let words = parameters.into_iter().map(|(name, value)| {
        let name = printable(name);
        match value {
            Value::String(text) => format!("{name}={}", printable(text)),
            Value::Bool(_) | Value::Number(_) => format!("{name}={value}"),
            Value::Null | Value::Array(_) | Value::Object(_) => name,
        }
    });

    Vec::from_iter(words).join(", ")
}

fn guarded(upstream: &UpstreamHandle, method: &ApiMethod) -> CallError {
    let message = format!(
        "{} returns credentials, and some profiles of upstream {} have `callers` or `confirm`",
        method.name, upstream.name
    );
    let hint = "use a profile with exec or credential-process; for a new credential of the token's owner, use \
        login with --rotate";

    CallError::new(CallErrorKind::NotAllowed, message, hint)
}

fn management<'a>(
    upstream: &'a UpstreamHandle,
    method: &str,
) -> Result<&'a dyn ManagementApi, CallError> {
    upstream.require(upstream.client.management(), &printable(method))
}

fn find_method<'a>(upstream: &'a UpstreamHandle, name: &str) -> Result<&'a ApiMethod, CallError> {
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

/// Waits for a call, but at most 20 s, and not once the daemon stops.
async fn until(
    stop: impl Future<Output = ()>,
    upstream: &UpstreamHandle,
    method: &ApiMethod,
    making: impl Future<Output = Result<ApiReply, RequestError>>,
) -> Result<ApiReply, RequestError> {
    let reason = tokio::select! {
        reply = making => return reply,
        () = tokio::time::sleep(WAIT) => match upstream.client.token_wait() {
            Some(wait) => return Err(RequestError::NoTokenYet(wait)),
            None => format!("no reply within {} s", WAIT.as_secs()),
        },
        () = stop => "no reply yet, and rolekeeperd is stopping".into(),
    };

    let message = format!("{}: {reason}", method.name);
    Err(CallError::unavailable(message, method.changes, None).into())
}

#[cfg(test)]
mod tests {
    use rolekeeper::protocol::Code;

    use super::*;
    use crate::access::NoInteraction;
    use crate::config::LeaseLimit;
    use crate::explain::explain;
    use crate::test_support::{TestDaemon, me, scripted};

    #[tokio::test(start_paused = true)]
    async fn missing_capability_is_a_usage_error() {
        let daemon = TestDaemon::new(LeaseLimit::Full, scripted([]));
        let services = &daemon.services;
        let grant = daemon.owner_grant().await;
        let call = IamCall {
            upstream: None,
            profile: None,
            method: "listRoles".into(),
            parameters: Map::new(),
        };
        let stop = std::future::pending();

        let results = [
            ("explain", explain(&grant).await.err()),
            ("audit", services.audit.audit(&grant, WAIT).await.err()),
            ("login", services.login.token_source(None).await.err()),
            ("sessions", services.sessions.list(None).await.err()),
            (
                "listRoles",
                services
                    .iam
                    .call(&me(), call, &mut NoInteraction, stop)
                    .await
                    .err(),
            ),
        ];

        for (what, error) in results {
            let failure = error.unwrap().failure();
            assert_eq!(
                failure.message,
                format!("upstream bycloud (scripted) does not support {what}")
            );
            assert_eq!(failure.code, Code::Usage, "{what}");
        }
    }
}
