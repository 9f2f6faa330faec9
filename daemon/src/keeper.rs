//! Keeps what is in use fresh, for as long as the daemon runs: one task on the one timer, whatever the number of
//! profiles. It wakes up for what is planned and when time jumps, and for nothing else.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use crate::broker::Broker;
use crate::cache::Slot;
use crate::cache::state::State;
use crate::clock::{Alarm, Boot, Now, Woken};
use crate::config::Place;
use crate::refresh::{Due, RESUME_SPREAD, due, spread};
use crate::timetable::Item;
use crate::upstream::gate::{Gate, Haste};

/// After a step of the wall clock an upstream is asked for its time, but not more often than this.
const APART: Duration = Duration::from_secs(60);

impl Broker {
    pub async fn keep_fresh(self: Arc<Self>, mut alarm: Alarm) {
        loop {
            let woken = tokio::select! {
                biased;
                woken = alarm.wait(self.timetable.earliest()) => woken,
                () = self.timetable.sooner() => continue,
            };
            if let Woken::Jumped { slept, stepped } = woken {
                self.time_jumped(slept, stepped);
            }
            let now = self.clock.now();
            while let Some(item) = self.take_due(now.boot) {
                match item {
                    Item::Profile(place) => self
                        .cache
                        .at(place)
                        .into_iter()
                        .for_each(|slot| self.tend(slot, &now)),
                    Item::Feed(place) => self
                        .gate_at(place)
                        .into_iter()
                        .for_each(|gate| drop(self.look(gate))),
                    Item::Withdrawals => self.withdraw_due(),
                }
            }
        }
    }

    fn take_due(&self, now: Boot) -> Option<Item> {
        self.timetable.take_due(now, |item| match item {
            Item::Profile(place) => self.cache.at(place).map(|slot| &slot.plan),
            Item::Feed(place) => self.gate_at(place).map(|gate| &gate.feed.plan),
            Item::Withdrawals => Some(&self.withdrawals.plan),
        })
    }

    fn gate_at(&self, place: Place) -> Option<&Arc<Gate>> {
        self.gates.values().nth(place.index())
    }

    /// A profile's time has come.
    fn tend(self: &Arc<Self>, slot: &Arc<Slot>, now: &Now) {
        match due(&slot.lookup(now.boot), slot.is_wanted(now)) {
            Due::Refresh => self.refresh(slot),
            Due::Drop => {
                slot.forget(now);
                self.watchers.tell(slot, None);
            }
            Due::Later { left } => {
                if let Some(session) = slot.session() {
                    self.timetable
                        .set(&slot.plan, session.ends_at().minus(left));
                }
            }
        }
    }

    /// The machine slept, or its wall clock was set. What was slept through is spread over a few seconds. A clock that
    /// was set forward may also mean that this machine stood still without counting it, as a virtual machine does; only
    /// the upstream can tell, so it is asked.
    fn time_jumped(self: &Arc<Self>, slept: Duration, stepped: SignedDuration) {
        let now = self.clock.now();
        tracing::info!(?slept, %stepped, "time has jumped");
        if !slept.is_zero() {
            self.gates.values().for_each(|gate| gate.upstream.resumed());
        }
        let missed: Vec<_> = std::iter::from_fn(|| self.take_due(now.boot)).collect();
        let profile = |item: &Item| {
            if let Item::Profile(place) = item {
                self.cache.at(*place)
            } else {
                None
            }
        };
        self.spread_out(&missed.iter().filter_map(profile).collect::<Vec<_>>(), &now);
        self.look_soon(now.boot);
        self.withdraw_soon();
        if stepped > SignedDuration::ZERO {
            let unsure = |gate: &&Arc<Gate>| {
                gate.upstream.server_clock().latest(now.boot).is_some()
                    && gate.may_be_asked_time(now.boot, APART)
            };
            for gate in self.gates.values().filter(unsure) {
                tokio::spawn(Arc::clone(self).ask_time(Arc::clone(gate)));
            }
        }
    }

    /// Asks an upstream what time it is, and looks again at its sessions with what it says.
    async fn ask_time(self: Arc<Self>, gate: Arc<Gate>) {
        {
            // How it goes is told to nobody: this is not a profile's call.
            let Ok(_pass) = gate.enter(Haste::Background, &self.clock).await else {
                return;
            };
            if let Err(error) = gate.upstream.ask_time().await {
                return tracing::warn!(upstream = %gate.name, %error, "it cannot be asked for its time");
            }
        }
        let now = self.clock.now();
        let is_old = |slot: &&Arc<Slot>| {
            Arc::ptr_eq(&slot.gate, &gate)
                && slot.session().is_some()
                && !matches!(slot.lookup(now.boot), State::Fresh(_))
        };
        let old: Vec<_> = self.cache.slots().iter().filter(is_old).collect();
        self.spread_out(&old, &now);
    }

    fn spread_out(&self, slots: &[&Arc<Slot>], now: &Now) {
        for slot in slots {
            self.timetable.set_by(
                &slot.plan,
                now.boot
                    .plus(spread(slots.len(), RESUME_SPREAD, fastrand::f64())),
            );
        }
    }
}
