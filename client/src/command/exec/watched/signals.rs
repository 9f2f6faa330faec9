//! Signals that this program receives.

use std::sync::mpsc::Sender;
use std::thread;

use rolekeeper::protocol::Failure;
use signal_hook::consts::{
    SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::{Event, not_supervised};
use crate::command::signals::not_ignored;

/// Signals that a terminal sends to its foreground group, and so to the command itself.
pub(super) const BY_TERMINAL: [i32; 4] = [SIGCONT, SIGINT, SIGQUIT, SIGWINCH];

const WANTED: [i32; 8] = [
    SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
];

/// Sends signals as events, except those that this program's parent has set to be ignored.
pub(super) fn forward(has_group: bool, sender: Sender<Event>) -> Result<(), Failure> {
    // The terminal does not stop a command in its own group.
    let wanted = WANTED.into_iter().chain(has_group.then_some(SIGTSTP));
    let mut signals = Signals::new(not_ignored(wanted)).map_err(|error| not_supervised(&error))?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if sender.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });

    Ok(())
}

/// Whether a signal terminates this program while no command runs.
pub(super) fn terminates(signal: i32) -> bool {
    [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2].contains(&signal)
}

/// Stops this program if the signal asks for it.
pub(super) fn stop_if_requested(signal: i32) {
    if signal == SIGTSTP {
        let _ = emulate_default_handler(signal);
    }
}
