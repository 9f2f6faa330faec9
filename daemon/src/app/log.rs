//! The daemon's log on standard error. A record is one line of printable characters, whatever texts of others are in it.

use std::io::{self, Write};

use rolekeeper::text::escaped;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

pub(super) fn to_stderr(filter: Targets) {
    // Colours would be escape sequences.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Lines(io::stderr()))
        .with_ansi(false);

    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
}

/// Gets each record as a whole.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        self.0.write_all((escaped(text) + "\n").as_bytes())?;

        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn record_is_one_line_of_printable_characters() {
        let mut file = tempfile::tempfile().unwrap();
        let lines = Mutex::new(Lines(file.try_clone().unwrap()));
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(lines);
        let subscriber = tracing_subscriber::registry().with(layer);

        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(name = %"\u{202e}gpj\u{1b}[2J", "one\n  WARN rolekeeperd: two\u{200b}");
        });

        let mut written = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut written).unwrap();
        assert_eq!(written.lines().count(), 1, "{written}");
        assert!(written.contains("\\u{202e}gpj") && written.contains("one\\n  WARN"));
        assert!(!written.trim_end().contains(rolekeeper::text::is_hidden));
    }
}
