//! Writes to standard error in a separate thread, so that a slow reader does not block signals.

use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use crate::command;

/// How long this program waits at its exit for the output to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

enum Line {
    Text(String),
    /// Gets a message when all earlier lines are written.
    Flush(Sender<()>),
}

#[derive(Clone)]
pub(super) struct Stderr(Sender<Line>);

impl Default for Stderr {
    fn default() -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in lines {
                match line {
                    Line::Text(text) => command::print_error(&text),
                    Line::Flush(sender) => drop(sender.send(())),
                }
            }
        });

        Self(sender)
    }
}

impl Stderr {
    pub(super) fn print(&self, text: &str) {
        let _ = self.0.send(Line::Text(text.into()));
    }

    /// Waits until all lines are written, at most [`FLUSH_TIMEOUT`].
    pub(super) fn flush(&self) {
        let (sender, done) = mpsc::channel();
        let _ = self.0.send(Line::Flush(sender));
        let _ = done.recv_timeout(FLUSH_TIMEOUT);
    }
}
