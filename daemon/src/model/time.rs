//! Points in time, and how they are written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::{Deserialize, Serialize};

/// A point in boot time: nanoseconds since the machine started, suspend included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BootTime(u64);

impl BootTime {
    pub const ZERO: Self = Self(0);

    pub(crate) fn from_start(since_start: Duration) -> Self {
        Self(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX))
    }

    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(Self::from_start(span).0))
    }

    #[must_use]
    pub(crate) fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(Self::from_start(span).0))
    }

    /// The time since `earlier`. Zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    #[must_use]
    pub fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

/// A point in boot time, or none, without a lock.
#[derive(Debug)]
pub struct AtomicBootTime(AtomicU64);

impl Default for AtomicBootTime {
    fn default() -> Self {
        Self(AtomicU64::new(Self::NONE))
    }
}

impl AtomicBootTime {
    const NONE: u64 = u64::MAX;

    pub(crate) fn read(&self) -> Option<BootTime> {
        Self::decode(self.0.load(Ordering::Relaxed))
    }

    /// Returns the value before.
    pub(crate) fn replace(&self, time: Option<BootTime>) -> Option<BootTime> {
        let nanos = time.map_or(Self::NONE, |time| time.0);
        Self::decode(self.0.swap(nanos, Ordering::Relaxed))
    }

    fn decode(nanos: u64) -> Option<BootTime> {
        (nanos != Self::NONE).then_some(BootTime(nanos))
    }
}

/// RFC 3339 in UTC, to the second, never rounded up: `2026-01-31T12:00:00Z`.
pub(crate) fn to_rfc3339(time: Timestamp) -> String {
    DateTimePrinter::new()
        .precision(Some(0))
        .timestamp_to_string(&time)
}

/// The same to the millisecond, for the order of journal records.
pub(crate) fn to_rfc3339_millis(time: Timestamp) -> String {
    DateTimePrinter::new()
        .precision(Some(3))
        .timestamp_to_string(&time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_not_rounded_up() {
        let time = Timestamp::from_nanosecond(1_999_999_999).unwrap();
        assert_eq!(to_rfc3339(time), "1970-01-01T00:00:01Z");
        assert_eq!(to_rfc3339_millis(time), "1970-01-01T00:00:01.999Z");
    }
}
