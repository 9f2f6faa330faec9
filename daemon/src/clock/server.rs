//! An estimate of an upstream's clock, from the timestamps in its replies.
//!
//! The upstream sets a timestamp after the request was sent and before the reply was received. That bounds how far its clock is
//! ahead of boot time here. Where two replies agree, both bounds hold. Where they do not, one of the clocks has jumped (a paused
//! virtual machine has no boot time), and the newer reply is right.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Now, millis};
use crate::model::time::BootTime;
use crate::sync::lock;

/// In milliseconds. A `Date` that differs more from the timestamp of a session comes from another machine, such as a proxy.
const MAX_DISAGREEMENT: i64 = 60_000;
/// How far the two clocks may drift apart, in parts per million.
const DRIFT: u64 = 500;
/// A `Date` is in whole seconds. In milliseconds.
const DATE_UNIT: i64 = 1000;
const UNKNOWN: i64 = i64::MIN;

/// Milliseconds by which an upstream's clock is ahead of boot time.
#[derive(Debug)]
pub struct ServerClock {
    estimate: Mutex<Estimate>,
    /// The upper bound of the estimate, for readers without the lock.
    most: AtomicI64,
}

/// Valid until the machine restarts, so the next daemon process can use it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Estimate {
    ahead: Option<Span>,
    /// When `ahead` was last updated.
    at: Option<BootTime>,
    /// From the last `Date`.
    date: Option<Span>,
    /// Whether the last session agreed with the `Date` of its reply.
    dates_agree: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    least: i64,
    most: i64,
}

impl Default for ServerClock {
    fn default() -> Self {
        Self {
            estimate: Mutex::default(),
            most: AtomicI64::new(UNKNOWN),
        }
    }
}

impl ServerClock {
    /// The latest time that the upstream's clock can show. None before the first session.
    pub fn latest(&self, now: BootTime) -> Option<Timestamp> {
        let most = self.most.load(Ordering::Relaxed);
        if most == UNKNOWN {
            None
        } else {
            Timestamp::from_millisecond(most.saturating_add(since_start(now))).ok()
        }
    }

    /// The upstream issued a session between `sent` and `received`. The same clock decides when the session expires.
    pub fn issued(&self, at: Timestamp, sent: BootTime, received: BootTime) {
        let span = Span::of(at, 0, sent, received);
        let mut estimate = lock(&self.estimate);
        let agreed = estimate.dates_agree;
        estimate.dates_agree = estimate
            .date
            .is_some_and(|date| date.distance(span) <= MAX_DISAGREEMENT);
        // If the dates are no longer trusted, neither is the estimate from them.
        let before = estimate.ahead.filter(|_| estimate.dates_agree || !agreed);
        self.learn(&mut estimate, before, span, sent, received);
    }

    /// A reply with this `Date` was received.
    pub fn dated(&self, date: Timestamp, sent: BootTime, received: BootTime) {
        let span = Span::of(date, DATE_UNIT, sent, received);
        let mut estimate = lock(&self.estimate);
        estimate.date = Some(span);
        if estimate.dates_agree {
            let before = estimate.ahead;
            self.learn(&mut estimate, before, span, sent, received);
        }
    }

    /// How far the wall clock here is ahead of the upstream's at least; negative if it is behind. Zero if they may agree.
    pub(crate) fn wall_ahead(&self, now: &Now) -> SignedDuration {
        let Some(Span { least, most }) = lock(&self.estimate).ahead else {
            return SignedDuration::ZERO;
        };

        let wall = now
            .wall
            .as_millisecond()
            .saturating_sub(since_start(now.boot));
        let ahead = if wall > most {
            wall - most
        } else {
            wall.saturating_sub(least).min(0)
        };

        SignedDuration::from_millis(ahead)
    }

    pub(crate) fn estimate(&self) -> Estimate {
        lock(&self.estimate).clone()
    }

    /// Takes over the estimate of an earlier process.
    pub(crate) fn restore(&self, known: Estimate) {
        let mut estimate = lock(&self.estimate);
        *estimate = known;
        self.most.store(
            estimate.ahead.map_or(UNKNOWN, |ahead| ahead.most),
            Ordering::Relaxed,
        );
    }

