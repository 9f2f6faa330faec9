use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// RFC 3339 in UTC with a `Z`, in whole seconds, rounded down.
pub fn to_rfc3339(at: Timestamp) -> String {
    DateTimePrinter::new()
        .precision(Some(0))
        .timestamp_to_string(&at)
}

/// The same in milliseconds.
pub fn to_rfc3339_millis(at: Timestamp) -> String {
    DateTimePrinter::new()
        .precision(Some(3))
        .timestamp_to_string(&at)
}
