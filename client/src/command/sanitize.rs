//! Removes from a daemon's reports what a terminal must not get.

use rolekeeper::text::printable;
use serde_json::Value;

/// Applies [`printable`] to all texts and names of a value.
pub(crate) fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = printable(text),
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(fields) => {
            let cleaned = std::mem::take(fields).into_iter().map(|(name, mut value)| {
                clean(&mut value);
                (printable(&name), value)
            });
            *fields = cleaned.collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_names_of_a_value_are_cleaned() {
        let mut report = serde_json::json!({ "name": "a\u{1b}[2J\u{9b}1m\nb", "list": ["\u{7}", { "\u{202e}k": 1 }] });
        clean(&mut report);
        let want = serde_json::json!({ "name": "a\u{fffd}[2J\u{fffd}1m\u{fffd}b", "list": ["\u{fffd}", { "\u{fffd}k": 1 }] });
        assert_eq!(report, want);
    }
}
