//! Words as Python's `shlex.split` finds them.

/// None if a quotation or an escape has no end.
pub fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    // None between words: a quotation may make an empty one.
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars();

    while let Some(each) = rest.next() {
        match (quote, each) {
            (Some(end), _) if each == end => quote = None,
            // Within double quotes, only these two are escaped.
            (Some('"'), '\\') => {
                let next = rest.next()?;
                let word = word.get_or_insert_default();
                if !matches!(next, '"' | '\\') {
                    word.push('\\');
                }
                word.push(next);
            }
            (None, '"' | '\'') => {
                quote = Some(each);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().push(rest.next()?),
            (None, ' ' | '\t' | '\r' | '\n') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(each),
        }
    }

    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn quotes_and_escapes_are_those_of_a_shell() {
        for (text, want) in [
            ("profile dev", &["profile", "dev"][..]),
            ("profile \"my dev\"", &["profile", "my dev"]),
            ("profile 'a\\b' \t c", &["profile", "a\\b", "c"]),
            ("profile a\\ b", &["profile", "a b"]),
            ("profile \"a\\\"b\\c\"", &["profile", "a\"b\\c"]),
            ("profile ''", &["profile", ""]),
            ("a\"b\"c", &["abc"]),
            ("", &[]),
        ] {
            assert_eq!(split(text).unwrap(), want, "{text}");
        }
        for bad in ["profile \"dev", "profile d'ev", "profile dev\\"] {
            assert!(split(bad).is_none(), "{bad}");
        }
    }
}
