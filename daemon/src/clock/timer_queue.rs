//! What is planned: one time at the most for each thing that there is to do, all of them on the one timer.

use std::collections::BTreeSet;

use tokio::sync::Notify;

use crate::clock::{AtomicBootTime, BootTime};
use crate::model::{ProfileId, UpstreamId};
use crate::sync::{Mutex, lock};

#[derive(Debug, Default)]
pub struct TimerQueue {
    entries: Mutex<BTreeSet<(BootTime, TimerKey)>>,
    sooner: Notify,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKey {
    /// A profile is looked at: refreshed, forgotten, or left alone.
    Profile(ProfileId),
    /// An upstream is asked which sessions have been revoked.
    Poll(UpstreamId),
    /// An upstream is told to revoke sessions.
    RevocationOutbox,
}

/// For when it is planned. Only the timer_queue writes it.
#[derive(Debug)]
pub struct TimerSlot {
    item: TimerKey,
    at: AtomicBootTime,
}

impl TimerSlot {
    pub fn new(item: TimerKey) -> Self {
        Self {
            item,
            at: AtomicBootTime::default(),
        }
    }

    pub fn at(&self) -> Option<BootTime> {
        self.at.read()
    }
}

impl TimerQueue {
    /// Plans something, in place of the time planned before.
    pub fn set(&self, plan: &TimerSlot, at: BootTime) {
        let mut entries = lock(&self.entries);
        let first = entries.first().copied();
        if let Some(before) = plan.at.replace(Some(at)) {
            entries.remove(&(before, plan.item));
        }
        entries.insert((at, plan.item));
        let is_sooner = first.is_none_or(|first| (at, plan.item) < first);
        drop(entries);
        if is_sooner {
            self.sooner.notify_one();
        }
    }

    /// The same, unless it is planned for sooner.
    pub fn set_by(&self, plan: &TimerSlot, at: BootTime) {
        if plan.at().is_none_or(|planned| planned > at) {
            self.set(plan, at);
        }
    }

    /// Nothing is planned for it any more.
    pub fn unset(&self, plan: &TimerSlot) {
        let mut entries = lock(&self.entries);
        if let Some(before) = plan.at.replace(None) {
            entries.remove(&(before, plan.item));
        }
    }

    /// Waits until something is planned for sooner than all before; a change that came while nobody waited counts.
    pub async fn sooner(&self) {
        self.sooner.notified().await;
    }

    pub fn earliest(&self) -> Option<BootTime> {
        lock(&self.entries).first().map(|(at, _)| *at)
    }

    /// Takes out one thing that is due.
    pub fn take_due<'a>(
        &self,
        now: BootTime,
        plan_of: impl Fn(TimerKey) -> Option<&'a TimerSlot>,
    ) -> Option<TimerKey> {
        let mut entries = lock(&self.entries);
        if entries.first()?.0 > now {
            return None;
        }
        let (_, item) = entries.pop_first()?;
        if let Some(plan) = plan_of(item) {
            plan.at.replace(None);
        }
        Some(item)
    }
}
