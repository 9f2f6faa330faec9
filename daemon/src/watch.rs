//! Who is told of a profile's changes. What is told is how things are when a subscriber comes round to reading it, so that
//! one who is slow is behind by nothing, and costs nobody anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::fmt::temporal::DateTimePrinter;
use rolekeeper::protocol::{Ending, Watched, WatchedSession};
use tokio::sync::watch;

use crate::broker::{Broker, Refusal};
use crate::cache::Slot;
use crate::config::Place;
use crate::serve::peer::Peer;
use crate::sync::{Mutex, lock};

/// How the last session ended that a revocation ended, since somebody has been watching.
type Last = Option<Arc<Ending>>;

#[derive(Debug, Default)]
pub struct Watchers(Mutex<BTreeMap<Place, watch::Sender<Last>>>);

/// A subscription to one profile.
#[derive(Debug)]
pub struct Watching {
    slot: Arc<Slot>,
    changes: watch::Receiver<Last>,
}

impl Watchers {
    fn subscribe(&self, slot: &Arc<Slot>) -> Watching {
        let mut all = lock(&self.0);
        let changes = all
            .entry(slot.place)
            .or_insert_with(|| watch::Sender::new(None))
            .subscribe();
        Watching {
            slot: Arc::clone(slot),
            changes,
        }
    }

    /// Something has changed; with how a session ended, if that is it.
    pub(crate) fn tell(&self, slot: &Slot, ended: Last) {
        let mut all = lock(&self.0);
        let Some(sender) = all.get(&slot.place) else {
            return;
        };
        if sender.receiver_count() == 0 {
            all.remove(&slot.place);
            return;
        }
        sender.send_modify(|last| {
            if ended.is_some() {
                *last = ended;
            }
        });
    }

    pub(crate) fn has(&self, slot: &Slot) -> bool {
        lock(&self.0)
            .get(&slot.place)
            .is_some_and(|sender| sender.receiver_count() > 0)
    }
}

impl Watching {
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// How things are now. Only what changes from here on is news.
    pub fn look(&mut self) -> Watched {
        let last = self.changes.borrow_and_update().clone();
        watched(&self.slot, last.as_deref())
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
    pub fn watch(&self, peer: &Peer, profile: &str) -> Result<Watching, Refusal> {
        let grant = self.see(peer, profile)?;
        let watching = self.watchers.subscribe(grant.slot());
        self.expect_looks(grant.slot());
        Ok(watching)
    }
}

pub(crate) fn watched(slot: &Slot, ended: Option<&Ending>) -> Watched {
    let view = slot.standing.view();
    Watched {
        profile: slot.profile.name.to_string(),
        generation: view.generation.number(),
        session: view.session.map(|session| WatchedSession {
            id: session.granted.session_id.to_string(),
            expires_at: DateTimePrinter::new()
                .precision(Some(0))
                .timestamp_to_string(&session.granted.expires_at),
        }),
        held: view.hold.as_deref().cloned(),
        ended: ended.cloned(),
    }
}
