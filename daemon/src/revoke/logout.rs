//! What the user does about sessions: log out, resume, fetch anew, report, list, revoke.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use rolekeeper::protocol::{
    Cause, LoggedOut, LoggedOutProfile, Sessions, UpstreamSession, Watched, Withdrawal as Standing, Withdrawn,
};

use super::Known;
use super::ledger::Withdrawal;
use crate::broker::{Broker, Refusal, WAIT};
use crate::cache::Slot;
use crate::config::RevokeOn;
use crate::iam::no_call::NoCall;
use crate::journal::shown;
use crate::printable;
use crate::serve::peer::Peer;
use crate::upstream::bycloud::{ListStsSessions, Method, RevokeStsSession, active_of};
use crate::upstream::gate::Gate;

/// What the upstream is told as the reason.
const LOGGED_OUT: &str = "logged out by rolekeeper";
/// The most sessions that are shown.
const SHOWN: usize = 1000;

impl Broker {
    /// Drops the sessions of a profile, or of all, and holds them. With `revoke` the upstream ends them too, and those that
    /// came before them and have not expired.
    pub async fn logout(
        self: &Arc<Self>,
        peer: &Peer,
        profile: Option<&str>,
        revoke: bool,
    ) -> Result<LoggedOut, Refusal> {
        let slots = self.granted(peer, profile)?;
        let mut out = Vec::new();
        for slot in &slots {
            out.push((slot, self.revoke(slot, None, Known { by: Some(this(peer)), ..Known::only(Cause::LoggedOut) })));
        }
        if revoke {
            for (slot, revoked) in &out {
                if let Some(session) = &revoked.session {
                    self.withdraw(slot, session, LOGGED_OUT);
                }
            }
            self.withdraw_earlier(&slots).await;
        }
        self.ledger.flush().await;
        let id = |slot: &Slot, session: Option<String>| (slot.profile.name.to_string(), session);
        let ended = out
            .into_iter()
            .map(|(slot, revoked)| id(slot, revoked.session.map(|session| session.granted.session_id.to_string())));
        let ended: Vec<_> = ended.collect();
        if revoke {
            self.await_withdrawals(&ended.iter().filter_map(|(_, id)| id.clone()).collect::<Vec<_>>()).await;
        }
        let withdrawn = |profile: &str, id: String| {
            if revoke {
                return self.withdrawn(id, Some(profile.into()));
            }
            Withdrawn { session_id: id, profile: Some(profile.into()), at_upstream: Standing::Unasked, failure: None }
        };
        let profiles = ended.into_iter().map(|(profile, id)| {
            let withdrawn = id.map(|id| withdrawn(&profile, id));
            LoggedOutProfile { profile, withdrawn }
        });
        Ok(LoggedOut { profiles: profiles.collect() })
    }

    /// Sessions that were replaced by newer ones, whose credentials somebody was given: they count on at the upstream.
    async fn withdraw_earlier(&self, slots: &[Arc<Slot>]) {
        let handed = self.journal.sessions().await;
        let now = self.clock.now().wall;
        for slot in slots {
            let identity = slot.gate.upstream.identity();
            let of_profile = handed.iter().filter(|(_, handed)| handed.profile == slot.profile.name.as_str());
            for (id, handed) in of_profile {
                let end = handed.last_at.saturating_add(slot.profile.role.duration).unwrap_or(Timestamp::MAX);
                if end > now {
                    let profile = Some(slot.profile.name.to_string());
                    self.ledger.add(id, Withdrawal::new(identity.clone(), profile, Some(LOGGED_OUT.into()), end));
                }
            }
        }
        self.withdraw_soon();
    }

    /// An event of this machine's, for the profiles that asked for it.
    pub fn revoke_on(self: &Arc<Self>, cause: Cause, asked: impl Fn(RevokeOn) -> bool) -> Vec<String> {
        let mut ended = Vec::new();
        for slot in self.cache.slots().iter().filter(|slot| asked(slot.profile.revoke_on)) {
            // Whatever is being fetched is not to be served either.
            if let Some(session) = self.revoke(slot, None, Known::only(cause)).session {
                self.withdraw(slot, &session, LOGGED_OUT);
                ended.push(session.granted.session_id.to_string());
            }
        }
        ended
    }

    /// Credentials are given again.
    pub async fn resume(self: &Arc<Self>, peer: &Peer, profile: &str) -> Result<Watched, Refusal> {
        let grant = self.grant(peer, profile)?;
        let slot = grant.slot();
        if slot.standing.resume().is_some() {
            tracing::info!(profile = %slot.profile.name, pid = ?peer.pid, "resumed");
            self.ledger.release(slot);
            self.ledger.flush().await;
            self.watchers.tell(slot, None);
        }
        Ok(crate::watch::watched(slot, None))
    }

    /// A new session now, in the place of the one that there is.
    pub async fn refresh_now(self: &Arc<Self>, peer: &Peer, profile: &str) -> Result<Watched, Refusal> {
        let grant = self.grant(peer, profile)?;
        let slot = grant.slot();
        if let Some(held) = slot.standing.view().hold {
            return Err(Refusal::Held { profile: slot.profile.name.to_string(), held });
        }
        slot.used(&self.clock.now(), crate::refresh::GRACE);
        self.await_fetch(slot, true).await?;
        Ok(crate::watch::watched(slot, None))
    }

