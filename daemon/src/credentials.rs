//! The request path: look up, fetch if need be, lease. The caller is authorized before.
//!
//! No lock is held across an await here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::access::LeaseGrant;
use crate::access::peer::Peer;
use crate::cache::freshness::Freshness;
use crate::cache::session::Session;
use crate::cache::{CacheEntry, USE_GRACE};
use crate::clock::Clock;
use crate::error::RequestError;
use crate::journal::{Journal, UsedSession};
use crate::refresh::{RefreshService, TokenWaitGuard};
use crate::revocation::RevocationService;
use crate::revocation::poller::is_stale;
use crate::upstream::handle::UpstreamHandle;

#[derive(Debug)]
pub(crate) struct CredentialService {
    clock: Clock,
    journal: Arc<Journal>,
    refresh: Arc<RefreshService>,
    revocation: Arc<RevocationService>,
}

/// What a consumer gets: a session's credentials with an advertised expiry that is never later than the true one.
#[derive(Debug, Clone)]
pub struct Lease {
    pub session: Arc<Session>,
    /// The profile that it is a lease of.
    pub(crate) entry: Arc<CacheEntry>,
    /// By this machine's wall clock, which the consumer compares it with.
    pub expires_at: Timestamp,
    /// How long ago the session was last known to be valid, if that is longer than the profile allows.
    pub(crate) stale_view: Option<Duration>,
}

impl CredentialService {
    pub(crate) fn new(
        clock: Clock,
        journal: Arc<Journal>,
        refresh: Arc<RefreshService>,
        revocation: Arc<RevocationService>,
    ) -> Arc<Self> {
        Arc::new(Self {
            clock,
            journal,
            refresh,
            revocation,
        })
    }

    /// See [`RefreshService::start_token_wait`].
    pub(crate) async fn start_token_wait(
        &self,
        peer: &Peer,
        upstream: &UpstreamHandle,
    ) -> Result<Option<TokenWaitGuard<'_>>, RequestError> {
        self.refresh.start_token_wait(peer, upstream).await
    }

    pub(crate) async fn lease(
        &self,
        peer: &Peer,
        grant: &LeaseGrant,
    ) -> Result<Lease, RequestError> {
        let session = self.session(peer, grant).await?;

        Ok(self.issue_lease(peer, grant, session))
    }

    /// A session that this process uses for the peer. The peer does not get its credentials.
    pub(crate) async fn session(
        &self,
        peer: &Peer,
        grant: &LeaseGrant,
    ) -> Result<Arc<Session>, RequestError> {
        let entry = grant.entry();
        entry.mark_used(&self.clock.now(), USE_GRACE);

        let session = self.valid_session(peer, entry).await;
        if let Err(error) = &session {
            self.journal.record_refusal(
                peer.uid,
                || peer.caller(),
                entry.profile.name.as_str(),
                &error.failure(),
                &self.clock.now(),
            );
        }

        session
    }

    async fn valid_session(
        &self,
        peer: &Peer,
        entry: &Arc<CacheEntry>,
    ) -> Result<Arc<Session>, RequestError> {
        let mut was_polled = false;

        loop {
            if let Some(base) = &entry.base {
                self.check_hold(base)?;
            }

            let session = match entry.lookup(self.clock.now().boot) {
                Freshness::Fresh(session) => session,
                Freshness::Aging(session) => {
                    self.refresh.refresh(entry);
                    session
                }
                Freshness::Expired => {
                    self.check_hold(entry)?;
                    let refresh = &self.refresh;
                    let _waiting = refresh.start_token_wait(peer, &entry.upstream).await?;
                    // Looked up once more afterwards, because the session may have been revoked while it was fetched.
                    self.refresh.await_fetch(entry).await?;
                    continue;
                }
            };

            if was_polled || self.revocation.is_view_fresh_enough(entry, &session) {
                return Ok(session);
            }

            let refresh = &self.refresh;
            let _waiting = refresh.start_token_wait(peer, &entry.upstream).await?;
            self.revocation.await_poll(entry).await?;
            was_polled = true;
        }
    }

    fn check_hold(&self, entry: &CacheEntry) -> Result<(), RequestError> {
        match entry.hold() {
            Some((profile, ended)) => Err(RequestError::Held {
                profile: profile.to_string(),
                ended,
            }),
            None => Ok(()),
        }
    }

    /// Records who got the lease, and that the profile is in use for as long as it lasts.
    fn issue_lease(&self, peer: &Peer, grant: &LeaseGrant, session: Arc<Session>) -> Lease {
        let entry = grant.entry();
        let now = self.clock.now();
        if peer.is_first_time(session.id()) {
            let used = UsedSession::new(entry, &session, now.boot);
            self.journal.record_issuance(peer.caller(), used);
        }

        let left = session.left(now.boot, entry.upstream.client.server_clock());
        let advertised = entry
            .profile
            .lease
            .limit()
            .map_or(left, |limit| limit.min(left));

        entry.mark_used(&now, advertised.saturating_add(USE_GRACE));
        self.revocation.schedule_poll(entry);

        let view_age = self.revocation.view_age(entry, &session, now.boot);
        Lease {
            expires_at: now.wall.saturating_add(advertised).unwrap_or(now.wall),
            stale_view: view_age.filter(|age| is_stale(entry, *age)),
            session,
            entry: Arc::clone(entry),
        }
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
