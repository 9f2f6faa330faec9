//! Standard error in a thread of its own: one that nobody reads holds up no signal.

use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use crate::command;

/// For what is still to be said when this program ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

enum Line {
    Text(String),
    /// Is told when everything before it has been said.
    Last(Sender<()>),
}

#[derive(Clone)]
pub(super) struct Voice(Sender<Line>);

impl Default for Voice {
    fn default() -> Self {
        let (say, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in lines {
                match line {
                    Line::Text(text) => command::tell(&text),
                    Line::Last(said) => drop(said.send(())),
                }
            }
        });
        Self(say)
    }
}

impl Voice {
    pub(super) fn say(&self, text: &str) {
        let _ = self.0.send(Line::Text(text.into()));
    }

    /// Waits until everything has been said.
    pub(super) fn finish(&self) {
        let (said, done) = mpsc::channel();
        let _ = self.0.send(Line::Last(said));
        let _ = done.recv_timeout(LAST_WORDS);
    }
}
