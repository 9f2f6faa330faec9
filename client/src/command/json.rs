//! JSON from users and upstreams. Some valid JSON cannot be represented: too deep nesting, a number beyond a double, half of
//! a surrogate pair. The error names the document's author, not the daemon.

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};
use serde::de::IgnoredAny;
use serde_json::Value;

/// The maximum nesting of a document. Parsers accept 127 levels, and a request adds four around the document.
pub(super) const MAX_DEPTH: usize = 120;

/// Why a text could not be read. Each names the line and the column (in bytes).
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It is not valid JSON.
    Invalid(String),
    /// It is valid JSON that cannot be represented.
    Unsupported(String),
}

/// Parses a user's document.
pub(super) fn document(text: &str) -> Result<Value, Unreadable> {
    let value = value(text);
    match first_deeper(text, MAX_DEPTH) {
        Some((line, column)) if !matches!(value, Err(Unreadable::Invalid(_))) => {
            Err(Unreadable::Unsupported(format!(
                "it is nested deeper than {MAX_DEPTH} levels at line {line} column {column}"
            )))
        }
        _ => value,
    }
}

/// Parses an upstream's reply, which the daemon has checked to be JSON. The message starts with `prefix`: `getRole: `.
pub(super) fn reply(text: &str, prefix: &str) -> Result<Value, Failure> {
    value(text).map_err(|why| match why {
        Unreadable::Invalid(_) => connect::unexpected_reply(),
        Unreadable::Unsupported(why) => Failure::new(
            Code::UpstreamUnavailable,
            format!("{prefix}cannot show the upstream's reply: {why}"),
            "report it to the upstream's administrator: the reply is valid JSON that cannot be represented",
        ),
    })
}

fn value(text: &str) -> Result<Value, Unreadable> {
    serde_json::from_str(text).map_err(|why| match serde_json::from_str::<IgnoredAny>(text) {
        Ok(IgnoredAny) => Unreadable::Unsupported(why.to_string()),
        Err(error) => Unreadable::Invalid(error.to_string()),
    })
}

/// Line and column at which a JSON text first exceeds this nesting.
fn first_deeper(text: &str, limit: usize) -> Option<(usize, usize)> {
    let mut depth = 0_usize;
    let mut line = 1;
    let mut column = 0;
    let mut in_string = false;
    let mut escaped = false;

    for byte in text.bytes() {
        column += 1;
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'\n' => {
                line += 1;
                column = 0;
            }
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
    fn document_depth_is_limited_to_what_a_request_carries() {
        assert!(document(&nested(MAX_DEPTH)).is_ok());
        let around = format!(
            r#"{{"v":1,"request":{{"iam":{{"parameters":{{"document":{}}}}}}}}}"#,
            nested(MAX_DEPTH)
        );
        assert!(value(&around).is_ok());
        for levels in [MAX_DEPTH + 1, 127, 128, 20_000] {
            let Err(Unreadable::Unsupported(why)) = document(&format!("\n\n  {}", nested(levels)))
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
            first_deeper(r#"{"a\\":[],"\"[":{"b":[]}}"#, 2),
            Some((1, 22)),
            "brackets in texts do not count"
        );
    }

    #[test]
    fn unsupported_json_differs_from_invalid_json() {
        for text in [
            "{\"a\":\n 1e400}",
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\udc00x"}"#,
            &nested(128),
        ] {
            let Err(Unreadable::Unsupported(why)) = value(text) else {
                panic!("{text}")
            };
            assert!(why.contains(" at line "), "{why}");
        }
        for text in ["", "{", "nope", "{\"a\":1e}", "[1e400", &"[".repeat(500)] {
            assert!(
                matches!(document(text), Err(Unreadable::Invalid(why)) if why.contains(" at line ")),
                "{text}"
            );
        }
    }

    #[test]
    fn unsupported_reply_is_an_error_of_the_upstream() {
        let failure = reply("[1e400]", "getRole: ").unwrap_err();
        assert_eq!(
            (failure.code, failure.code.exit_code()),
            (Code::UpstreamUnavailable, 7)
        );
        assert!(
            failure
                .message
                .starts_with("getRole: cannot show the upstream's reply: number out of range")
        );
        assert_eq!(reply("{", "").unwrap_err(), connect::unexpected_reply());
    }
}
