//! Text that others wrote, made fit for a terminal and a log: names at the upstream, paths of programs, replies.

use std::fmt::Write as _;

/// The longest path that is displayed, in characters.
const MAX_PATH: usize = 200;

/// Whether a character could move the cursor, change the direction of text, forge a line, or is invisible: Unicode's
/// categories Cc, Cf, Zl and Zp, and fillers. The joiners U+200C and U+200D stay, because scripts and emoji need them.
pub fn is_hidden(each: char) -> bool {
    each.is_control()
        || matches!(
            each,
            '\u{ad}'
                | '\u{34f}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The text on one line, with U+FFFD in place of each hidden character.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|each| if is_hidden(each) { '\u{fffd}' } else { each })
        .collect()
}

/// The same for a text of several lines.
pub fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// The text on one line, with each hidden character as an escape: `\n`, `\u{202e}`.
pub fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for each in text.chars() {
        if is_hidden(each) {
            line.extend(each.escape_default());
        } else {
            line.push(each);
        }
    }

    line
}

/// JSON with hidden characters as escapes, which is the same value. Outside of strings only line ends are hidden.
pub fn escaped_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for each in json.chars() {
        if !is_hidden(each) || each == '\n' {
            text.push(each);
            continue;
        }
        for unit in each.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\u{unit:04x}");
        }
    }

    text
}

/// A program's path as a part of a sentence or a chain: quoted unless it is plain, so that it cannot pass for another part.
pub fn display_path(path: &str) -> String {
    let is_plain = |each: char| each.is_ascii_alphanumeric() || "/._+-@".contains(each);
    let mut shown: String = path.chars().take(MAX_PATH).collect();
    if path.chars().nth(MAX_PATH).is_some() {
        shown.push('…');
    }

    if !shown.is_empty() && shown.chars().all(is_plain) {
        shown
    } else {
        escaped(&format!("{shown:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: &str = "\u{0}\u{7}\n\r\u{1b}\u{7f}\u{80}\u{9b}\u{9f}\u{ad}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\
        \u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\u{2068}\u{2069}\u{3164}\u{feff}\u{fff9}\u{e0041}";

    #[test]
    fn hidden_characters_are_replaced_or_escaped() {
        assert_eq!(printable(HIDDEN), "\u{fffd}".repeat(HIDDEN.chars().count()));
        assert!(!escaped(HIDDEN).contains(is_hidden));
        assert_eq!(escaped("a\n\u{202e}b"), "a\\n\\u{202e}b");

        let joined = "Zoë שלום नमस्‍ते 👩\u{200d}💻 |~";
        assert_eq!(printable(joined), joined);
        assert_eq!(escaped(joined), joined);
        assert_eq!(
            printable_lines("one\u{9b}2J\ntwo\r\n"),
            "one\u{fffd}2J\ntwo"
        );
    }

    #[test]
    fn escaped_json_is_the_same_value() {
        let value = serde_json::json!({ HIDDEN: [HIDDEN, "é\\\"", "\\u202e"], "number": 1.5 });
        for text in [
            serde_json::to_string(&value).unwrap(),
            serde_json::to_string_pretty(&value).unwrap(),
        ] {
            let shown = escaped_json(&text);
            let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
            assert_eq!(read, value);
            assert!(
                !shown.contains(|each| is_hidden(each) && each != '\n'),
                "{shown}"
            );
            assert_eq!(shown.lines().count(), text.lines().count());
        }
    }

    #[test]
    fn path_that_is_not_plain_is_quoted() {
        for (path, want) in [
            ("/usr/bin/python3.12", "/usr/bin/python3.12"),
            ("", "\"\""),
            ("/x (1) < /bin/sh", "\"/x (1) < /bin/sh\""),
            ("/x\" < \"/y", "\"/x\\\" < \\\"/y\""),
            ("/x\u{202e}\n", "\"/x\\u{202e}\\n\""),
        ] {
            assert_eq!(display_path(path), want);
        }
        assert!(display_path(&"x".repeat(5000)).len() < 300);

        let all: Vec<_> = ('\0'..=char::MAX).filter(|each| is_hidden(*each)).collect();
        for some in all.chunks(MAX_PATH) {
            assert!(!display_path(&String::from_iter(some)).contains(is_hidden));
        }
    }
}
