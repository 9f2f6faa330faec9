//! The only place that asks what time it is.
//!
//! Lifetimes are counted in boot time, which goes on during suspend and does not follow steps of the wall clock. Wall
//! time is only for what people and consumers read. Elsewhere than on Linux boot time is the monotonic clock, which
//! on some systems stands still during suspend.

#![allow(clippy::disallowed_methods, reason = "this is the module that the others are to ask")]

use std::time::Duration;

use jiff::Timestamp;

/// A point in boot time: since the machine started, suspend included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boot(Duration);

impl Boot {
    pub const ZERO: Self = Self(Duration::ZERO);

    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// The time from `earlier` to this, zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub boot: Boot,
    pub wall: Timestamp,
}

/// Where time comes from. Virtual time is tokio's, so that a test that pauses tokio moves everything at once.
#[derive(Debug, Clone)]
pub enum Clock {
    System,
    Virtual { start: tokio::time::Instant, wall: Timestamp },
}

impl Clock {
    /// A clock that follows tokio's, and starts at an arbitrary wall time.
    pub fn virtual_from(wall: Timestamp) -> Self {
        Self::Virtual { start: tokio::time::Instant::now(), wall }
    }

    pub fn now(&self) -> Now {
        match self {
            Self::System => Now { boot: boot(), wall: Timestamp::now() },
            Self::Virtual { start, wall } => {
                let gone = start.elapsed();
                Now { boot: Boot(gone), wall: wall.saturating_add(gone).unwrap_or(*wall) }
            }
        }
    }

    /// Sleeps to a point in boot time. tokio's timer stands still during suspend, so this can be late after one; what
    /// must not be late asks [`Clock::now`] before it acts.
    pub async fn sleep_until(&self, then: Boot) {
        tokio::time::sleep(then.since(self.now().boot)).await;
    }
}

fn boot() -> Boot {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let id = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let id = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Boot(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_time_goes_forward() {
        let (one, two) = (Clock::System.now(), Clock::System.now());
        assert!(one.boot > Boot::ZERO && two.boot >= one.boot);
    }

    #[tokio::test(start_paused = true)]
    async fn virtual_time_moves_boot_and_wall_alike() {
        let clock = Clock::virtual_from(Timestamp::UNIX_EPOCH);
        let then = clock.now().boot.plus(Duration::from_secs(3600));
        clock.sleep_until(then).await;
        assert_eq!(clock.now().boot, then);
        assert_eq!(clock.now().wall.as_second(), 3600);
    }
}
