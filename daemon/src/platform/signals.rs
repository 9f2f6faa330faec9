//! Signals, and what they ask of the daemon.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// A reload is requested and not rejected. If it succeeds, the next process starts with false.
static IS_RELOADING: AtomicBool = AtomicBool::new(false);

/// How much later than a request a signal that was sent before it may be handled, and the interval of the checks.
const DELIVERY: Duration = Duration::from_millis(100);
const CHECK: Duration = Duration::from_millis(10);

/// How often a process waits so: a program that asks for unknown profiles again and again is answered at once.
const MAX_WAITS: u32 = 20;
static WAITS: AtomicU32 = AtomicU32::new(0);

/// Whether this process may soon be replaced by one with another configuration.
pub(crate) async fn is_reloading_soon() -> bool {
    let mut waited = Duration::ZERO;
    if WAITS.fetch_add(1, Ordering::Relaxed) >= MAX_WAITS {
        waited = DELIVERY;
    }

    while !IS_RELOADING.load(Ordering::Relaxed) {
        if waited >= DELIVERY {
            return false;
        }
        tokio::time::sleep(CHECK).await;
        waited += CHECK;
    }

    true
}

/// Must be called if a reload is rejected.
pub(crate) fn reload_rejected() {
    IS_RELOADING.store(false, Ordering::Relaxed);
}

/// What a signal asks of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalRequest {
    /// To stop, by the signal of this name.
    Stop(&'static str),
    /// To replace this process by the program and the configuration on disk.
    Reload,
}

#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    /// The terminal sends a hang-up when it closes.
    has_terminal: bool,
}

#[cfg(unix)]
impl Signals {
    /// Must be called within the runtime.
    pub(crate) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            has_terminal: io::IsTerminal::is_terminal(&io::stderr()),
        })
    }

    pub(crate) async fn next(&mut self) -> SignalRequest {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => SignalRequest::Stop("SIGTERM"),
            _ = self.interrupt.recv() => SignalRequest::Stop("SIGINT"),
            _ = self.hang_up.recv() => {
                if self.has_terminal {
                    SignalRequest::Stop("SIGHUP")
                } else {
                    IS_RELOADING.store(true, Ordering::Relaxed);
                    SignalRequest::Reload
                }
            }
        }
    }

    /// The next request to stop. Requests to reload are dropped.
    pub(crate) async fn next_stop(&mut self) -> SignalRequest {
        loop {
            let request = self.next().await;
            if request != SignalRequest::Reload {
                return request;
            }
        }
    }
}

/// Child processes and the program that replaces this one ignore it, too, until they install a handler.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the disposition of a signal has no safe form")]
pub(crate) fn ignore(signal: i32) {
    // SAFETY: no handler runs for an ignored signal.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Undoes what the parent process has set.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the disposition of a signal has no safe form")]
pub(crate) fn restore(signal: i32) {
    // SAFETY: no handler runs for the default action.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Child processes have the default action again: execve(2) resets handlers, but not ignored signals.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the disposition of a signal has no safe form")]
pub(crate) fn ignore_but_not_inherit(signal: i32) {
    extern "C" fn do_nothing(_signal: i32) {}
    let handler: extern "C" fn(i32) = do_nothing;
    // SAFETY: the handler is empty, so it is safe in any context.
    unsafe { libc::signal(signal, handler as libc::sighandler_t) };
}
