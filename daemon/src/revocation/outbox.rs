//! Revocations that the upstream has still to confirm. Each is retried until the upstream confirms it or the session has
//! expired, also across restarts.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rolekeeper::protocol::{SessionRevocation, UpstreamRevocation};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::store::RevocationStore;
use crate::cache::session::Session;
use crate::cache::{Cache, CacheEntry};
use crate::clock::timer_queue::{TimerKey, TimerQueue, TimerSlot};
use crate::clock::{BootTime, Clock};
use crate::upstream::backoff::{Backoff, BackoffState};
use crate::upstream::handle::{Priority, UpstreamHandle};
use crate::upstream::{IssuedSession, RefusalKind, UpstreamError, Upstreams};

/// How long a caller waits for the confirmation. It is less than a machine delays its sleep.
const WAIT: Duration = Duration::from_secs(4);
/// How long a new session waits until its id is stored.
const STORE_WAIT: Duration = Duration::from_secs(1);
/// How far this machine's clock may be ahead of an upstream's that is no longer configured.
const CLOCK_SLACK: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug)]
pub(crate) struct RevocationOutbox {
    store: Arc<RevocationStore>,
    cache: Arc<Cache>,
    upstreams: Arc<Upstreams>,
    clock: Clock,
    timers: Arc<TimerQueue>,
    pub(crate) timer: TimerSlot,
    /// An attempt has ended.
    attempted: Notify,
    runtime: Handle,
}

/// A session that an upstream has still to revoke.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PendingRevocation {
    /// The upstream and its principal, whose token is used if it is still configured.
    identity: String,
    /// The upstream. Another principal there is used otherwise.
    location: String,
    #[serde(default)]
    pub(super) profile: Option<String>,
    /// None for a session that is not to be revoked yet.
    #[serde(default)]
    pub(super) reason: Option<String>,
    /// No later than this it expires by itself.
    pub(super) expires_at: Timestamp,
    #[serde(skip)]
    backoff: Backoff,
    #[serde(skip)]
    pub(super) is_under_way: bool,
}

impl PendingRevocation {
    pub(crate) fn new(entry: &CacheEntry, reason: &str, expires_at: Timestamp) -> Self {
        Self {
            reason: Some(reason.into()),
            ..Self::not_yet(entry, expires_at)
        }
    }

    /// A session that a logout may revoke later.
    fn not_yet(entry: &CacheEntry, expires_at: Timestamp) -> Self {
        Self {
            identity: entry.upstream.client.identity(),
            location: entry.upstream.client.location(),
            profile: Some(entry.profile.name.to_string()),
            reason: None,
            expires_at,
            backoff: Backoff::default(),
            is_under_way: false,
        }
    }

    pub(super) fn backoff(&self) -> Option<BackoffState> {
        self.backoff.state().cloned()
    }

    pub(super) fn was_tried(&self) -> bool {
        self.backoff.state().is_some()
    }

    pub(super) fn is_due(&self, now: BootTime) -> bool {
        !self.is_under_way && self.backoff.permit(now).is_ok()
    }

    pub(super) fn next_attempt(&self) -> BootTime {
        self.backoff
            .state()
            .map_or(BootTime::ZERO, |state| state.next_try)
    }

    pub(super) fn record_failure(&mut self, error: &UpstreamError, now: BootTime) {
        // Whatever it is, it is retried with the back-off of an outage, because no person waits for it.
        let error = UpstreamError::Unavailable {
            what: error.to_string(),
            retry_after: error.retry_after(),
            hint: None,
        };

        self.backoff.record_failure(error, now, fastrand::f64());
        self.is_under_way = false;
    }
}