    fn learn(
        &self,
        estimate: &mut Estimate,
        before: Option<Span>,
        span: Span,
        sent: BootTime,
        now: BootTime,
    ) {
        let age = estimate.at.map_or(Duration::ZERO, |at| now.since(at));
        let drift = i64::try_from(millis(age) * DRIFT / 1_000_000).unwrap_or(i64::MAX);
        let both = before.and_then(|before| before.widened(drift).overlap(span));
        // A slow reply may be from before a jump that a newer reply has shown.
        let is_earlier = both.is_none() && before.is_some_and(|before| span.most < before.least);
        if is_earlier && estimate.at.is_some_and(|at| sent < at) {
            return;
        }

        let ahead = both.unwrap_or(span);
        estimate.ahead = Some(ahead);
        estimate.at = Some(now);
        self.most.store(ahead.most, Ordering::Relaxed);
    }
}

impl Span {
    /// From a timestamp that was rounded down to `unit`, and set between `sent` and `received`.
    fn of(stamp: Timestamp, unit: i64, sent: BootTime, received: BootTime) -> Self {
        let stamp = stamp.as_millisecond();
        Self {
            least: stamp - since_start(received),
            most: stamp + unit - since_start(sent),
        }
    }

    fn overlap(self, other: Self) -> Option<Self> {
        let both = Self {
            least: self.least.max(other.least),
            most: self.most.min(other.most),
        };
        (both.least <= both.most).then_some(both)
    }

    fn widened(self, by: i64) -> Self {
        Self {
            least: self.least.saturating_sub(by),
            most: self.most.saturating_add(by),
        }
    }

    /// Zero if they overlap.
    fn distance(self, other: Self) -> i64 {
        (self.least.saturating_sub(other.most))
            .max(other.least.saturating_sub(self.most))
            .max(0)
    }
}

fn since_start(at: BootTime) -> i64 {
    i64::try_from(millis(at.since_start())).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(seconds: u64) -> BootTime {
        BootTime::ZERO.plus(Duration::from_secs(seconds))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn latest(clock: &ServerClock, now: u64) -> Option<i64> {
        clock.latest(boot(now)).map(Timestamp::as_second)
    }

    #[test]
    fn session_bounds_server_time_by_round_trip() {
        let clock = ServerClock::default();
        assert_eq!(clock.latest(boot(5)), None);
        clock.issued(at(1000), boot(10), boot(14));
        assert_eq!(
            latest(&clock, 14),
            Some(1004),
            "it may have been issued when the request was sent"
        );
        clock.issued(at(1100), boot(111), boot(112));
        assert_eq!(
            latest(&clock, 112),
            Some(1101),
            "a shorter round trip is more precise"
        );
        let ahead = |wall: i64| {
            let now = Now {
                boot: boot(112),
                wall: at(wall),
                awake: Duration::ZERO,
            };
            clock.wall_ahead(&now).as_secs()
        };
        assert_eq!(
            (ahead(1100), ahead(1101), ahead(1111), ahead(1000)),
            (0, 0, 10, -100)
        );
    }

    #[test]
    fn agreeing_date_reveals_lost_time() {
        let clock = ServerClock::default();
        clock.dated(at(1000), boot(10), boot(11));
        assert_eq!(clock.latest(boot(11)), None, "a date alone is not trusted");
        clock.issued(at(1000), boot(10), boot(11));
        clock.dated(at(1010), boot(20), boot(21));
        assert_eq!(latest(&clock, 21), Some(1011));
        // This machine was paused for an hour without boot time.
        clock.dated(at(4610), boot(21), boot(22));
        assert_eq!(latest(&clock, 22), Some(4612));
        clock.dated(at(1011), boot(20), boot(23));
        assert_eq!(
            latest(&clock, 23),
            Some(4613),
            "a slow reply from before the pause is ignored"
        );
    }

    #[test]
    fn date_of_another_machine_is_ignored() {
        for wrong in [-8 * 3600, -90, 90, 8 * 3600] {
            let clock = ServerClock::default();
            clock.dated(at(1000 + wrong), boot(10), boot(11));
            clock.issued(at(1000), boot(10), boot(11));
            clock.dated(at(1100 + wrong), boot(110), boot(111));
            assert_eq!(latest(&clock, 111), Some(1101), "{wrong}");
        }
    }

    #[test]
    fn next_session_overrules_wrong_date() {
        let clock = ServerClock::default();
        clock.dated(at(1000), boot(10), boot(11));
        clock.issued(at(1000), boot(10), boot(11));
        clock.dated(at(1100 - 3600), boot(110), boot(111));
        clock.issued(at(1100), boot(110), boot(111));
        assert_eq!(latest(&clock, 111), Some(1101));
        clock.dated(at(1200 - 3600), boot(210), boot(211));
        assert_eq!(latest(&clock, 211), Some(1201));
    }
}
