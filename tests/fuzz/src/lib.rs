//! What the targets compare with: what is looked at is never its own measure.

/// Whether a text fits a pattern of `*` and `?`, by their definition and with no thought of speed.
pub fn fits(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // Of each length: does a beginning of the text fit the beginning of the pattern so far?
    let mut fit: Vec<bool> = (0..=text.len()).map(|length| length == 0).collect();
    for each in pattern.chars() {
        let first = fit.iter().position(|fits| *fits);
        let grows = |length: usize| match each {
            '*' => first.is_some_and(|first| first <= length),
            _ => length > 0 && fit[length - 1] && (each == '?' || each == text[length - 1]),
        };
        fit = (0..=text.len()).map(grows).collect();
    }
    fit[text.len()]
}
