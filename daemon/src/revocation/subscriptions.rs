//! Who is told of a profile's changes. What is told is how things are when a subscriber comes round to reading it, so that
//! one who is slow is behind by nothing, and costs nobody anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::fmt::temporal::DateTimePrinter;
use rolekeeper::protocol::{CurrentSession, ProfileUpdate, SessionEnded};
use tokio::sync::watch;

use crate::access::peer::Peer;
use crate::cache::CacheEntry;
use crate::credentials::{AccessError, Broker};
use crate::model::ProfileId;
use crate::sync::{Mutex, lock};

/// How the last session ended that a revocation ended, since somebody has been watching.
type Last = Option<Arc<SessionEnded>>;

#[derive(Debug, Default)]
pub struct Subscriptions(Mutex<BTreeMap<ProfileId, watch::Sender<Last>>>);

/// A subscription to one profile.
#[derive(Debug)]
pub struct Subscription {
    entry: Arc<CacheEntry>,
    changes: watch::Receiver<Last>,
}

impl Subscriptions {
    fn subscribe(&self, entry: &Arc<CacheEntry>) -> Subscription {
        let mut all = lock(&self.0);
        let changes = all
            .entry(entry.place)
            .or_insert_with(|| watch::Sender::new(None))
            .subscribe();
        Subscription {
            entry: Arc::clone(entry),
            changes,
        }
    }

    /// Something has changed; with how a session ended, if that is it.
    pub(crate) fn tell(&self, entry: &CacheEntry, ended: Last) {
        let mut all = lock(&self.0);
        let Some(sender) = all.get(&entry.place) else {
            return;
        };
        if sender.receiver_count() == 0 {
            all.remove(&entry.place);
            return;
        }
        sender.send_modify(|last| {
            if ended.is_some() {
                *last = ended;
            }
        });
    }

    pub(crate) fn has(&self, entry: &CacheEntry) -> bool {
        lock(&self.0)
            .get(&entry.place)
            .is_some_and(|sender| sender.receiver_count() > 0)
    }
}

impl Subscription {
    pub(crate) fn entry(&self) -> &Arc<CacheEntry> {
        &self.entry
    }

    /// How things are now. Only what changes from here on is news.
    pub fn look(&mut self) -> ProfileUpdate {
        let last = self.changes.borrow_and_update().clone();
        watched(&self.entry, last.as_deref())
    }

    /// Waits for news.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The senders are as old as the broker: there will be no news.
            std::future::pending::<()>().await;
        }
    }
}

impl Broker {
    pub fn watch(&self, peer: &Peer, profile: &str) -> Result<Subscription, AccessError> {
        let grant = self.see(peer, profile)?;
        let watching = self.subscriptions.subscribe(grant.entry());
        self.expect_looks(grant.entry());
        Ok(watching)
    }
}

pub(crate) fn watched(entry: &CacheEntry, ended: Option<&SessionEnded>) -> ProfileUpdate {
    let view = entry.state.view();
    ProfileUpdate {
        profile: entry.profile.name.to_string(),
        generation: view.generation.number(),
        session: view.session.map(|session| CurrentSession {
            id: session.granted.session_id.to_string(),
            expires_at: DateTimePrinter::new()
                .precision(Some(0))
                .timestamp_to_string(&session.granted.expires_at),
        }),
        held: view.hold.as_deref().cloned(),
        ended: ended.cloned(),
    }
}
