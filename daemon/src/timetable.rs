//! What is planned: one time at the most for each profile, all of them on the one timer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::cache::Slot;
use crate::clock::Boot;
use crate::config::Place;
use crate::lock;

#[derive(Debug, Default)]
pub struct Timetable {
    plan: Mutex<BTreeSet<(Boot, Place)>>,
    sooner: Notify,
}

impl Timetable {
    /// Plans when a profile is to be looked at next, in place of the time planned before.
    pub fn set(&self, slot: &Slot, at: Boot) {
        let mut plan = lock(&self.plan);
        let first = plan.first().copied();
        if let Some(before) = slot.planned.replace(Some(at)) {
            plan.remove(&(before, slot.place));
        }
        plan.insert((at, slot.place));
        let is_sooner = first.is_none_or(|first| (at, slot.place) < first);
        drop(plan);
        if is_sooner {
            self.sooner.notify_one();
        }
    }

    /// The same, unless it is planned for sooner.
    pub fn set_by(&self, slot: &Slot, at: Boot) {
        if slot.planned.read().is_none_or(|planned| planned > at) {
            self.set(slot, at);
        }
    }

    /// Waits until something is planned for sooner than all before; a change that came while nobody waited counts.
    pub async fn sooner(&self) {
        self.sooner.notified().await;
    }

    pub fn earliest(&self) -> Option<Boot> {
        lock(&self.plan).first().map(|(at, _)| *at)
    }

    /// Takes out one profile that is due.
    pub fn take_due<'a>(&self, now: Boot, slots: &'a [Arc<Slot>]) -> Option<&'a Arc<Slot>> {
        let mut plan = lock(&self.plan);
        if plan.first()?.0 > now {
            return None;
        }
        let slot = slots.get(plan.pop_first()?.1.index())?;
        slot.planned.replace(None);
        Some(slot)
    }

    /// Takes out all that are due.
    pub fn take_all_due<'a>(&self, now: Boot, slots: &'a [Arc<Slot>]) -> Vec<&'a Arc<Slot>> {
        std::iter::from_fn(|| self.take_due(now, slots)).collect()
    }
}
