//! Removes from untrusted text what could move a terminal's cursor, change the direction of text, or forge a line.

use std::fmt::Write as _;

use serde_json::Value;

/// Control characters (with DEL and C1), direction marks, and invisible separators. The joiners U+200C and U+200D stay,
/// because scripts and emoji need them.
fn is_hidden(each: char) -> bool {
    each.is_control()
        || matches!(
            each,
            '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
        )
}

/// The text on one line, with U+FFFD in place of each hidden character.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|each| if is_hidden(each) { '\u{fffd}' } else { each })
        .collect()
}

/// The same for a text of several lines.
pub(crate) fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

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

/// JSON with hidden characters as escapes, which is the same value. Outside of strings only line ends are hidden.
pub(crate) fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for each in json.chars() {
        if is_hidden(each) && each != '\n' {
            let _ = write!(text, "\\u{:04x}", u32::from(each));
        } else {
            text.push(each);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: &str = "\u{0}\u{7}\n\r\u{1b}\u{7f}\u{80}\u{9b}\u{9f}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\
        \u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}";

    #[test]
    fn hidden_characters_are_replaced() {
        assert_eq!(printable(HIDDEN), "\u{fffd}".repeat(HIDDEN.chars().count()));
        let joined = "Zoë שלום नमस्‍ते 👩\u{200d}💻 |~";
        assert_eq!(printable(joined), joined);
        assert_eq!(
            printable_lines("one\u{9b}2J\ntwo\r\n"),
            "one\u{fffd}2J\ntwo"
        );
    }

    #[test]
    fn texts_and_names_of_a_value_are_cleaned() {
        let mut report = serde_json::json!({ "name": "a\u{1b}[2J\u{9b}1m\nb", "list": ["\u{7}", { "\u{202e}k": 1 }] });
        clean(&mut report);
        let want = serde_json::json!({ "name": "a\u{fffd}[2J\u{fffd}1m\u{fffd}b", "list": ["\u{fffd}", { "\u{fffd}k": 1 }] });
        assert_eq!(report, want);
    }

    #[test]
    fn escaped_json_is_the_same_value() {
        let value = serde_json::json!({ HIDDEN: [HIDDEN, "é\\\"", "\\u202e"], "number": 1.5 });
        for text in [
            serde_json::to_string(&value).unwrap(),
            serde_json::to_string_pretty(&value).unwrap(),
        ] {
            let shown = escaped(&text);
            assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
            assert!(
                !shown.chars().any(|each| is_hidden(each) && each != '\n'),
                "{shown}"
            );
            assert_eq!(shown.lines().count(), text.lines().count());
            assert!(
                shown.contains("\\u009b") && shown.contains("\\u007f") && shown.contains("\\u202e"),
                "{shown}"
            );
        }
    }
}
