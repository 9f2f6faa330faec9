//! Keeps what is in use fresh, for as long as the daemon runs: one task on the one timer, whatever the number of
//! profiles. It wakes up for what is planned and when time jumps, and for nothing else.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use crate::cache::CacheEntry;
use crate::cache::freshness::Freshness;
use crate::clock::timer_queue::TimerKey;
use crate::clock::{BootTime, Now, Timer, Wakeup};
use crate::credentials::Broker;
use crate::model::UpstreamId;
use crate::refresh::policy::{Due, RESUME_SPREAD, due, spread};
use crate::upstream::handle::{Priority, UpstreamHandle};

/// After a step of the wall clock an upstream is asked for its time, but not more often than this.
const APART: Duration = Duration::from_secs(60);

impl Broker {
    pub async fn keep_fresh(self: Arc<Self>, mut alarm: Timer) {
        loop {
            let woken = tokio::select! {
                biased;
                woken = alarm.wait(self.timer_queue.earliest()) => woken,
                () = self.timer_queue.sooner() => continue,
            };
            if let Wakeup::Jumped { slept, stepped } = woken {
                self.time_jumped(slept, stepped);
            }
            let now = self.clock.now();
            while let Some(item) = self.take_due(now.boot) {
                match item {
                    TimerKey::Profile(place) => self
                        .cache
                        .at(place)
                        .into_iter()
                        .for_each(|entry| self.tend(entry, &now)),
                    TimerKey::Poll(place) => self
                        .upstream_at(place)
                        .into_iter()
                        .for_each(|upstream| drop(self.look(upstream))),
                    TimerKey::RevocationOutbox => self.withdraw_due(),
                }
            }
        }
    }

    fn take_due(&self, now: BootTime) -> Option<TimerKey> {
        self.timer_queue.take_due(now, |item| match item {
            TimerKey::Profile(place) => self.cache.at(place).map(|entry| &entry.plan),
            TimerKey::Poll(place) => self.upstream_at(place).map(|upstream| &upstream.feed.plan),
            TimerKey::RevocationOutbox => Some(&self.withdrawals.plan),
        })
    }

    fn upstream_at(&self, id: UpstreamId) -> Option<&Arc<UpstreamHandle>> {
        self.upstreams.values().nth(id.index())
    }

    /// A profile's time has come.
    fn tend(self: &Arc<Self>, entry: &Arc<CacheEntry>, now: &Now) {
        match due(&entry.lookup(now.boot), entry.is_wanted(now)) {
            Due::Refresh => self.refresh(entry),
            Due::Drop => {
                entry.forget(now);
                self.subscriptions.tell(entry, None);
            }
            Due::Later { left } => {
                if let Some(session) = entry.session() {
                    self.timer_queue
                        .set(&entry.plan, session.ends_at().minus(left));
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
            self.upstreams
                .values()
                .for_each(|upstream| upstream.client.resumed());
        }
        let missed: Vec<_> = std::iter::from_fn(|| self.take_due(now.boot)).collect();
        let profile = |item: &TimerKey| {
            if let TimerKey::Profile(place) = item {
                self.cache.at(*place)
            } else {
                None
            }
        };
        self.spread_out(&missed.iter().filter_map(profile).collect::<Vec<_>>(), &now);
        self.look_soon(now.boot);
        self.withdraw_soon();
        if stepped > SignedDuration::ZERO {
            let unsure = |upstream: &&Arc<UpstreamHandle>| {
                upstream.client.server_clock().latest(now.boot).is_some()
                    && upstream.may_be_asked_time(now.boot, APART)
            };
            for upstream in self.upstreams.values().filter(unsure) {
                tokio::spawn(Arc::clone(self).ask_time(Arc::clone(upstream)));
            }
        }
    }

    /// Asks an upstream what time it is, and looks again at its sessions with what it says.
    async fn ask_time(self: Arc<Self>, upstream: Arc<UpstreamHandle>) {
        {
            // How it goes is told to nobody: this is not a profile's call.
            let Ok(_pass) = upstream.enter(Priority::Background, &self.clock).await else {
                return;
            };
            if let Err(error) = upstream.client.ask_time().await {
                return tracing::warn!(upstream = %upstream.name, %error, "it cannot be asked for its time");
            }
        }
        let now = self.clock.now();
        let is_old = |entry: &&Arc<CacheEntry>| {
            Arc::ptr_eq(&entry.upstream, &upstream)
                && entry.session().is_some()
                && !matches!(entry.lookup(now.boot), Freshness::Fresh(_))
        };
        let old: Vec<_> = self.cache.entries().iter().filter(is_old).collect();
        self.spread_out(&old, &now);
    }

    fn spread_out(&self, entries: &[&Arc<CacheEntry>], now: &Now) {
        for entry in entries {
            self.timer_queue.set_by(
                &entry.plan,
                now.boot
                    .plus(spread(entries.len(), RESUME_SPREAD, fastrand::f64())),
            );
        }
    }
}
