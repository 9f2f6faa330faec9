//! The sandbox's clock: the system's, moved forward on request, so that tests need not wait for a
//! session to expire.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// Milliseconds since 1970.
pub(super) type Millis = i64;

#[derive(Debug, Default)]
pub(super) struct Clock {
    ahead: AtomicI64,
}

impl Clock {
    pub(super) fn now(&self) -> Millis {
        let system = Timestamp::now().as_millisecond();
        system.saturating_add(self.ahead.load(Ordering::SeqCst))
    }

    pub(super) fn advance(&self, seconds: i64) {
        let millis = seconds.saturating_mul(1000);
        self.ahead.fetch_add(millis, Ordering::SeqCst);
    }

    pub(super) fn ahead_seconds(&self) -> i64 {
        self.ahead.load(Ordering::SeqCst) / 1000
    }
}

/// In UTC with a `Z` (A11), and always with milliseconds: the texts sort like the times.
pub(super) fn to_rfc3339(at: Millis) -> String {
    let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX);
    DateTimePrinter::new()
        .precision(Some(3))
        .timestamp_to_string(&at)
}

pub(super) fn parse_rfc3339(text: &str) -> Option<Millis> {
    let at: Timestamp = text.parse().ok()?;
    Some(at.as_millisecond())
}