impl RevocationOutbox {
    pub(super) fn new(
        store: Arc<RevocationStore>,
        cache: Arc<Cache>,
        upstreams: Arc<Upstreams>,
        clock: Clock,
        timers: Arc<TimerQueue>,
        runtime: Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            cache,
            upstreams,
            clock,
            timers,
            timer: TimerSlot::new(TimerKey::RevocationOutbox),
            attempted: Notify::new(),
            runtime,
        })
    }

    pub(super) fn add(&self, session_id: &str, pending: PendingRevocation) {
        let upstream = self.upstream_for(&pending);
        if upstream.is_some_and(|upstream| upstream.client.session_registry().is_none()) {
            return;
        }

        self.store.add(session_id, pending);
        self.retry_soon();
    }

    /// Remembers an issued session until it expires, so that a later logout can revoke it. Nothing is written if it is
    /// known already.
    pub(crate) fn remember(&self, entry: &CacheEntry, issued: &IssuedSession) {
        let now = self.clock.now();
        let session = PendingRevocation::not_yet(entry, issued.expires_at);
        let has_expired = |session: &PendingRevocation| match self.upstream_for(session) {
            Some(upstream) => {
                let time = upstream.client.server_clock().latest(now.boot);
                time.is_some_and(|time| session.expires_at <= time)
            }
            // Its clock is not known any more.
            None => {
                let latest = session.expires_at.saturating_add(CLOCK_SLACK);
                latest.is_ok_and(|latest| latest <= now.wall)
            }
        };

        self.store
            .add_issued(&issued.session_id, session, has_expired);
    }

    /// The same, and waits until that is stored: from then on a crash does not lose it. A slow disk delays the session by a
    /// second at most.
    pub(crate) async fn store_issued(&self, entry: &CacheEntry, issued: &IssuedSession) {
        self.remember(entry, issued);
        // The writer logs a failure.
        let _ = tokio::time::timeout(STORE_WAIT, self.store.flush()).await;
    }

    /// Requests the revocation of every session of a profile that has not expired, whichever daemon fetched it.
    pub(super) fn add_issued_of(&self, profile: &str, reason: &str) {
        for (id, session) in self.store.issued_of(profile) {
            let reason = Some(reason.into());
            self.add(&id, PendingRevocation { reason, ..session });
        }
    }

    /// A session that is not used: the upstream is to revoke it.
    pub(crate) fn add_session(&self, entry: &CacheEntry, session: &Session, reason: &str) {
        let pending = PendingRevocation::new(entry, reason, session.issued.expires_at);
        self.add(session.id(), pending);
    }

    pub(crate) fn retry_soon(&self) {
        self.timers.set_by(&self.timer, self.clock.now().boot);
    }

    /// Starts an attempt for every revocation that is due.
    pub(crate) fn retry_due(self: &Arc<Self>) {
        let now = self.clock.now();
        let due = self.store.take_due(&now, |pending| {
            let upstream = self.upstream_for(pending)?;
            upstream.client.server_clock().latest(now.boot)
        });

        for (session_id, pending) in due {
            match self.upstream_for(&pending) {
                Some(upstream) => {
                    let outbox = Arc::clone(self);
                    let upstream = Arc::clone(upstream);
                    self.runtime.spawn(async move {
                        outbox.attempt(&upstream, &session_id, &pending).await;
                    });
                }
                None => self.fail_unconfigured(&session_id, now.boot),
            }
        }

        self.schedule_next();
    }

    /// The upstream that can revoke it: as the same principal, or else as another one at the same location.
    fn upstream_for(&self, pending: &PendingRevocation) -> Option<&Arc<UpstreamHandle>> {
        let is_same =
            |upstream: &&Arc<UpstreamHandle>| upstream.client.identity() == pending.identity;
        let is_there =
            |upstream: &&Arc<UpstreamHandle>| upstream.client.location() == pending.location;

        self.upstreams
            .iter()
            .find(is_same)
            .or_else(|| self.upstreams.iter().find(is_there))
    }

    fn fail_unconfigured(&self, session_id: &str, now: BootTime) {
        tracing::warn!(
            session = session_id,
            "cannot revoke: its upstream is no longer configured"
        );

        let error = UpstreamError::Unavailable {
            what: "its upstream is no longer configured".into(),
            retry_after: None,
            hint: None,
        };

        self.store.record_failure(session_id, &error, now);
    }

    async fn attempt(
        &self,
        upstream: &UpstreamHandle,
        session_id: &str,
        pending: &PendingRevocation,
    ) {
        let revoked = self.revoke(upstream, session_id, pending).await;

        match revoked {
            Ok(()) => {
                tracing::info!(
                    session = session_id,
                    profile = pending.profile,
                    "revoked at the upstream"
                );
                let time = upstream.server_time(&self.clock.now());
                self.store.confirm(session_id, time);
            }
            Err(error) => {
                tracing::warn!(
                    session = session_id, profile = pending.profile, %error,
                    "cannot revoke at the upstream yet"
                );
                self.store
                    .record_failure(session_id, &error, self.clock.now().boot);
            }
        }

        self.schedule_next();
        self.attempted.notify_waiters();
    }

    async fn revoke(
        &self,
        upstream: &UpstreamHandle,
        session_id: &str,
        pending: &PendingRevocation,
    ) -> Result<(), UpstreamError> {
        let permit = upstream
            .acquire(Priority::Background, &self.clock)
            .await
            .map_err(|outage| outage.error)?;

        let reason = pending.reason.as_deref();
        let revoked = match upstream.client.session_registry() {
            Some(registry) => registry.revoke(session_id, reason).await,
            None => Err(UpstreamError::Refused {
                what: format!("{} cannot end one session", upstream.client.kind()),
                kind: RefusalKind::Other,
            }),
        };

        // The circuit breaker counts failures by profile.
        if let Some(entry) = pending
            .profile
            .as_deref()
            .and_then(|profile| self.cache.find(profile))
        {
            let error = revoked.as_ref().err();
            permit.record(entry.id, error, self.clock.now().boot, fastrand::f64());
        }

        revoked
    }

    fn schedule_next(&self) {
        if let Some(next) = self.store.next_attempt() {
            self.timers
                .set_by(&self.timer, next.max(self.clock.now().boot));
        }
    }

    /// Waits until each of these is confirmed or was tried, but no longer than 4 s.
    pub(crate) async fn wait_until_tried(&self, session_ids: &[String]) {
        let tried = async {
            loop {
                let attempted = self.attempted.notified();
                let mut attempted = std::pin::pin!(attempted);
                attempted.as_mut().enable();

                if !session_ids.iter().any(|id| self.is_untried(id)) {
                    return;
                }

                attempted.await;
            }
        };

        let _ = tokio::time::timeout(WAIT, tried).await;
    }

    fn is_untried(&self, session_id: &str) -> bool {
        matches!(self.store.pending(session_id), Some(None))
    }

    /// The result for a session that was ended here. `was_requested`: the upstream was to revoke it, too.
    pub(super) fn result(
        &self,
        session_id: String,
        profile: Option<String>,
        was_requested: bool,
    ) -> SessionRevocation {
        let pending = self.store.pending(&session_id);

        let at_upstream = match &pending {
            Some(_) => UpstreamRevocation::Pending,
            None if was_requested => UpstreamRevocation::Confirmed,
            None => UpstreamRevocation::NotRequested,
        };

        SessionRevocation {
            session_id,
            profile,
            at_upstream,
            failure: pending.flatten().map(|backoff| backoff.error.to_string()),
        }
    }
}
