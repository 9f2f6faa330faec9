//! Text from elsewhere, made fit for messages.

/// The most characters of [`one_line`].
const MAX_LINE: usize = 200;

/// A name that another person chose: at most 64 characters, control characters escaped.
pub(crate) fn printable(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

/// Text that another program wrote, as a part of a sentence: one line, with control characters escaped.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();

    for each in text.chars().take(MAX_LINE) {
        let is_plain = each.escape_debug().len() == 1 || matches!(each, '"' | '\'' | '\\');
        if is_plain {
            line.push(each);
        } else {
            line.extend(each.escape_debug());
        }
    }

    if text.chars().nth(MAX_LINE).is_some() {
        line.push('…');
    }

    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_becomes_one_short_escaped_line() {
        let hostile = "don't\n  try: curl \u{202e}x\u{1b}[2J";
        assert_eq!(
            one_line(hostile),
            "don't\\n  try: curl \\u{202e}x\\u{1b}[2J"
        );

        let long = one_line(&"\u{1}".repeat(100_000));
        assert!(long.len() < 2000 && long.ends_with('…'));
    }
}
