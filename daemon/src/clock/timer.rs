//! The one timer: everything that is due later waits for it.
//!
//! On Linux it is two kernel timers. One is in boot time, so that it is due on time even if the machine was suspended.
//! The other is never due, but the kernel cancels it when the wall clock is set and when the machine wakes up. Nothing else
//! wakes this process. Elsewhere the clocks are compared once a minute while something is due later, so that after a suspend
//! a refresh is a minute late at the most.

#[cfg(target_os = "linux")]
mod linux;

use std::io;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;

use super::{BootTime, Clock, Now};

/// The clocks are not read at the same moment. A smaller difference is no jump.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Why a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wakeup {
    Due,
    /// The machine was suspended, or its wall clock was set.
    Jumped {
        /// How long the machine was suspended.
        slept: Duration,
        /// By how much the wall clock was set forward; negative if it was set back.
        stepped: SignedDuration,
    },
}

#[derive(Debug)]
pub struct Timer {
    clock: Clock,
    backend: Backend,
    /// The clocks at the last comparison.
    before: Now,
}

#[derive(Debug)]
enum Backend {
    #[cfg(target_os = "linux")]
    Kernel(linux::Timers),
    #[cfg(not(target_os = "linux"))]
    EveryMinute,
    Virtual(watch::Receiver<()>),
}

impl Timer {
    /// Must be called within the runtime.
    pub fn new(clock: &Clock) -> io::Result<Self> {
        let backend = match clock {
            Clock::Virtual(time) => Backend::Virtual(time.jumped.subscribe()),
            #[cfg(target_os = "linux")]
            Clock::System => Backend::Kernel(linux::Timers::new()?),
            #[cfg(not(target_os = "linux"))]
            Clock::System => Backend::EveryMinute,
        };

        Ok(Self {
            clock: clock.clone(),
            backend,
            before: clock.now(),
        })
    }

    /// Waits until this point in boot time, without limit for None, or until time has jumped. Cancel safe.
    pub(crate) async fn wait(&mut self, then: Option<BootTime>) -> Wakeup {
        loop {
            let due = then.is_some_and(|then| self.clock.now().boot >= then);
            if !due {
                self.sleep(then).await;
            }
            let now = self.clock.now();
            let before = std::mem::replace(&mut self.before, now);
            if let Some(jump) = jump(&before, &now) {
                return jump;
            }
            if then.is_some_and(|then| now.boot >= then) {
                return Wakeup::Due;
            }
        }
    }

    /// Returns at that time or earlier.
    async fn sleep(&mut self, then: Option<BootTime>) {
        let left = then.map(|then| then.since(self.clock.now().boot));
        match &mut self.backend {
            #[cfg(target_os = "linux")]
            Backend::Kernel(timers) => timers.sleep(then, left).await,
            #[cfg(not(target_os = "linux"))]
            Backend::EveryMinute => match left {
                Some(left) => tokio::time::sleep(left.min(Duration::from_secs(60))).await,
                None => std::future::pending().await,
            },
            Backend::Virtual(jumped) => {
                let sleep = async {
                    match left {
                        Some(left) => tokio::time::sleep(left).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    // The test may have dropped the clock.
                    changed = jumped.changed() => if changed.is_err() { std::future::pending().await },
                    () = sleep => {}
                }
            }
        }
    }
}

/// Whether the clocks have diverged since the last comparison.
fn jump(before: &Now, now: &Now) -> Option<Wakeup> {
    let slept = now
        .boot
        .since(before.boot)
        .saturating_sub(now.awake.saturating_sub(before.awake));
    let by_wall = now.wall.duration_since(before.wall);
    let by_boot =
        SignedDuration::try_from(now.boot.since(before.boot)).unwrap_or(SignedDuration::MAX);
    let stepped = by_wall.saturating_sub(by_boot);

    let slept = if slept > TOLERANCE {
        slept
    } else {
        Duration::ZERO
    };

    let is_jump = !slept.is_zero() || stepped.unsigned_abs() > TOLERANCE;

    is_jump.then_some(Wakeup::Jumped { slept, stepped })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[tokio::test]
    async fn kernel_timer_is_due_on_time() {
        let mut timer = Timer::new(&Clock::System).unwrap();
        let then = Clock::System.now().boot.plus(Duration::from_millis(30));
        assert_eq!(timer.wait(Some(then)).await, Wakeup::Due);
        assert!(Clock::System.now().boot >= then);
        assert_eq!(
            timer.wait(Some(then)).await,
            Wakeup::Due,
            "a past time is due at once"
        );
        let never = tokio::time::timeout(Duration::from_millis(50), timer.wait(None)).await;
        assert!(never.is_err(), "{never:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn suspend_and_step_end_wait() {
        let clock = Clock::virtual_from(Timestamp::UNIX_EPOCH);
        let Clock::Virtual(time) = &clock else {
            unreachable!()
        };
        let mut timer = Timer::new(&clock).unwrap();
        let (hour, zero) = (Duration::from_secs(3600), SignedDuration::ZERO);
        let then = clock.now().boot.plus(hour);
        time.suspend(hour * 8);
        assert_eq!(
            timer.wait(Some(then)).await,
            Wakeup::Jumped {
                slept: hour * 8,
                stepped: zero
            }
        );
        assert_eq!(
            timer.wait(Some(then)).await,
            Wakeup::Due,
            "it was due during the suspend"
        );
        time.step(SignedDuration::from_hours(-24));
        let stepped = SignedDuration::from_hours(-24);
        assert_eq!(
            timer.wait(None).await,
            Wakeup::Jumped {
                slept: Duration::ZERO,
                stepped
            }
        );
        let then = clock.now().boot.plus(hour);
        assert_eq!(
            timer.wait(Some(then)).await,
            Wakeup::Due,
            "an advance is no jump"
        );
    }
}
