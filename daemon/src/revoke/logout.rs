//! What the user does about profiles: log out, resume, fetch anew, report.

use std::sync::Arc;

use jiff::Timestamp;
use rolekeeper::protocol::{Cause, LoggedOut, LoggedOutProfile, Watched};

use super::ledger::Withdrawal;
use super::{Known, Which};
use crate::broker::{Broker, Refusal, WAIT};
use crate::cache::Slot;
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
        let known = Known {
            by: Some(this(peer)),
            ..Known::only(Cause::LoggedOut)
        };
        let ended = self.end_all(&slots, &known, revoke).await;
        self.ledger.flush().await;
        if revoke {
            self.await_withdrawals(&ended.concat()).await;
        }
        let report = |(slot, ids): (&Arc<Slot>, Vec<String>)| {
            let profile = slot.profile.name.to_string();
            let withdrawn = |id| self.withdrawn(id, Some(profile.clone()), revoke);
            LoggedOutProfile {
                withdrawn: ids.into_iter().map(withdrawn).collect(),
                profile: profile.clone(),
            }
        };
        Ok(LoggedOut {
            profiles: slots.iter().zip(ended).map(report).collect(),
        })
    }

    /// An event of this machine's, for the profiles that asked for it: their sessions are over here when this begins to
    /// wait. Returns those that the upstream is to end.
    pub async fn revoke_on(
        self: &Arc<Self>,
        cause: Cause,
        asked: impl Fn(RevokeOn) -> bool,
    ) -> Vec<String> {
        let asked = self
            .cache
            .slots()
            .iter()
            .filter(|slot| asked(slot.profile.revoke_on))
            .cloned();
        self.end_all(&asked.collect::<Vec<_>>(), &Known::only(cause), true)
            .await
            .concat()
    }

    /// Ends what there is of each profile, and whatever is being fetched for it, also at the upstream if that is wanted.
    /// Returns the sessions of each.
    async fn end_all(
        self: &Arc<Self>,
        slots: &[Arc<Slot>],
        known: &Known,
        revoke: bool,
    ) -> Vec<Vec<String>> {
        let mut ids = Vec::new();
        for slot in slots {
            let ended = self.revoke(slot, Which::Whatever, known.clone());
            if revoke {
                self.withdraw_all(slot, &ended, LOGGED_OUT);
            }
            ids.push(Vec::from_iter(
                ended
                    .session
                    .map(|session| session.granted.session_id.to_string()),
            ));
        }
        if revoke {
            self.withdraw_what_others_left(slots).await;
            for (ids, slot) in ids.iter_mut().zip(slots) {
                ids.extend(self.ledger.pending_of(slot.profile.name.as_str()));
                ids.sort_unstable();
                ids.dedup();
            }
        }
        ids
    }

    /// Sessions that a daemon before this one has given out count on at the upstream. Their ends are not known: none lives
    /// longer than one that would be granted now.
    async fn withdraw_what_others_left(&self, slots: &[Arc<Slot>]) {
        let handed = self.journal.sessions().await;
        let now = self.clock.now();
        for slot in slots {
            let upstream_time = slot.gate.upstream_time(&now);
            let of_profile = handed
                .iter()
                .filter(|(_, handed)| handed.profile == slot.profile.name.as_str());
            for (id, handed) in of_profile {
                // Whoever has come back meanwhile has one that is meant to go on.
                let is_current = slot
                    .session()
                    .is_some_and(|session| *session.granted.session_id == **id);
                let end = handed
                    .last_at
                    .saturating_add(slot.profile.role.duration)
                    .unwrap_or(Timestamp::MAX);
                if end > upstream_time && !is_current {
                    self.ledger.add(id, Withdrawal::of(slot, LOGGED_OUT, end));
                }
            }
        }
        self.withdraw_soon();
    }

    /// Credentials are given again.
    pub async fn resume(self: &Arc<Self>, peer: &Peer, profile: &str) -> Result<Watched, Refusal> {
        let grant = self.own(peer, profile)?;
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
    pub async fn refresh_now(
        self: &Arc<Self>,
        peer: &Peer,
        profile: &str,
    ) -> Result<Watched, Refusal> {
        // Each is a call at the upstream, and replaces what others use.
        let grant = self.own(peer, profile)?;
        let slot = grant.slot();
        if let Some(held) = slot.standing.view().hold {
            return Err(Refusal::Held {
                profile: slot.profile.name.to_string(),
                held,
            });
        }
        slot.used(&self.clock.now(), crate::refresh::GRACE);
        self.await_fetch(slot, true).await?;
        Ok(crate::watch::watched(slot, None))
    }

    /// A service has refused credentials of this profile: the upstream is looked at, and what is found is in force.
    pub async fn report_rejected(
        self: &Arc<Self>,
        peer: &Peer,
        profile: &str,
    ) -> Result<Watched, Refusal> {
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
            Some(profile) => Ok(vec![Arc::clone(self.own(peer, profile)?.slot())]),
            None => self
                .cache
                .names()
                .map(|name| Ok(Arc::clone(self.own(peer, name)?.slot())))
                .collect(),
        }
    }
}

/// Who asked for it, as far as the kernel tells.
pub(super) fn this(peer: &Peer) -> String {
    match peer.pid {
        Some(pid) => format!("you (process {pid})"),
        None => "you".into(),
    }
}
