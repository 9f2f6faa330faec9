//! The only module that reads a clock, and the one timer.
//!
//! Lifetimes are in boot time, which continues during suspend and ignores steps of the wall clock. Wall time is for
//! people and consumers. [`ServerClock`] estimates the clock of an upstream. Where there is no boot time, which is on
//! every system but Linux, it is the monotonic clock, which may stop during suspend.

#![allow(
    clippy::disallowed_methods,
    reason = "this is the module that reads the clocks"
)]

mod server;
mod timer;
pub(crate) mod timer_queue;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

pub use crate::model::time::{AtomicBootTime, BootTime};
pub use server::{Estimate, ServerClock};
pub use timer::{Timer, Wakeup};

/// One reading of all clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub boot: BootTime,
    pub wall: Timestamp,
    /// How long this process has been running, without suspend.
    pub awake: Duration,
}

impl Now {
    /// The wall time of an earlier point, for people.
    pub(crate) fn wall_of(&self, then: BootTime) -> Timestamp {
        let ago = SignedDuration::try_from(self.boot.since(then)).unwrap_or(SignedDuration::MAX);
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }
}

/// Virtual time follows that of tokio, so that a test which pauses tokio controls all clocks.
#[derive(Debug, Clone)]
pub enum Clock {
    System,
    Virtual(Arc<VirtualTime>),
}

/// Tokio's time, with the suspends and steps of a test.
#[derive(Debug)]
pub struct VirtualTime {
    start: tokio::time::Instant,
    wall: Timestamp,
    suspended_ms: AtomicU64,
    stepped_ms: AtomicI64,
    jumped: watch::Sender<()>,
}

impl Clock {
    /// A virtual clock that starts at this wall time.
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
            Self::System => system_now(),
            Self::Virtual(time) => time.now(),
        }
    }
}

fn system_now() -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    Now {
        boot: boot_time(),
        wall: Timestamp::now(),
        awake: START.get_or_init(Instant::now).elapsed(),
    }
}

fn boot_time() -> BootTime {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let id = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let id = rustix::time::ClockId::Monotonic;

    let time = rustix::time::clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    BootTime::from_start(Duration::new(seconds, nanos))
}

impl VirtualTime {
    fn now(&self) -> Now {
        let awake = self.start.elapsed();
        let boot = awake + Duration::from_millis(self.suspended_ms.load(Ordering::Relaxed));
        let stepped = SignedDuration::from_millis(self.stepped_ms.load(Ordering::Relaxed));
        let wall = self
            .wall
            .saturating_add(boot)
            .and_then(|wall| wall.saturating_add(stepped));
        Now {
            boot: BootTime::from_start(boot),
            wall: wall.unwrap_or(self.wall),
            awake,
        }
    }

    /// As a process sees it: boot and wall time have advanced, everything else has stopped.
    pub fn suspend(&self, span: Duration) {
        self.suspended_ms.fetch_add(millis(span), Ordering::Relaxed);
        self.jumped.send_replace(());
    }

    /// Sets the wall clock forward, or back.
    pub fn step(&self, by: SignedDuration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or_default();
        self.stepped_ms.fetch_add(millis, Ordering::Relaxed);
        self.jumped.send_replace(());
    }
}

/// Whole milliseconds.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_advances() {
        let first = Clock::System.now();
        let second = Clock::System.now();
        assert!(first.boot > BootTime::ZERO && second.boot >= first.boot);
        assert!(second.awake >= first.awake);
    }

    /// Seconds of boot, wall and awake time.
    fn read(clock: &Clock) -> (u64, i64, u64) {
        let now = clock.now();
        (
            now.boot.since_start().as_secs(),
            now.wall.as_second(),
            now.awake.as_secs(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn suspend_moves_boot_and_wall_time_and_step_only_wall_time() {
        let clock = Clock::virtual_from(Timestamp::UNIX_EPOCH);
        let Clock::Virtual(time) = &clock else {
            unreachable!()
        };
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(read(&clock), (60, 60, 60));
        time.suspend(Duration::from_secs(3600));
        assert_eq!(read(&clock), (3660, 3660, 60));
        time.step(SignedDuration::from_secs(-3000));
        assert_eq!(read(&clock), (3660, 660, 60));

        let then = BootTime::ZERO.plus(Duration::from_secs(3600));
        assert_eq!(clock.now().wall_of(then).as_second(), 600);
    }
}
