//! The signals that this program is sent.

use std::sync::mpsc::Sender;
use std::thread;

use rolekeeper::protocol::Failure;
use signal_hook::consts::{
    SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::{Event, lost};
use crate::command::signals::heeded;

/// What a terminal sends to everybody in its foreground group. Who sent a signal could be asked only with code in C, for
/// which a static build lacks the compiler.
pub(super) const BY_TERMINAL: [i32; 4] = [SIGCONT, SIGINT, SIGQUIT, SIGWINCH];

const WANTED: [i32; 8] = [
    SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
];

/// Tells of signals, but for those that whoever started this program has it ignore.
pub(super) fn hear(has_group: bool, tell: Sender<Event>) -> Result<(), Failure> {
    // A command with a group of its own does not stop with this program by itself.
    let wanted = WANTED.into_iter().chain(has_group.then_some(SIGTSTP));
    let mut signals = Signals::new(heeded(wanted)).map_err(|error| lost(&error))?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if tell.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
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
