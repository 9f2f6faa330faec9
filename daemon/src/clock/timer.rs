//! The one timer: everything that is planned hangs on it.
//!
//! On Linux two kernel timers: one in boot time, which is due on time also when the machine slept meanwhile, and one that
//! is never due but is cancelled by the kernel when the wall clock is set and when the machine wakes up. Nothing wakes
//! this process in between. Elsewhere the clocks are looked at once a minute while something is planned, so that after a
//! suspend a refresh is a minute late at the most.

use std::io;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;

use super::{BootTime, Clock, Now};

/// Clocks that disagree by less have not jumped.
const TOLERANCE: Duration = Duration::from_secs(1);

/// RefusalKind a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wakeup {
    /// What was waited for.
    Due,
    /// The machine slept, or its wall clock was set.
    Jumped {
        /// How long it slept.
        slept: Duration,
        /// By how much the wall clock was set forward, beyond the time that has passed.
        stepped: SignedDuration,
    },
}

#[derive(Debug)]
pub struct Timer {
    clock: Clock,
    backend: Backend,
    /// The clocks when they were last compared.
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
    /// To be made within the runtime.
    pub fn new(clock: &Clock) -> io::Result<Self> {
        let timer = match clock {
            Clock::Virtual(time) => Backend::Virtual(time.jumped.subscribe()),
            #[cfg(target_os = "linux")]
            Clock::System => Backend::Kernel(linux::Timers::new()?),
            #[cfg(not(target_os = "linux"))]
            Clock::System => Backend::EveryMinute,
        };
        Ok(Self {
            clock: clock.clone(),
            backend: timer,
            before: clock.now(),
        })
    }

    /// Waits for this point in boot time, or for ever, or until time has jumped. May be dropped and begun again.
    pub async fn wait(&mut self, then: Option<BootTime>) -> Wakeup {
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

    /// Until then, or sooner.
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
                    // The test that moves time may be over.
                    changed = jumped.changed() => if changed.is_err() { std::future::pending().await },
                    () = sleep => {}
                }
            }
        }
    }
}

/// Whether the clocks have gone apart since they were compared.
fn jump(before: &Now, now: &Now) -> Option<Wakeup> {
    let slept = now
        .boot
        .since(before.boot)
        .saturating_sub(now.awake.saturating_sub(before.awake));
    let by_wall = now.wall.duration_since(before.wall);
    let by_boot =
        SignedDuration::try_from(now.boot.since(before.boot)).unwrap_or(SignedDuration::MAX);
    let stepped = by_wall.saturating_sub(by_boot);
    // The clocks are not read at quite the same moment.
    let slept = if slept > TOLERANCE {
        slept
    } else {
        Duration::ZERO
    };
    (!slept.is_zero() || stepped.unsigned_abs() > TOLERANCE)
        .then_some(Wakeup::Jumped { slept, stepped })
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    use super::super::BootTime;
    use crate::platform::sys;

    /// As far ahead as the wall clock is never set: the year 2500, in seconds.
    const NEVER: i64 = 16_725_225_600;

    #[derive(Debug)]
    pub(super) struct Timers {
        boot: AsyncFd<OwnedFd>,
        wall: AsyncFd<OwnedFd>,
    }

    impl Timers {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let timer = |clock| sys::watch(timerfd_create(clock, flags)?);
            let timers = Self {
                boot: timer(TimerfdClockId::Boottime)?,
                wall: timer(TimerfdClockId::Realtime)?,
            };
            timers.watch_wall()?;
            Ok(timers)
        }

        fn watch_wall(&self) -> io::Result<()> {
            set(
                &self.wall,
                NEVER,
                0,
                TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET,
            )
        }

        pub(super) async fn sleep(&mut self, then: Option<BootTime>, left: Option<Duration>) {
            // All zeros disarm it.
            let at = then.map_or(Duration::ZERO, |then| {
                then.since_start().max(Duration::from_nanos(1))
            });
            let seconds = i64::try_from(at.as_secs()).unwrap_or(NEVER);
            if let Err(error) = set(
                &self.boot,
                seconds,
                at.subsec_nanos().into(),
                TimerfdTimerFlags::ABSTIME,
            ) {
                // It cannot fail for these arguments; if it does, a timer that stands still during suspend is better
                // than none.
                tracing::warn!(%error, "the kernel's timer cannot be set");
                return tokio::time::sleep(left.unwrap_or(Duration::from_secs(60))).await;
            }
            tokio::select! {
                biased;
                () = spent(&self.wall) => {
                    if let Err(error) = self.watch_wall() {
                        tracing::warn!(%error, "steps of the wall clock cannot be watched");
                    }
                }
                () = spent(&self.boot) => {}
            }
        }
    }

    fn set(
        timer: &AsyncFd<OwnedFd>,
        tv_sec: i64,
        tv_nsec: i64,
        flags: TimerfdTimerFlags,
    ) -> io::Result<()> {
        let it_value = Timespec { tv_sec, tv_nsec };
        let it_interval = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match timerfd_settime(
            timer,
            flags,
            &Itimerspec {
                it_interval,
                it_value,
            },
        ) {
            // The wall clock has been set once more: that was told by the last wait, and it is armed all the same.
            Ok(_) | Err(rustix::io::Errno::CANCELED) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until a timer is due or cancelled.
    async fn spent(timer: &AsyncFd<OwnedFd>) {
        // It ends with the runtime, or when the kernel has said something: how often it was due, or that it was cancelled.
        let _ = timer
            .async_io(tokio::io::Interest::READABLE, |timer| {
                let mut count = [0; 8];
                match rustix::io::read(timer, &mut count) {
                    Err(rustix::io::Errno::CANCELED) => Ok(0),
                    read => Ok(read?),
                }
            })
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[tokio::test]
    async fn the_kernels_timer_is_due_on_time_and_nothing_has_jumped() {
        let mut alarm = Timer::new(&Clock::System).unwrap();
        let then = Clock::System.now().boot.plus(Duration::from_millis(30));
        assert_eq!(alarm.wait(Some(then)).await, Wakeup::Due);
        assert!(Clock::System.now().boot >= then);
        assert_eq!(
            alarm.wait(Some(then)).await,
            Wakeup::Due,
            "what is past is due at once"
        );
        let never = tokio::time::timeout(Duration::from_millis(50), alarm.wait(None)).await;
        assert!(never.is_err(), "{never:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspend_and_a_step_end_a_wait_and_are_told_apart() {
        let clock = Clock::virtual_from(Timestamp::UNIX_EPOCH);
        let Clock::Virtual(time) = &clock else {
            unreachable!()
        };
        let mut alarm = Timer::new(&clock).unwrap();
        let (hour, zero) = (Duration::from_secs(3600), SignedDuration::ZERO);
        let then = clock.now().boot.plus(hour);
        time.suspend(hour * 8);
        assert_eq!(
            alarm.wait(Some(then)).await,
            Wakeup::Jumped {
                slept: hour * 8,
                stepped: zero
            }
        );
        assert_eq!(
            alarm.wait(Some(then)).await,
            Wakeup::Due,
            "and what was due meanwhile is due"
        );
        time.step(SignedDuration::from_hours(-24));
        let stepped = SignedDuration::from_hours(-24);
        assert_eq!(
            alarm.wait(None).await,
            Wakeup::Jumped {
                slept: Duration::ZERO,
                stepped
            }
        );
        let then = clock.now().boot.plus(hour);
        assert_eq!(
            alarm.wait(Some(then)).await,
            Wakeup::Due,
            "a clock that only goes on has not jumped"
        );
    }
}
