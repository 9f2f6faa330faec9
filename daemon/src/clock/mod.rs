//! The only place that asks what time it is, and the one timer.
//!
//! Lifetimes are counted in boot time, which goes on during suspend and does not follow steps of the wall clock. Wall
//! time is only for what people and consumers read. What an upstream's clock says is in [`ServerClock`]. Elsewhere than
//! on Linux boot time is the monotonic clock, which on some systems stands still during suspend.

#![allow(
    clippy::disallowed_methods,
    reason = "this is the module that the others are to ask"
)]

mod server;
mod timer;
pub mod timer_queue;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use server::{Estimate, ServerClock};
pub use timer::{Timer, Wakeup};

/// A point in boot time: nanoseconds since the machine started, suspend included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BootTime(u64);

impl BootTime {
    pub const ZERO: Self = Self(0);

    fn at(since_start: Duration) -> Self {
        Self(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX))
    }

    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(Self::at(span).0))
    }

    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(Self::at(span).0))
    }

    /// The time from `earlier` to this, zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Since the machine started.
    #[must_use]
    pub fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

/// A point in boot time, or none, that is read without a lock.
#[derive(Debug)]
pub struct AtomicBootTime(AtomicU64);

impl Default for AtomicBootTime {
    fn default() -> Self {
        Self(AtomicU64::new(Self::NONE))
    }
}

impl AtomicBootTime {
    const NONE: u64 = u64::MAX;

    pub fn read(&self) -> Option<BootTime> {
        Self::known(self.0.load(Ordering::Relaxed))
    }

    /// Gives back what was there before.
    pub fn replace(&self, at: Option<BootTime>) -> Option<BootTime> {
        Self::known(
            self.0
                .swap(at.map_or(Self::NONE, |at| at.0), Ordering::Relaxed),
        )
    }

    fn known(nanos: u64) -> Option<BootTime> {
        (nanos != Self::NONE).then_some(BootTime(nanos))
    }
}

/// One reading of all clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub boot: BootTime,
    pub wall: Timestamp,
    /// For how long this process has been running, suspend left out: whoever slept used nothing.
    pub awake: Duration,
}

impl Now {
    /// In wall time, for people.
    pub fn wall_of(&self, then: BootTime) -> Timestamp {
        let ago = SignedDuration::try_from(self.boot.since(then)).unwrap_or(SignedDuration::MAX);
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }
}

/// Where time comes from. Virtual time is tokio's, so that a test that pauses tokio moves everything at once.
#[derive(Debug, Clone)]
pub enum Clock {
    System,
    Virtual(Arc<VirtualTime>),
}

/// Tokio's time, and what a test did to it.
#[derive(Debug)]
pub struct VirtualTime {
    start: tokio::time::Instant,
    wall: Timestamp,
    suspended_ms: AtomicU64,
    stepped_ms: AtomicI64,
    jumped: watch::Sender<()>,
}

impl Clock {
    /// A clock that follows tokio's, and starts at an arbitrary wall time.
    pub fn virtual_from(wall: Timestamp) -> Self {
        Self::Virtual(Arc::new(VirtualTime {
            start: tokio::time::Instant::now(),
            wall,
            suspended_ms: AtomicU64::new(0),
            stepped_ms: AtomicI64::new(0),
            jumped: watch::Sender::new(()),
        }))
    }

    pub fn now(&self) -> Now {
        match self {
            Self::System => {
                static START: OnceLock<Instant> = OnceLock::new();
                Now {
                    boot: boot(),
                    wall: Timestamp::now(),
                    awake: START.get_or_init(Instant::now).elapsed(),
                }
            }
            Self::Virtual(time) => {
                let awake = time.start.elapsed();
                let boot = awake + Duration::from_millis(time.suspended_ms.load(Ordering::Relaxed));
                let stepped = SignedDuration::from_millis(time.stepped_ms.load(Ordering::Relaxed));
                let wall = time
                    .wall
                    .saturating_add(boot)
                    .and_then(|wall| wall.saturating_add(stepped));
                Now {
                    boot: BootTime::at(boot),
                    wall: wall.unwrap_or(time.wall),
                    awake,
                }
            }
        }
    }
}

impl VirtualTime {
    /// What a suspend looks like from within: boot and wall time have gone on, everything else stood still.
    pub fn suspend(&self, span: Duration) {
        self.suspended_ms.fetch_add(millis(span), Ordering::Relaxed);
        self.jumped.send_replace(());
    }

    /// Somebody sets the wall clock.
    pub fn step(&self, by: SignedDuration) {
        self.stepped_ms.fetch_add(
            i64::try_from(by.as_millis()).unwrap_or_default(),
            Ordering::Relaxed,
        );
        self.jumped.send_replace(());
    }
}

/// Whole milliseconds.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn boot() -> BootTime {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let id = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let id = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    BootTime::at(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_time_goes_forward() {
        let (one, two) = (Clock::System.now(), Clock::System.now());
        assert!(one.boot > BootTime::ZERO && two.boot >= one.boot && two.awake >= one.awake);
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspend_moves_boot_and_wall_and_a_step_the_wall_alone() {
        let clock = Clock::virtual_from(Timestamp::UNIX_EPOCH);
        let Clock::Virtual(time) = &clock else {
            unreachable!()
        };
        let read = || {
            let now = clock.now();
            (
                now.boot.since(BootTime::ZERO).as_secs(),
                now.wall.as_second(),
                now.awake.as_secs(),
            )
        };
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(read(), (60, 60, 60));
        time.suspend(Duration::from_secs(3600));
        assert_eq!(read(), (3660, 3660, 60));
        time.step(SignedDuration::from_secs(-3000));
        assert_eq!(read(), (3660, 660, 60));
        assert_eq!(
            clock
                .now()
                .wall_of(BootTime::ZERO.plus(Duration::from_secs(3600)))
                .as_second(),
            600
        );
    }
}
