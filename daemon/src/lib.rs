//! rolekeeperd: assumes roles at an upstream STS, keeps the sessions fresh, and hands out leases on them.
//!
//! Start at [`credentials`]: it is the request path, and everything else serves it.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod access;
pub mod app;
pub mod audit;
pub mod cache;
pub mod clock;
pub mod config;
pub mod credentials;
#[cfg(target_os = "linux")]
pub mod desktop;
pub mod explain;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod iam;
pub mod journal;
pub mod login;
pub mod model;
pub mod platform;
pub mod refresh;
pub mod revocation;
pub mod sandbox;
pub mod serve;
pub mod status;
mod sync;
pub mod token_source;
pub mod upstream;

/// A name that somebody else chose, fit for a message.
pub(crate) fn printable(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

/// The most characters of [`one_line`].
const LINE: usize = 200;

/// What somebody else wrote, fit for a sentence: one line of it, with nothing hidden, and not long.
pub(crate) fn one_line(text: &str) -> String {
    let legible = |each: char| {
        let is_plain = each.escape_debug().len() == 1 || matches!(each, '"' | '\'' | '\\');
        if is_plain {
            each.to_string()
        } else {
            each.escape_debug().to_string()
        }
    };
    let mut line: String = text.chars().take(LINE).map(legible).collect();
    if text.chars().nth(LINE).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_somebody_else_wrote_is_one_short_line_with_nothing_hidden() {
        let hostile = "don't\n  try: curl \u{202e}x\u{1b}[2J";
        assert_eq!(
            super::one_line(hostile),
            "don't\\n  try: curl \\u{202e}x\\u{1b}[2J"
        );
        let long = super::one_line(&"\u{1}".repeat(100_000));
        assert!(long.len() < 2000 && long.ends_with('…'));
    }
}
