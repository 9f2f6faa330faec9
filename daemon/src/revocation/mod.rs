//! Everything that ends a session before its expiry, in one direction: poll, [`apply`](RevocationService::apply),
//! enrich.
//!
//! `apply` puts a revocation in force before any I/O: it increments the generation, drops the session, and notifies
//! subscribers. `enrich` finds out who did it and why, and then records it once.

mod apply;
mod commands;
mod enrich;
pub(crate) mod notifications;
pub(crate) mod outbox;
pub(crate) mod poller;
mod reconcile;
pub(crate) mod store;
pub(crate) mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::cache::{Cache, CacheEntry};
use crate::clock::Clock;
use crate::clock::timer_queue::TimerQueue;
use crate::journal::Journal;
use crate::upstream::Upstreams;
use crate::upstream::handle::UpstreamHandle;
use notifications::Notifications;
use outbox::RevocationOutbox;
use poller::PollState;
use store::RevocationStore;
use subscriptions::{SessionEvent, Subscriptions};

/// Notices revocations, puts them in force, and requests them at the upstream.
#[derive(Debug)]
pub struct RevocationService {
    cache: Arc<Cache>,
    upstreams: Arc<Upstreams>,
    clock: Clock,
    timers: Arc<TimerQueue>,
    journal: Arc<Journal>,
    pub(crate) store: Arc<RevocationStore>,
    pub(crate) outbox: Arc<RevocationOutbox>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) notifications: Notifications,
    /// By [`UpstreamId`](crate::model::UpstreamId).
    polls: Box<[Arc<PollState>]>,
    /// Where upstreams are called, so that reads do not queue behind that.
    runtime: Handle,
    /// The enrichments under way, which write to the journal.
    enrichments: TaskTracker,
}

impl RevocationService {
    pub(crate) fn new(
        cache: Arc<Cache>,
        upstreams: Arc<Upstreams>,
        clock: Clock,
        timers: Arc<TimerQueue>,
        journal: Arc<Journal>,
        store: RevocationStore,
        runtime: Handle,
    ) -> Arc<Self> {
        let store = Arc::new(store);
        let polls = upstreams
            .iter()
            .map(|upstream| Arc::new(PollState::new(upstream.id)));
        let outbox = RevocationOutbox::new(
            Arc::clone(&store),
            Arc::clone(&cache),
            Arc::clone(&upstreams),
            clock.clone(),
            Arc::clone(&timers),
            runtime.clone(),
        );

        Arc::new(Self {
            polls: polls.collect(),
            cache,
            upstreams,
            clock,
            timers,
            journal,
            store,
            outbox,
            subscriptions: Subscriptions::default(),
            notifications: Notifications::default(),
            runtime,
            enrichments: TaskTracker::new(),
        })
    }

    /// Restores the holds of an earlier daemon, and continues with the revocations that it had still to request.
    pub(crate) fn restore(&self) {
        for entry in self.cache.entries() {
            if let Some(ended) = self.store.hold_of(entry) {
                self.restore_hold(entry, ended);
            }
        }

        self.outbox.retry_soon();
    }

    /// Waits until the revocations that are in force are recorded, but not longer than `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        self.enrichments.close();
        if tokio::time::timeout(limit, self.enrichments.wait())
            .await
            .is_err()
        {
            tracing::warn!("stopped before every ended session was recorded");
        }

        self.enrichments.reopen();

        // The writer has logged a failure.
        let _ = self.store.flush().await;
    }

    /// A new session is served.
    pub(crate) fn session_installed(&self, entry: &CacheEntry) {
        self.subscriptions.publish(entry, SessionEvent::Installed);

        if self.subscriptions.has(entry) {
            self.schedule_poll(entry);
        }
    }

    /// `None` if the upstream cannot be polled.
    fn poll_state(&self, upstream: &UpstreamHandle) -> Option<&PollState> {
        upstream.client.session_registry()?;
        self.polls.get(upstream.id.index()).map(AsRef::as_ref)
    }

    /// A consumer may have a lease, or a subscriber waits for changes.
    fn is_monitored(&self, entry: &CacheEntry) -> bool {
        let is_in_use = entry.is_leased(&self.clock.now()) || self.subscriptions.has(entry);
        entry.has_sessions() && is_in_use
    }
}

#[cfg(test)]
mod tests;
