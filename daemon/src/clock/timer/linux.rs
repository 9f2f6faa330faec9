//! The kernel timers of Linux (timerfd_create(2)).

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::model::time::BootTime;
use crate::platform::descriptors::register;
/// The year 2500, in seconds: a wall clock is never set so far ahead.
const NEVER: i64 = 16_725_225_600;

#[derive(Debug)]
pub(super) struct Timers {
    boot: AsyncFd<OwnedFd>,
    /// Cancelled when the wall clock is set.
    wall: AsyncFd<OwnedFd>,
}

impl Timers {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = |clock| register(timerfd_create(clock, flags)?);
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
        // Zero disarms the timer.
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
            // A timer that stops during suspend is better than none.
            tracing::warn!(%error, "cannot set the kernel timer");
            return tokio::time::sleep(left.unwrap_or(Duration::from_secs(60))).await;
        }

        tokio::select! {
            biased;
            () = expired(&self.wall) => {
                if let Err(error) = self.watch_wall() {
                    tracing::warn!(%error, "cannot watch the wall clock");
                }
            }
            () = expired(&self.boot) => {}
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

    let spec = Itimerspec {
        it_interval,
        it_value,
    };

    match timerfd_settime(timer, flags, &spec) {
        // The wall clock was set again since the last wait. The timer is armed all the same.
        Ok(_) | Err(rustix::io::Errno::CANCELED) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until a timer is due or cancelled.
async fn expired(timer: &AsyncFd<OwnedFd>) {
    // It fails when the runtime shuts down.
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
