//! Names of things (A9): `crn:bycloud:<service>:<org_id>:<type>/<id-or-name>`, and patterns of them.

/// Everything a thing is called: by its id, and by its name where it has one. A pattern that matches one matches it.
#[derive(Debug, Clone)]
pub(super) struct Crns(pub(super) Vec<String>);

impl Crns {
    pub(super) fn new<'a>(
        service: &str,
        org: &str,
        kind: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self(
            names
                .into_iter()
                .map(|name| format!("crn:bycloud:{service}:{org}:{kind}/{name}"))
                .collect(),
        )
    }

    pub(super) fn match_any(&self, patterns: &[String]) -> bool {
        patterns
            .iter()
            .any(|pattern| self.0.iter().any(|name| matches(pattern, name)))
    }
}

/// `*` stands for any run of characters, none included, and `?` for one. It takes at most `pattern * text` steps:
/// after a mismatch only the last `*` takes one character more.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || Some(wanted) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match &mut last_star {
                None => return false,
                Some((star, taken)) => {
                    *taken += 1;
                    (p, t) = (*star + 1, *taken);
                }
            },
        }
    }
    pattern.iter().skip(p).all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_runs_and_single_characters() {
        let table = [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*", "a", true),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "acb", false),
            (
                "crn:bycloud:iam:*:role/S3*",
                "crn:bycloud:iam:org:role/S3ReadOnly",
                true,
            ),
            (
                "crn:bycloud:iam:*:role/S3*",
                "crn:bycloud:iam:org:user/S3ReadOnly",
                false,
            ),
            ("iam:Get*", "iam:getRole", false),
            ("*é?", "xéy", true),
        ];
        for (pattern, text, want) in table {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_ends_in_time() {
        let (pattern, text) = (format!("{}b", "*a".repeat(200)), "a".repeat(5000));
        assert!(!matches(&pattern, &text));
    }
}
