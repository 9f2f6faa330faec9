//! JSON that somebody else wrote: a user's document, an upstream's reply. Some of it follows the grammar and is no value all
//! the same: nested deeper than a parser goes, a number beyond a double, half of a surrogate pair. Whoever wrote it is told,
//! and never that the daemon is broken.

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};
use serde::de::IgnoredAny;
use serde_json::Value;

/// How deep a document may be nested. Parsers take 127 levels; a request has four of its own around the document, and a
/// reply that shows it again has some too.
pub(super) const DEPTH: usize = 120;

/// Why a text came to no value. Each says where: line and column, the latter in bytes.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It breaks the grammar.
    NotJson(String),
    /// It is JSON, and no value.
    NoValue(String),
}

/// A user's document.
pub(super) fn document(text: &str) -> Result<Value, Unreadable> {
    let value = value(text);
    match deeper(text, DEPTH) {
        Some((line, column)) if !matches!(value, Err(Unreadable::NotJson(_))) => {
            Err(Unreadable::NoValue(format!(
                "it is nested deeper than {DEPTH} levels at line {line} column {column}"
            )))
        }
        _ => value,
    }
}

/// An upstream's reply, of which the daemon has made sure that it is JSON. `of` begins the message: `getRole: `.
pub(super) fn reply(text: &str, of: &str) -> Result<Value, Failure> {
    value(text).map_err(|why| match why {
        Unreadable::NotJson(_) => connect::unexpected_reply(),
        Unreadable::NoValue(why) => Failure::new(
            Code::UpstreamUnavailable,
            format!("{of}what the upstream answered cannot be shown: {why}"),
            "tell whoever runs the upstream: it is JSON by its grammar, and more than a program can hold",
        ),
    })
}

fn value(text: &str) -> Result<Value, Unreadable> {
    serde_json::from_str(text).map_err(|why| match serde_json::from_str::<IgnoredAny>(text) {
        Ok(IgnoredAny) => Unreadable::NoValue(why.to_string()),
        Err(error) => Unreadable::NotJson(error.to_string()),
    })
}

/// Where a JSON text first goes deeper than so many levels.
fn deeper(text: &str, limit: usize) -> Option<(usize, usize)> {
    let (mut depth, mut line, mut column) = (0_usize, 1, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        column += 1;
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'\n' => (line, column) = (line + 1, 0),
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return Some((line, column));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }

    #[test]
    fn a_document_is_nested_as_deep_as_a_request_can_carry_it_and_no_deeper() {
        assert!(document(&nested(DEPTH)).is_ok());
        let around = format!(
            r#"{{"v":1,"request":{{"iam":{{"parameters":{{"document":{}}}}}}}}}"#,
            nested(DEPTH)
        );
        assert!(value(&around).is_ok());
        for levels in [DEPTH + 1, 127, 128, 20_000] {
            let Err(Unreadable::NoValue(why)) = document(&format!("\n\n  {}", nested(levels)))
            else {
                panic!()
            };
            assert_eq!(
                why,
                "it is nested deeper than 120 levels at line 3 column 123"
            );
        }
        assert!(document(r#"{"text":"[[[{{{\"[[["}"#).is_ok());
        assert_eq!(
            deeper(r#"{"a\\":[],"\"[":{"b":[]}}"#, 2),
            Some((1, 22)),
            "brackets in texts do not count"
        );
    }

    #[test]
    fn json_that_is_no_value_is_told_from_what_is_no_json() {
        for text in [
            "{\"a\":\n 1e400}",
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\udc00x"}"#,
            &nested(128),
        ] {
            let Err(Unreadable::NoValue(why)) = value(text) else {
                panic!("{text}")
            };
            assert!(why.contains(" at line "), "{why}");
        }
        for text in ["", "{", "nope", "{\"a\":1e}", "[1e400", &"[".repeat(500)] {
            assert!(
                matches!(document(text), Err(Unreadable::NotJson(why)) if why.contains(" at line ")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_reply_that_is_no_value_is_laid_at_the_upstream_and_one_that_is_no_json_at_the_daemon() {
        let failure = reply("[1e400]", "getRole: ").unwrap_err();
        assert_eq!(
            (failure.code, failure.code.exit_code()),
            (Code::UpstreamUnavailable, 7)
        );
        assert!(failure.message.starts_with(
            "getRole: what the upstream answered cannot be shown: number out of range"
        ));
        assert_eq!(reply("{", "").unwrap_err(), connect::unexpected_reply());
    }
}
