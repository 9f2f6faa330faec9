//! Everything that is due later: at most one time for each key, all on the one timer.

use std::collections::BTreeSet;

use tokio::sync::Notify;

use crate::model::time::{AtomicBootTime, BootTime};
use crate::model::{ProfileId, UpstreamId};
use crate::sync::{Mutex, lock};

#[derive(Debug, Default)]
pub struct TimerQueue {
    entries: Mutex<BTreeSet<(BootTime, TimerKey)>>,
    sooner: Notify,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// Refresh a profile, or drop its session.
    Profile(ProfileId),
    /// Poll an upstream for revocations.
    Poll(UpstreamId),
    /// Send revocations to an upstream.
    RevocationOutbox,
}

/// When a key is due. Only the queue writes it.
#[derive(Debug)]
pub(crate) struct TimerSlot {
    key: TimerKey,
    at: AtomicBootTime,
}

impl TimerSlot {
    pub(crate) fn new(key: TimerKey) -> Self {
        Self {
            key,
            at: AtomicBootTime::default(),
        }
    }

    pub(crate) fn at(&self) -> Option<BootTime> {
        self.at.read()
    }
}

impl TimerQueue {
    /// Sets or replaces the time of a key.
    pub(crate) fn set(&self, slot: &TimerSlot, at: BootTime) {
        let mut entries = lock(&self.entries);
        let first = entries.first().copied();
        if let Some(before) = slot.at.replace(Some(at)) {
            entries.remove(&(before, slot.key));
        }

        entries.insert((at, slot.key));
        drop(entries);

        let is_sooner = first.is_none_or(|first| (at, slot.key) < first);
        if is_sooner {
            self.sooner.notify_one();
        }
    }

    /// The same, unless the key is due earlier.
    pub(crate) fn set_by(&self, slot: &TimerSlot, at: BootTime) {
        if slot.at().is_none_or(|due| due > at) {
            self.set(slot, at);
        }
    }

    /// Removes a key.
    pub(crate) fn unset(&self, slot: &TimerSlot) {
        let mut entries = lock(&self.entries);
        if let Some(before) = slot.at.replace(None) {
            entries.remove(&(before, slot.key));
        }
    }

    /// Waits until a key is due earlier than all others were. Returns at once if that happened since the last wait.
    pub(crate) async fn sooner(&self) {
        self.sooner.notified().await;
    }

    pub fn earliest(&self) -> Option<BootTime> {
        lock(&self.entries).first().map(|(at, _)| *at)
    }

    /// Removes a key that is due.
    pub(crate) fn take_due<'a>(
        &self,
        now: BootTime,
        slot_of: impl Fn(TimerKey) -> Option<&'a TimerSlot>,
    ) -> Option<TimerKey> {
        let mut entries = lock(&self.entries);
        if entries.first()?.0 > now {
            return None;
        }
        let (_, key) = entries.pop_first()?;
        if let Some(slot) = slot_of(key) {
            slot.at.replace(None);
        }
        Some(key)
    }
}
