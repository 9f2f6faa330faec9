//! The principal's sessions at an upstream: listed, and ended by their ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use rolekeeper::protocol::{Cause, Sessions, UpstreamSession, Withdrawal as Standing, Withdrawn};

use super::ledger::Withdrawal;
use super::logout::this;
use super::{Known, Which};
use crate::broker::{Broker, Refusal, WAIT};
use crate::cache::Slot;
use crate::iam::no_call::NoCall;
use crate::journal::shown;
use crate::serve::peer::Peer;
use crate::upstream::bycloud::{ListStsSessions, Method, RevokeStsSession, active_of};
use crate::upstream::gate::Gate;
use crate::{one_line, printable};

/// The most sessions that are shown.
const SHOWN: usize = 1000;

impl Broker {
    /// The active sessions of the principal, or of everybody where it is not known who that is.
    pub async fn sessions(&self, peer: &Peer, upstream: Option<&str>) -> Result<Sessions, Refusal> {
        self.policy.admit_owner(peer).map_err(Refusal::Denied)?;
        tokio::time::timeout(WAIT, self.all_sessions(upstream))
            .await
            .map_err(|_elapsed| Refusal::TooSlow)?
    }

    async fn all_sessions(&self, upstream: Option<&str>) -> Result<Sessions, Refusal> {
        let gate = self.gate_named(upstream)?;
        let client = crate::iam::client_of(gate)?;
        let handed = self.journal.sessions().await;
        let mut of: BTreeMap<&str, &str> = handed
            .iter()
            .map(|(id, handed)| (id.as_str(), handed.profile.as_str()))
            .collect();
        let held: Vec<_> = self
            .cache
            .slots()
            .iter()
            .filter_map(|slot| Some((slot, slot.session()?)))
            .collect();
        of.extend(
            held.iter()
                .map(|(slot, session)| (&*session.granted.session_id, slot.profile.name.as_str())),
        );
        let at_gate = |slot: &&Arc<Slot>| Arc::ptr_eq(&slot.gate, gate);
        let mut principals: BTreeSet<&str> = held
            .iter()
            .filter(|(slot, _)| at_gate(slot))
            .map(|(_, session)| &*session.granted.principal)
            .collect();
        if principals.is_empty() {
            let names: BTreeSet<_> = self
                .cache
                .slots()
                .iter()
                .filter(at_gate)
                .map(|slot| slot.profile.name.as_str())
                .collect();
            let last = handed
                .values()
                .filter(|handed| names.contains(handed.profile.as_str()));
            principals.extend(
                last.max_by_key(|handed| handed.last_at)
                    .map(|handed| handed.principal.as_str()),
            );
        }
        let mut requests: Vec<_> = principals.into_iter().map(active_of).collect();
        if requests.is_empty() {
            requests.push(ListStsSessions {
                active_only: Some(true),
                ..ListStsSessions::default()
            });
        }
        let (mut sessions, mut truncated) = (Vec::new(), false);
        for request in requests {
            let mut items = std::pin::pin!(client.items(request));
            while let Some(session) = items
                .try_next()
                .await
                .map_err(|error| NoCall::failed(error, &ListStsSessions::ROUTE))?
            {
                if sessions.len() == SHOWN {
                    truncated = true;
                    break;
                }
                sessions.push(UpstreamSession {
                    profile: of.get(session.id.as_str()).map(|&profile| profile.into()),
                    id: session.id.to_string(),
                    role_id: session.role_id.to_string(),
                    role_name: session.role_name,
                    principal: format!(
                        "{}/{}",
                        session.principal_type.as_str(),
                        session.principal_id
                    ),
                    issued_at: shown(session.issued_at),
                    expires_at: shown(session.expires_at),
                    source_ip: session.source_ip,
                });
            }
        }
        sessions.sort_by(|one, other| one.issued_at.cmp(&other.issued_at));
        Ok(Sessions {
            upstream: gate.name.to_string(),
            sessions,
            truncated,
        })
    }

    /// Ends a session: here at once, if it is one of ours, and then at the upstream.
    pub async fn revoke_session(
        self: &Arc<Self>,
        peer: &Peer,
        upstream: Option<&str>,
        session_id: &str,
        reason: Option<&str>,
    ) -> Result<Withdrawn, Refusal> {
        self.policy.admit_owner(peer).map_err(Refusal::Denied)?;
        let gate = self.gate_named(upstream)?;
        let client = crate::iam::client_of(gate)?;
        let Some(slot) = self.slot_of(gate, session_id) else {
            let request = RevokeStsSession {
                session_id: session_id.into(),
                reason: reason.map(Into::into),
            };
            let call = tokio::time::timeout(WAIT, client.revoke_sts_session(&request));
            call.await
                .map_err(|_| Refusal::TooSlow)?
                .map_err(|error| NoCall::failed(error, &RevokeStsSession::ROUTE))?;
            let at_upstream = Standing::Confirmed;
            return Ok(Withdrawn {
                session_id: printable(session_id),
                profile: None,
                at_upstream,
                failure: None,
            });
        };
        let known = Known {
            by: Some(this(peer)),
            reason: reason.map(one_line),
            ..Known::only(Cause::Revoked)
        };
        // An earlier one ends no later than one that would be granted now.
        let end = gate
            .upstream_time(&self.clock.now())
            .saturating_add(slot.profile.role.duration)
            .unwrap_or(Timestamp::MAX);
        self.ledger.add(
            session_id,
            Withdrawal::of(&slot, reason.unwrap_or("revoked by rolekeeper"), end),
        );
        self.revoke(&slot, Which::These(&[session_id.into()]), known);
        self.withdraw_soon();
        self.ledger.flush().await;
        self.await_withdrawals(&[session_id.to_owned()]).await;
        Ok(self.withdrawn(session_id.into(), Some(slot.profile.name.to_string()), true))
    }

    /// The profile whose session this is, or was and may still be used.
    pub(crate) fn slot_of(&self, gate: &Arc<Gate>, id: &str) -> Option<Arc<Slot>> {
        let mut at_gate = self
            .cache
            .slots()
            .iter()
            .filter(|slot| Arc::ptr_eq(&slot.gate, gate));
        let is_its = |slot: &&Arc<Slot>| {
            slot.session()
                .is_some_and(|session| *session.granted.session_id == *id)
                || slot
                    .standing
                    .earlier()
                    .iter()
                    .any(|earlier| *earlier.session_id == *id)
        };
        at_gate.find(is_its).cloned()
    }
}
