//! The loop that runs what is due: one task on one timer, whatever the number of profiles. It wakes up for what is
//! scheduled and when time jumps, and for nothing else.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::RefreshService;
use super::policy::{Due, RESUME_SPREAD, due, spread};
use crate::cache::CacheEntry;
use crate::cache::freshness::Freshness;
use crate::clock::timer_queue::{TimerKey, TimerSlot};
use crate::clock::{BootTime, Now, Timer, Wakeup};
use crate::revocation::subscriptions::SessionEvent;
use crate::upstream::handle::{Priority, UpstreamHandle};

/// After a step of the wall clock, an upstream is asked for its time at most this often.
const MIN_TIME_CHECK_INTERVAL: Duration = Duration::from_secs(60);

impl RefreshService {
    /// Runs until the daemon ends.
    pub(crate) async fn run(self: Arc<Self>, mut timer: Timer) {
        loop {
            let wakeup = tokio::select! {
                biased;
                wakeup = timer.wait(self.timers.earliest()) => wakeup,
                () = self.timers.sooner() => continue,
            };

            if let Wakeup::Jumped { slept, stepped } = wakeup {
                self.on_time_jump(slept, stepped);
            }

            let now = self.clock.now();
            while let Some(key) = self.take_due(now.boot) {
                self.on_due(key, &now);
            }
        }
    }

    fn on_due(self: &Arc<Self>, key: TimerKey, now: &Now) {
        match key {
            TimerKey::Profile(id) => {
                if let Some(entry) = self.cache.get(id) {
                    self.on_profile_due(entry, now);
                }
            }
            TimerKey::Poll(id) => self.revocation.start_poll(id),
            TimerKey::RevocationOutbox => self.revocation.outbox.retry_due(),
        }
    }

    fn take_due(&self, now: BootTime) -> Option<TimerKey> {
        self.timers.take_due(now, |key| self.timer_slot(key))
    }

    fn timer_slot(&self, key: TimerKey) -> Option<&TimerSlot> {
        match key {
            TimerKey::Profile(id) => self.cache.get(id).map(|entry| &entry.timer),
            TimerKey::Poll(id) => self.revocation.poll_timer(id),
            TimerKey::RevocationOutbox => Some(&self.revocation.outbox.timer),
        }
    }

    fn on_profile_due(self: &Arc<Self>, entry: &Arc<CacheEntry>, now: &Now) {
        match due(&entry.lookup(now.boot), entry.is_wanted(now)) {
            Due::Refresh => self.refresh(entry),
            Due::Evict => {
                entry.evict(now);
                self.revocation
                    .subscriptions
                    .publish(entry, SessionEvent::Expired);
            }
            Due::Later { left } => {
                if let Some(session) = entry.session() {
                    self.timers.set(&entry.timer, session.ends_at().minus(left));
                }
            }
        }
    }

    /// The machine slept, or its wall clock was set. What was due meanwhile is spread over a few seconds. A clock that was
    /// set forward may also mean that this machine stood still without counting it, as a virtual machine does. Only the
    /// upstream can tell, so it is asked.
    fn on_time_jump(self: &Arc<Self>, slept: Duration, stepped: SignedDuration) {
        let now = self.clock.now();
        tracing::info!(?slept, %stepped, "time jumped");

        if !slept.is_zero() {
            for upstream in self.upstreams.iter() {
                upstream.client.resumed();
            }
        }

        self.spread_missed(&now);
        self.revocation.poll_all_soon();
        self.revocation.outbox.retry_soon();

        if stepped > SignedDuration::ZERO {
            for upstream in self.upstreams.iter() {
                self.check_time(upstream, now.boot);
            }
        }
    }

    fn spread_missed(&self, now: &Now) {
        let missed: Vec<_> = std::iter::from_fn(|| self.take_due(now.boot)).collect();
        let profiles: Vec<_> = missed
            .iter()
            .filter_map(|key| match key {
                TimerKey::Profile(id) => self.cache.get(*id),
                TimerKey::Poll(_) | TimerKey::RevocationOutbox => None,
            })
            .collect();

        self.spread_out(&profiles, now);
    }

    fn check_time(self: &Arc<Self>, upstream: &Arc<UpstreamHandle>, now: BootTime) {
        let is_known = upstream.client.server_clock().latest(now).is_some();

        if is_known && upstream.take_clock_sync(now, MIN_TIME_CHECK_INTERVAL) {
            tokio::spawn(Arc::clone(self).fetch_time(Arc::clone(upstream)));
        }
    }

    /// Asks an upstream for its time, and reconsiders its sessions.
    async fn fetch_time(self: Arc<Self>, upstream: Arc<UpstreamHandle>) {
        {
            // The result is not reported to the circuit breaker, because it is not a profile's call.
            let Ok(_permit) = upstream.acquire(Priority::Background, &self.clock).await else {
                return;
            };
            if let Err(error) = upstream.client.sync_clock().await {
                return tracing::warn!(upstream = %upstream.name, %error, "cannot read its time");
            }
        }

        let now = self.clock.now();
        let aged: Vec<_> = self
            .cache
            .entries_of(&upstream)
            .filter(|entry| entry.session().is_some())
            .filter(|entry| !matches!(entry.lookup(now.boot), Freshness::Fresh(_)))
            .collect();

        self.spread_out(&aged, &now);
    }

    fn spread_out(&self, entries: &[&Arc<CacheEntry>], now: &Now) {
        for entry in entries {
            let delay = spread(entries.len(), RESUME_SPREAD, fastrand::f64());
            self.timers.set_by(&entry.timer, now.boot.plus(delay));
        }
    }
}
