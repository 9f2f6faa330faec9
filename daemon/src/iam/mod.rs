//! Calls of an upstream's API on behalf of people at this machine: with the principal's token, which stays here, or with
//! a profile's session.

pub(crate) mod no_call;
pub(crate) mod whose;

use std::sync::Arc;

use rolekeeper::protocol::IamCall;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::broker::{Broker, Refusal, WAIT};
use crate::cache::Slot;
use crate::config::nearest;
use crate::printable;
use crate::serve::peer::Peer;
use crate::upstream::bycloud::{
    self, Answer, AssumeRole, ByCloud, CreateServiceAccountCredential, IamError, Method,
    RevokeStsSession, Route, Said,
};
use crate::upstream::gate::Gate;

use no_call::NoCall;

impl Broker {
    /// One call of an upstream's API: its reply, as it came. Once `stop` is over there is no more time for it.
    pub async fn iam(
        self: &Arc<Self>,
        peer: &Peer,
        call: IamCall<'_>,
        stop: impl Future<Output = ()>,
    ) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let route = bycloud::routes()
            .find(|route| route.name == call.method)
            .ok_or_else(|| NoCall::UnknownMethod {
                name: printable(&call.method),
                nearest: nearest(&call.method, bycloud::routes().map(|route| route.name)),
            })?;
        let unanswered = |why: &str| {
            let what = format!("{}: {why}", route.name);
            Err(NoCall::failed(
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
    ) -> Result<Answer, Refusal> {
        let Some(profile) = &call.profile else {
            self.policy.admit_owner(peer).map_err(Refusal::Denied)?;
            let gate = self.gate_named(call.upstream.as_deref())?;
            if gives_secrets(route) && self.is_guarded(gate) {
                return Err(NoCall::Guarded { method: route.name }.into());
            }
            let revoked = (route.name == RevokeStsSession::ROUTE.name)
                .then(|| call.parameters.get("session_id").cloned());
            let client = client_of(gate)?;
            let answer = match client.token().await {
                Ok(token) => client.call(route, call.parameters, &token).await,
                Err(error) => Err(error),
            };
            if answer.is_ok() {
                self.something_was_changed(
                    gate,
                    route,
                    revoked.flatten().as_ref().and_then(Value::as_str),
                );
            }
            return answer.map_err(|error| NoCall::failed(error, route).into());
        };
        let (grant, session) = self.session(peer, profile).await?;
        let client = bycloud_of(grant.slot())?;
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
            .is_err_and(|error| error.said() == Some(&Said::SessionRevoked))
        {
            self.token_was_refused(grant.slot(), &session.granted.session_id);
        }
        answer.map_err(|error| {
            NoCall::Failed {
                error: Arc::new(error),
                route: *route,
                session: Some(profile.to_string()),
            }
            .into()
        })
    }

    /// Whether some profile of an upstream is not for every process: what the principal's token gives is then not either.
    fn is_guarded(&self, gate: &Arc<Gate>) -> bool {
        let mut at_gate = self
            .cache
            .slots()
            .iter()
            .filter(|slot| Arc::ptr_eq(&slot.gate, gate));
        at_gate.any(|slot| slot.profile.callers.is_guarded())
    }

    /// A call of ours has changed something at an upstream, which may have ended sessions.
    fn something_was_changed(
        self: &Arc<Self>,
        gate: &Arc<Gate>,
        route: &Route,
        revoked: Option<&str>,
    ) {
        if let Some((slot, id)) = revoked.and_then(|id| Some((self.slot_of(gate, id)?, id))) {
            self.token_was_refused(&slot, id);
        } else if !route.verb.is_read() {
            self.timetable
                .set_by(&gate.feed.plan, self.clock.now().boot);
        }
    }

    pub(crate) fn gate_named(&self, name: Option<&str>) -> Result<&Arc<Gate>, NoCall> {
        let known = || {
            self.gates
                .keys()
                .map(AsRef::as_ref)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut all = self.gates.values();
        match (name, all.next(), all.next()) {
            (None, Some(only), None) => Ok(only),
            (None, None, _) => Err(NoCall::UnknownUpstream {
                name: "-".into(),
                known: "none is configured".into(),
            }),
            (None, _, _) => Err(NoCall::WhichUpstream { known: known() }),
            (Some(name), _, _) => self.gates.get(name).ok_or_else(|| NoCall::UnknownUpstream {
                name: printable(name),
                known: known(),
            }),
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
pub(crate) fn client_of(gate: &Gate) -> Result<&ByCloud, NoCall> {
    gate.upstream.bycloud().ok_or_else(|| NoCall::NoApi {
        name: gate.name.to_string(),
    })
}

/// The client of a profile's upstream.
pub(crate) fn bycloud_of(slot: &Slot) -> Result<&ByCloud, NoCall> {
    client_of(&slot.gate)
}
