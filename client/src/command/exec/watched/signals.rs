//! The signals that this program is sent.

use std::sync::mpsc::Sender;
use std::thread;

use rolekeeper::protocol::Failure;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::{Event, lost};

/// What a terminal sends to everybody in its foreground group. Who sent a signal could be asked only with code in C, for
/// which a static build lacks the compiler.
pub(super) const BY_TERMINAL: [i32; 4] = [SIGCONT, SIGINT, SIGQUIT, SIGWINCH];

const WANTED: [i32; 8] = [SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];

/// Tells of signals, but for those that whoever started this program has it ignore.
pub(super) fn hear(has_group: bool, tell: Sender<Event>) -> Result<(), Failure> {
    let ignored = std::fs::read_to_string("/proc/self/status").map_or(0, |status| ignored(&status));
    // A command with a group of its own does not stop with this program by itself.
    let wanted = WANTED.into_iter().chain(has_group.then_some(SIGTSTP));
    let heeded = wanted.filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = Signals::new(heeded).map_err(|error| lost(&error))?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if tell.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Those that are ignored, one bit each, as Linux tells it of a process.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Whether a signal ends this program while no command runs.
pub(super) fn ends(signal: i32) -> bool {
    [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2].contains(&signal)
}

/// Stops this program if it was told to.
pub(super) fn stop_at(signal: i32) {
    if signal == SIGTSTP {
        let _ = emulate_default_handler(signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_and_a_shells_background_ignore_is_read() {
        assert_eq!(ignored("Name:\tx\nSigBlk:\t00000000000000ff\nSigIgn:\t0000000000001007\n"), 0x1007);
        assert_eq!((ignored(""), ignored("SigIgn:\tnone")), (0, 0));
    }
}
