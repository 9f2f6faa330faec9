//! What the user does about profiles: log out, resume, fetch anew, report.

use std::sync::Arc;

use jiff::Timestamp;
use rolekeeper::protocol::{Cause, LoggedOut, LoggedOutProfile, Watched};

use super::ledger::Withdrawal;
use super::{Known, Which};
use crate::broker::{Broker, Refusal, WAIT};
use crate::cache::Slot;
use crate::cache::state::Session;
use crate::config::RevokeOn;
use crate::serve::peer::Peer;

/// What the upstream is told as the reason.
const LOGGED_OUT: &str = "logged out by rolekeeper";

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
        let known = Known { by: Some(this(peer)), ..Known::only(Cause::LoggedOut) };
        let end = |slot| (slot, self.revoke(slot, Which::Whatever, known.clone()).session);
        let ended: Vec<_> = slots.iter().map(end).collect();
        let mut of_slots: Vec<_> =
            ended.iter().map(|(_, session)| Vec::from_iter(session.as_deref().map(id))).collect();
        if revoke {
            for (slot, session) in ended.iter().filter_map(|(slot, session)| Some((slot, session.as_ref()?))) {
                self.withdraw(slot, session, LOGGED_OUT);
            }
            self.withdraw_earlier(&slots).await;
            for (ids, slot) in of_slots.iter_mut().zip(&slots) {
                ids.extend(self.ledger.pending_of(slot.profile.name.as_str()));
                ids.sort_unstable();
                ids.dedup();
            }
        }
        self.ledger.flush().await;
        if revoke {
            self.await_withdrawals(&of_slots.concat()).await;
        }
        let report = |(slot, ids): (&Arc<Slot>, Vec<String>)| {
            let profile = slot.profile.name.to_string();
            let withdrawn = |id| self.withdrawn(id, Some(profile.clone()), revoke);
            LoggedOutProfile { withdrawn: ids.into_iter().map(withdrawn).collect(), profile: profile.clone() }
        };
        Ok(LoggedOut { profiles: slots.iter().zip(of_slots).map(report).collect() })
    }

    /// Sessions that were replaced by newer ones, whose credentials somebody was given: they count on at the upstream.
    async fn withdraw_earlier(&self, slots: &[Arc<Slot>]) {
        let handed = self.journal.sessions().await;
        let now = self.clock.now();
        for slot in slots {
            let upstream_time = slot.gate.upstream.server_clock().latest(now.boot).unwrap_or(now.wall);
            let of_profile = handed.iter().filter(|(_, handed)| handed.profile == slot.profile.name.as_str());
            for (id, handed) in of_profile {
                let end = handed.last_at.saturating_add(slot.profile.role.duration).unwrap_or(Timestamp::MAX);
                if end > upstream_time {
                    self.ledger.add(id, Withdrawal::of(slot, LOGGED_OUT, end));
                }
            }
        }
        self.withdraw_soon();
    }

    /// An event of this machine's, for the profiles that asked for it: their sessions are over here when this begins to
    /// wait. Returns those that the upstream is to end.
    pub async fn revoke_on(self: &Arc<Self>, cause: Cause, asked: impl Fn(RevokeOn) -> bool) -> Vec<String> {
        let asked = self.cache.slots().iter().filter(|slot| asked(slot.profile.revoke_on)).cloned();
        let slots: Vec<_> = asked.collect();
        for slot in &slots {
            // Whatever is being fetched is not to be served either.
            if let Some(session) = self.revoke(slot, Which::Whatever, Known::only(cause)).session {
                self.withdraw(slot, &session, LOGGED_OUT);
            }
        }
        self.withdraw_earlier(&slots).await;
        slots.iter().flat_map(|slot| self.ledger.pending_of(slot.profile.name.as_str())).collect()
    }

    /// Credentials are given again.
    pub async fn resume(self: &Arc<Self>, peer: &Peer, profile: &str) -> Result<Watched, Refusal> {
        let grant = self.grant(peer, profile)?;
        let slot = grant.slot();
        if slot.standing.resume().is_some() {
            tracing::info!(profile = %slot.profile.name, pid = ?peer.pid, "resumed");
            self.ledger.note(slot);
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
        // What ends meanwhile is told, too.
        let mut watching = self.watch(peer, profile)?;
        let slot = Arc::clone(watching.slot());
        tracing::info!(profile = %slot.profile.name, pid = ?peer.pid, "its credentials were refused somewhere");
        if slot.standing.hold().is_none() {
            let looked = tokio::time::timeout(WAIT, self.look_again(&slot.gate)).await;
            let why = match looked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_elapsed) => Some(format!("no answer within {} s", WAIT.as_secs())),
            };
            if let Some(refusal) = why.and_then(|why| self.stale(&slot, why)) {
                return Err(refusal);
            }
        }
        Ok(watching.look())
    }

    /// What an earlier daemon left behind.
    pub fn restore(self: &Arc<Self>) {
        for slot in self.cache.slots() {
            if let Some(ending) = self.ledger.hold_of(slot) {
                slot.standing.end(|_, _| true, Some(ending), |_, _| {});
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

fn id(session: &Session) -> String {
    session.granted.session_id.to_string()
}

/// Who asked for it, as far as the kernel tells.
pub(super) fn this(peer: &Peer) -> String {
    match peer.pid {
        Some(pid) => format!("you (process {pid})"),
        None => "you".into(),
    }
}
