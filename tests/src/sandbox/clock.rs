//! The sandbox's time: the system's, moved forward on request, so that a session's end need not be waited for.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// Milliseconds since 1970, as they are stored.
pub(super) type Millis = i64;

#[derive(Debug, Default)]
pub(super) struct Clock {
    ahead: AtomicI64,
}

impl Clock {
    pub(super) fn now(&self) -> Millis {
        Timestamp::now()
            .as_millisecond()
            .saturating_add(self.ahead.load(Ordering::SeqCst))
    }

    pub(super) fn advance(&self, seconds: i64) {
        self.ahead
            .fetch_add(seconds.saturating_mul(1000), Ordering::SeqCst);
    }

    pub(super) fn ahead_seconds(&self) -> i64 {
        self.ahead.load(Ordering::SeqCst) / 1000
    }
}

/// RFC 3339 in UTC with a `Z` (A11), to the millisecond, so that the order of the texts is that of the times.
pub(super) fn text(at: Millis) -> String {
    let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX);
    DateTimePrinter::new()
        .precision(Some(3))
        .timestamp_to_string(&at)
}

/// A time as a caller writes it.
pub(super) fn parse(text: &str) -> Option<Millis> {
    text.parse::<Timestamp>()
        .ok()
        .map(Timestamp::as_millisecond)
}