    /// A service has refused credentials of this profile: the upstream is looked at, and what is found is in force.
    pub async fn report_rejected(self: &Arc<Self>, peer: &Peer, profile: &str) -> Result<Watched, Refusal> {
        let grant = self.grant(peer, profile)?;
        let slot = grant.slot();
        tracing::info!(profile = %slot.profile.name, pid = ?peer.pid, "its credentials were refused somewhere");
        if slot.session().is_some() {
            let looked = tokio::time::timeout(WAIT, self.look_again(&slot.gate)).await;
            let why = match looked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_elapsed) => Some(format!("no answer within {} s", WAIT.as_secs())),
            };
            if let Some(refusal) = why.and_then(|why| self.stale(slot, why)) {
                return Err(refusal);
            }
        }
        Ok(crate::watch::watched(slot, None))
    }

    /// The active sessions of the principal, or of everybody where it is not known who that is.
    pub async fn sessions(&self, upstream: Option<&str>) -> Result<Sessions, Refusal> {
        let gate = self.gate_named(upstream)?;
        let client = crate::iam::client_of(gate)?;
        let handed = self.journal.sessions().await;
        let mut of: BTreeMap<&str, &str> =
            handed.iter().map(|(id, handed)| (id.as_str(), handed.profile.as_str())).collect();
        let held: Vec<_> = self.cache.slots().iter().filter_map(|slot| Some((slot, slot.session()?))).collect();
        of.extend(held.iter().map(|(slot, session)| (&*session.granted.session_id, slot.profile.name.as_str())));
        let at_gate = |slot: &&Arc<Slot>| Arc::ptr_eq(&slot.gate, gate);
        let mut principals: BTreeSet<&str> =
            held.iter().filter(|(slot, _)| at_gate(slot)).map(|(_, session)| &*session.granted.principal).collect();
        if principals.is_empty() {
            let names: BTreeSet<_> =
                self.cache.slots().iter().filter(at_gate).map(|slot| slot.profile.name.as_str()).collect();
            let last = handed.values().filter(|handed| names.contains(handed.profile.as_str()));
            principals.extend(last.max_by_key(|handed| handed.last_at).map(|handed| handed.principal.as_str()));
        }
        let mut requests: Vec<_> = principals.into_iter().map(active_of).collect();
        if requests.is_empty() {
            requests.push(ListStsSessions { active_only: Some(true), ..ListStsSessions::default() });
        }
        let (mut sessions, mut truncated) = (Vec::new(), false);
        for request in requests {
            let mut items = std::pin::pin!(client.items(request));
            while let Some(session) =
                items.try_next().await.map_err(|error| NoCall::failed(error, &ListStsSessions::ROUTE))?
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
                    principal: format!("{}/{}", session.principal_type.as_str(), session.principal_id),
                    issued_at: shown(session.issued_at),
                    expires_at: shown(session.expires_at),
                    source_ip: session.source_ip,
                });
            }
        }
        sessions.sort_by(|one, other| one.issued_at.cmp(&other.issued_at));
        Ok(Sessions { upstream: gate.name.to_string(), sessions, truncated })
    }

    /// Ends a session: here at once, if it is one of ours, and then at the upstream.
    pub async fn revoke_session(
        self: &Arc<Self>,
        peer: &Peer,
        upstream: Option<&str>,
        session_id: &str,
        reason: Option<&str>,
    ) -> Result<Withdrawn, Refusal> {
        let gate = self.gate_named(upstream)?;
        let client = crate::iam::client_of(gate)?;
        let ours = self.slot_of(gate, session_id);
        let Some((slot, session)) = ours else {
            let request = RevokeStsSession { session_id: session_id.into(), reason: reason.map(Into::into) };
            let call = tokio::time::timeout(WAIT, client.revoke_sts_session(&request));
            call.await
                .map_err(|_| Refusal::TooSlow)?
                .map_err(|error| NoCall::failed(error, &RevokeStsSession::ROUTE))?;
            let at_upstream = Standing::Confirmed;
            return Ok(Withdrawn { session_id: printable(session_id), profile: None, at_upstream, failure: None });
        };
        let known = Known { by: Some(this(peer)), reason: reason.map(Into::into), ..Known::only(Cause::Revoked) };
        self.revoke(&slot, Some(session_id), known);
        self.withdraw(&slot, &session, reason.unwrap_or("revoked by rolekeeper"));
        self.ledger.flush().await;
        self.await_withdrawals(&[session_id.to_owned()]).await;
        Ok(self.withdrawn(session_id.into(), Some(slot.profile.name.to_string())))
    }

    /// The profile whose session this is.
    pub(crate) fn slot_of(&self, gate: &Arc<Gate>, id: &str) -> Option<(Arc<Slot>, Arc<crate::cache::state::Session>)> {
        let at_gate = self.cache.slots().iter().filter(|slot| Arc::ptr_eq(&slot.gate, gate));
        let mut held = at_gate.filter_map(|slot| Some((slot, slot.session()?)));
        held.find(|(_, session)| *session.granted.session_id == *id).map(|(slot, session)| (Arc::clone(slot), session))
    }

    /// What an earlier daemon left behind.
    pub fn restore(self: &Arc<Self>) {
        for slot in self.cache.slots() {
            if let Some(ending) = self.ledger.hold_of(slot) {
                slot.standing.end(|_| true, Some(ending));
            }
        }
        self.withdraw_soon();
    }

    fn granted(&self, peer: &Peer, profile: Option<&str>) -> Result<Vec<Arc<Slot>>, Refusal> {
        match profile {
            Some(profile) => Ok(vec![Arc::clone(self.grant(peer, profile)?.slot())]),
            None => self.cache.names().map(|name| Ok(Arc::clone(self.grant(peer, name)?.slot()))).collect(),
        }
    }
}

/// Who asked for it, as far as the kernel tells.
fn this(peer: &Peer) -> String {
    match peer.pid {
        Some(pid) => format!("you (process {pid})"),
        None => "you".into(),
    }
}
