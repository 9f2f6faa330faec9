//! What the user does about profiles: log out, resume, fetch anew, report.

use std::sync::Arc;

use jiff::Timestamp;
use rolekeeper::protocol::{EndCause, LogoutReport, ProfileLogout, ProfileUpdate};

use super::store::PendingRevocation;
use super::{Known, Which};
use crate::access::peer::Peer;
use crate::cache::CacheEntry;
use crate::config::RevokeOn;
use crate::credentials::{AccessError, Broker, WAIT};

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
    ) -> Result<LogoutReport, AccessError> {
        let entries = self.granted(peer, profile)?;
        let known = Known {
            by: Some(this(peer)),
            ..Known::only(EndCause::LoggedOut)
        };
        let ended = self.end_all(&entries, &known, revoke).await;
        self.revocations.flush().await;
        if revoke {
            self.await_withdrawals(&ended.concat()).await;
        }
        let report = |(entry, ids): (&Arc<CacheEntry>, Vec<String>)| {
            let profile = entry.profile.name.to_string();
            let withdrawn = |id| self.withdrawn(id, Some(profile.clone()), revoke);
            ProfileLogout {
                sessions: ids.into_iter().map(withdrawn).collect(),
                profile: profile.clone(),
            }
        };
        Ok(LogoutReport {
            profiles: entries.iter().zip(ended).map(report).collect(),
        })
    }

    /// An event of this machine's, for the profiles that asked for it: their sessions are over here when this begins to
    /// wait. Returns those that the upstream is to end.
    pub async fn revoke_on(
        self: &Arc<Self>,
        cause: EndCause,
        asked: impl Fn(RevokeOn) -> bool,
    ) -> Vec<String> {
        let asked = self
            .cache
            .entries()
            .iter()
            .filter(|entry| asked(entry.profile.revoke_on))
            .cloned();
        self.end_all(&asked.collect::<Vec<_>>(), &Known::only(cause), true)
            .await
            .concat()
    }

    /// Ends what there is of each profile, and whatever is being fetched for it, also at the upstream if that is wanted.
    /// Returns the sessions of each.
    async fn end_all(
        self: &Arc<Self>,
        entries: &[Arc<CacheEntry>],
        known: &Known,
        revoke: bool,
    ) -> Vec<Vec<String>> {
        let mut ids = Vec::new();
        for entry in entries {
            let ended = self.revoke(entry, Which::Whatever, known.clone());
            if revoke {
                self.withdraw_all(entry, &ended, LOGGED_OUT);
            }
            ids.push(Vec::from_iter(
                ended
                    .session
                    .map(|session| session.granted.session_id.to_string()),
            ));
        }
        if revoke {
            self.withdraw_what_others_left(entries).await;
            for (ids, entry) in ids.iter_mut().zip(entries) {
                ids.extend(self.revocations.pending_of(entry.profile.name.as_str()));
                ids.sort_unstable();
                ids.dedup();
            }
        }
        ids
    }

    /// Sessions that a daemon before this one has given out count on at the upstream. Their ends are not known: none lives
    /// longer than one that would be granted now.
    async fn withdraw_what_others_left(&self, entries: &[Arc<CacheEntry>]) {
        let handed = self.journal.sessions().await;
        let now = self.clock.now();
        for entry in entries {
            let upstream_time = entry.upstream.upstream_time(&now);
            let of_profile = handed
                .iter()
                .filter(|(_, handed)| handed.profile == entry.profile.name.as_str());
            for (id, handed) in of_profile {
                // Whoever has come back meanwhile has one that is meant to go on.
                let is_current = entry
                    .session()
                    .is_some_and(|session| *session.granted.session_id == **id);
                let end = handed
                    .last_at
                    .saturating_add(entry.profile.role.duration)
                    .unwrap_or(Timestamp::MAX);
                if end > upstream_time && !is_current {
                    self.revocations
                        .add(id, PendingRevocation::of(entry, LOGGED_OUT, end));
                }
            }
        }
        self.withdraw_soon();
    }

    /// Credentials are given again.
    pub async fn resume(
        self: &Arc<Self>,
        peer: &Peer,
        profile: &str,
    ) -> Result<ProfileUpdate, AccessError> {
        let grant = self.own(peer, profile)?;
        let entry = grant.entry();
        if entry.state.resume().is_some() {
            tracing::info!(profile = %entry.profile.name, pid = ?peer.pid, "resumed");
            self.revocations.note(entry);
            self.revocations.flush().await;
            self.subscriptions.tell(entry, None);
        }
        Ok(crate::revocation::subscriptions::watched(entry, None))
    }

    /// A new session now, in the place of the one that there is.
    pub async fn refresh_now(
        self: &Arc<Self>,
        peer: &Peer,
        profile: &str,
    ) -> Result<ProfileUpdate, AccessError> {
        // Each is a call at the upstream, and replaces what others use.
        let grant = self.own(peer, profile)?;
        let entry = grant.entry();
        if let Some(held) = entry.state.view().hold {
            return Err(AccessError::Held {
                profile: entry.profile.name.to_string(),
                held,
            });
        }
        entry.used(&self.clock.now(), crate::refresh::policy::GRACE);
        self.await_fetch(entry, true).await?;
        Ok(crate::revocation::subscriptions::watched(entry, None))
    }

    /// A service has refused credentials of this profile: the upstream is looked at, and what is found is in force.
    pub async fn report_rejected(
        self: &Arc<Self>,
        peer: &Peer,
        profile: &str,
    ) -> Result<ProfileUpdate, AccessError> {
        // What ends meanwhile is told, too.
        let mut watching = self.watch(peer, profile)?;
        let entry = Arc::clone(watching.entry());
        tracing::info!(profile = %entry.profile.name, pid = ?peer.pid, "its credentials were refused somewhere");
        if entry.state.hold().is_none() {
            let looked = tokio::time::timeout(WAIT, self.look_again(&entry.upstream)).await;
            let why = match looked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_elapsed) => Some(format!("no answer within {} s", WAIT.as_secs())),
            };
            if let Some(refusal) = why.and_then(|why| self.stale(&entry, why)) {
                return Err(refusal);
            }
        }
        Ok(watching.look())
    }

    /// What an earlier daemon left behind.
    pub fn restore(self: &Arc<Self>) {
        for entry in self.cache.entries() {
            if let Some(ending) = self.revocations.hold_of(entry) {
                entry.state.end(|_, _| true, Some(ending), |_, _| {});
            }
        }
        self.withdraw_soon();
    }

    fn granted(
        &self,
        peer: &Peer,
        profile: Option<&str>,
    ) -> Result<Vec<Arc<CacheEntry>>, AccessError> {
        match profile {
            Some(profile) => Ok(vec![Arc::clone(self.own(peer, profile)?.entry())]),
            None => self
                .cache
                .names()
                .map(|name| Ok(Arc::clone(self.own(peer, name)?.entry())))
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
