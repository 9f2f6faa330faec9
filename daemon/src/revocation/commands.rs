//! What the user does about sessions: log out, resume, watch, report rejected credentials, revoke one by its id.

use std::sync::Arc;

use jiff::Timestamp;
use rolekeeper::protocol::{
    LogoutReport, ProfileLogout, ProfileUpdate, SessionRevocation, UpstreamRevocation,
};

use super::RevocationService;
use super::outbox::PendingRevocation;
use super::subscriptions::{SessionEvent, Subscription};
use crate::access::peer::Peer;
use crate::access::{OwnerGrant, ViewGrant};
use crate::cache::CacheEntry;
use crate::cache::session_state::SessionSelector;
use crate::config::RevokeOn;
use crate::error::RequestError;
use crate::model::{EndCause, SessionEnded};
use crate::report;

/// The reason that the upstream records.
const LOGGED_OUT: &str = "logged out by rolekeeper";

impl RevocationService {
    /// Ends the sessions of the profiles and holds them. With `revoke`, the upstream revokes them, too, and with them the
    /// superseded ones that have not expired.
    pub async fn logout(
        self: &Arc<Self>,
        peer: &Peer,
        grants: &[OwnerGrant],
        revoke: bool,
    ) -> Result<LogoutReport, RequestError> {
        let entries: Vec<_> = grants
            .iter()
            .map(|grant| Arc::clone(grant.entry()))
            .collect();
        let ended = SessionEnded {
            by: Some(requested_by(peer)),
            ..SessionEnded::new(EndCause::LoggedOut, self.clock.now().wall)
        };

        let session_ids = self.end_all(&entries, &ended, revoke);
        let stored = self.store.flush().await;
        if revoke {
            self.outbox.wait_until_tried(&session_ids.concat()).await;
        }

        stored.map_err(RequestError::NotStored)?;

        let profiles = entries.iter().zip(session_ids);
        Ok(LogoutReport {
            profiles: profiles
                .map(|(entry, ids)| self.logout_of(entry, ids, revoke))
                .collect(),
        })
    }

    fn logout_of(&self, entry: &CacheEntry, ids: Vec<String>, revoke: bool) -> ProfileLogout {
        let profile = entry.profile.name.to_string();
        let can_revoke = entry.upstream.client.session_registry().is_some();
        let result = |id| match can_revoke {
            true => self.outbox.result(id, Some(profile.clone()), revoke),
            false => SessionRevocation {
                session_id: id,
                profile: Some(profile.clone()),
                at_upstream: UpstreamRevocation::NotPossible,
                failure: None,
            },
        };
        let sessions = ids.into_iter().map(result).collect();

        ProfileLogout { profile, sessions }
    }

    /// Ends the sessions of the profiles that are configured for an event of this machine. They have ended here before
    /// this first waits. Returns the ids of the sessions that the upstream is to revoke.
    pub(crate) async fn revoke_on(
        self: &Arc<Self>,
        cause: EndCause,
        is_configured: impl Fn(RevokeOn) -> bool,
    ) -> Vec<String> {
        let entries: Vec<_> = self
            .cache
            .entries()
            .iter()
            .filter(|entry| is_configured(entry.profile.revoke_on))
            .cloned()
            .collect();
        let ended = SessionEnded::new(cause, self.clock.now().wall);

        self.end_all(&entries, &ended, true).concat()
    }

    /// Returns the ids of each profile's sessions.
    fn end_all(
        &self,
        entries: &[Arc<CacheEntry>],
        ended: &SessionEnded,
        revoke: bool,
    ) -> Vec<Vec<String>> {
        let mut session_ids: Vec<Vec<String>> = Vec::new();

        for entry in entries {
            let outcome = self.apply(entry, SessionSelector::Any, ended.clone());
            let mut ids = Vec::new();

            if let Some(outcome) = outcome {
                if outcome.current.is_some() || ended.cause == EndCause::LoggedOut {
                    self.record(entry, &outcome.ended);
                }
                if revoke {
                    self.revoke_at_upstream(entry, &outcome, LOGGED_OUT);
                }
                ids.extend(outcome.current.map(|session| session.id().to_owned()));
            }

            if revoke {
                let profile = entry.profile.name.as_str();
                // Also those of earlier logouts and of earlier daemons.
                self.outbox.add_issued_of(profile, LOGGED_OUT);
                ids.extend(self.store.pending_of(profile));
                ids.sort_unstable();
                ids.dedup();
            }

            session_ids.push(ids);
        }

        session_ids
    }

    /// Serves a held profile again.
    pub async fn resume(
        &self,
        peer: &Peer,
        grant: &OwnerGrant,
    ) -> Result<ProfileUpdate, RequestError> {
        let entry = grant.entry();

        if entry.state.resume().is_some() {
            tracing::info!(profile = %entry.profile.name, pid = ?peer.pid, "resumed");
            self.store.update_hold(entry);
            self.subscriptions.publish(entry, SessionEvent::Resumed);
        }

        // Also if it was resumed before: that may not have been stored.
        self.store.flush().await.map_err(RequestError::NotStored)?;

        Ok(report::profile_update(entry, None))
    }

    pub(crate) fn watch(&self, grant: &ViewGrant) -> Subscription {
        let subscription = self.subscriptions.subscribe(grant.entry());
        self.schedule_poll(grant.entry());

        subscription
    }

    /// A service has rejected credentials of the profile: polls the upstream and reports the state afterwards.
    pub(crate) async fn report_rejected(
        self: &Arc<Self>,
        peer: &Peer,
        grant: &ViewGrant,
    ) -> Result<ProfileUpdate, RequestError> {
        // Subscribed first, so that the report contains what ends meanwhile.
        let mut subscription = self.watch(grant);
        let entry = grant.entry();
        tracing::info!(profile = %entry.profile.name, pid = ?peer.pid, "a service rejected its credentials");

        if entry.state.hold().is_none() {
            self.poll_after_now(entry).await?;
        }

        Ok(subscription.current())
    }

    /// Ends a session of this daemon here, then waits until the upstream has revoked it or an attempt has failed.
    pub(crate) async fn revoke_session(
        self: &Arc<Self>,
        peer: &Peer,
        entry: &Arc<CacheEntry>,
        session_id: &str,
        reason: Option<&str>,
    ) -> Result<SessionRevocation, RequestError> {
        let now = self.clock.now();
        // A superseded session expires no later than one that would be issued now.
        let expires_at = entry
            .upstream
            .server_time(&now)
            .saturating_add(entry.profile.role.duration)
            .unwrap_or(Timestamp::MAX);
        let pending =
            PendingRevocation::new(entry, reason.unwrap_or("revoked by rolekeeper"), expires_at);
        self.outbox.add(session_id, pending);

        let ended = SessionEnded {
            by: Some(requested_by(peer)),
            reason: reason.map(crate::text::one_line),
            ..SessionEnded::new(EndCause::Revoked, now.wall)
        };

        let selector = [session_id.into()];
        if let Some(outcome) = self.apply(entry, SessionSelector::Ids(&selector), ended) {
            self.record(entry, &outcome.ended);
        }

        let stored = self.store.flush().await;
        self.outbox.wait_until_tried(&[session_id.to_owned()]).await;
        stored.map_err(RequestError::NotStored)?;

        let profile = entry.profile.name.to_string();
        Ok(self.outbox.result(session_id.into(), Some(profile), true))
    }
}

/// The user's process, as far as the kernel identifies it.
fn requested_by(peer: &Peer) -> String {
    match peer.pid {
        Some(pid) => format!("you (process {pid})"),
        None => "you".into(),
    }
}
