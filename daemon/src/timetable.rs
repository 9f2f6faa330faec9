//! What is planned: one time at the most for each thing that there is to do, all of them on the one timer.

use std::collections::BTreeSet;

use tokio::sync::Notify;

use crate::clock::{AtomicBoot, Boot};
use crate::config::Place;
use crate::sync::{Mutex, lock};

#[derive(Debug, Default)]
pub struct Timetable {
    entries: Mutex<BTreeSet<(Boot, Item)>>,
    sooner: Notify,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A profile is looked at: refreshed, forgotten, or left alone.
    Profile(Place),
    /// An upstream is asked which sessions have been revoked.
    Feed(Place),
    /// An upstream is told to revoke sessions.
    Withdrawals,
}

/// For when it is planned. Only the timetable writes it.
#[derive(Debug)]
pub struct Plan {
    item: Item,
    at: AtomicBoot,
}

impl Plan {
    pub fn new(item: Item) -> Self {
        Self {
            item,
            at: AtomicBoot::default(),
        }
    }

    pub fn at(&self) -> Option<Boot> {
        self.at.read()
    }
}

impl Timetable {
    /// Plans something, in place of the time planned before.
    pub fn set(&self, plan: &Plan, at: Boot) {
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
    pub fn set_by(&self, plan: &Plan, at: Boot) {
        if plan.at().is_none_or(|planned| planned > at) {
            self.set(plan, at);
        }
    }

    /// Nothing is planned for it any more.
    pub fn unset(&self, plan: &Plan) {
        let mut entries = lock(&self.entries);
        if let Some(before) = plan.at.replace(None) {
            entries.remove(&(before, plan.item));
        }
    }

    /// Waits until something is planned for sooner than all before; a change that came while nobody waited counts.
    pub async fn sooner(&self) {
        self.sooner.notified().await;
    }

    pub fn earliest(&self) -> Option<Boot> {
        lock(&self.entries).first().map(|(at, _)| *at)
    }

    /// Takes out one thing that is due.
    pub fn take_due<'a>(
        &self,
        now: Boot,
        plan_of: impl Fn(Item) -> Option<&'a Plan>,
    ) -> Option<Item> {
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
