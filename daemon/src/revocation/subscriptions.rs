//! Who is notified of a profile's changes. A subscriber reads the current state when it gets to it, so that a slow one
//! misses nothing and delays no other.

use std::collections::BTreeMap;
use std::sync::Arc;

use rolekeeper::protocol::ProfileUpdate;
use tokio::sync::{Notify, watch};

use crate::cache::CacheEntry;
use crate::model::{ProfileId, SessionEnded};
use crate::report;
use crate::sync::{Mutex, lock};

/// What has changed about a profile.
#[derive(Debug, Clone)]
pub(crate) enum SessionEvent {
    Installed,
    Ended(Arc<SessionEnded>),
    /// Its expired session was dropped.
    Expired,
    Resumed,
}

/// How the profile's last session ended since the subscription began, if a revocation ended it.
type LastEnded = Option<Arc<SessionEnded>>;

#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    by_profile: Mutex<BTreeMap<ProfileId, watch::Sender<LastEnded>>>,
    /// A session was installed or has ended.
    sessions_changed: Notify,
}

/// A subscription to one profile.
#[derive(Debug)]
pub(crate) struct Subscription {
    entry: Arc<CacheEntry>,
    changes: watch::Receiver<LastEnded>,
}

impl Subscriptions {
    pub(super) fn subscribe(&self, entry: &Arc<CacheEntry>) -> Subscription {
        let mut by_profile = lock(&self.by_profile);
        let sender = by_profile
            .entry(entry.id)
            .or_insert_with(|| watch::Sender::new(None));

        Subscription {
            entry: Arc::clone(entry),
            changes: sender.subscribe(),
        }
    }

    pub(crate) fn publish(&self, entry: &CacheEntry, event: SessionEvent) {
        if matches!(event, SessionEvent::Installed | SessionEvent::Ended(_)) {
            self.sessions_changed.notify_one();
        }

        let mut by_profile = lock(&self.by_profile);
        let Some(sender) = by_profile.get(&entry.id) else {
            return;
        };

        if sender.receiver_count() == 0 {
            by_profile.remove(&entry.id);
            return;
        }

        sender.send_modify(|last| {
            if let SessionEvent::Ended(ended) = event {
                *last = Some(ended);
            }
        });
    }

    pub(crate) fn mark_sessions_changed(&self) {
        self.sessions_changed.notify_one();
    }

    /// Waits until a session is installed or has ended. A change while no one waits is remembered.
    pub(crate) async fn sessions_changed(&self) {
        self.sessions_changed.notified().await;
    }

    pub(super) fn has(&self, entry: &CacheEntry) -> bool {
        lock(&self.by_profile)
            .get(&entry.id)
            .is_some_and(|sender| sender.receiver_count() > 0)
    }
}

impl Subscription {
    /// The current state. [`Self::changed`] waits for a later one.
    pub(crate) fn current(&mut self) -> ProfileUpdate {
        let last_ended = self.changes.borrow_and_update().clone();
        report::profile_update(&self.entry, last_ended.as_deref())
    }

    pub(crate) async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The daemon is stopping: there will be no further change.
            std::future::pending::<()>().await;
        }
    }
}
