//! CRNs (A9), the names of resources: `crn:bycloud:<service>:<org_id>:<type>/<id-or-name>`, and
//! patterns of them.

/// All CRNs of a resource: by its id, and by its names. A pattern that matches one of them matches
/// the resource.
#[derive(Debug, Clone)]
pub(super) struct Crns(pub(super) Vec<String>);

impl Crns {
    pub(super) fn new(service: &str, org: &str, kind: &str, names: &[&str]) -> Self {
        let crns = names
            .iter()
            .map(|name| format!("crn:bycloud:{service}:{org}:{kind}/{name}"));

        Self(crns.collect())
    }

    /// The CRN for messages.
    pub(super) fn first(&self) -> &str {
        self.0.first().map_or("*", String::as_str)
    }

    pub(super) fn match_any(&self, patterns: &[String]) -> bool {
        patterns
            .iter()
            .any(|pattern| self.0.iter().any(|crn| matches(pattern, crn)))
    }
}

/// `*` matches any number of characters, `?` one. It takes at most `pattern * text` steps, because
/// after a mismatch only the last `*` takes one more character.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let mut p = 0;
    let mut t = 0;
    // The position of the last `*`, and of the text behind what it has taken.
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
                    p = *star + 1;
                    t = *taken;
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
    fn star_matches_any_run_and_question_mark_one_character() {
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
    fn pattern_with_many_stars_takes_polynomial_time() {
        let pattern = format!("{}b", "*a".repeat(200));
        let text = "a".repeat(5000);

        assert!(!matches(&pattern, &text));
    }
}
