//! What a change takes out of a file and puts in, as a unified diff without context: the lines around it are somebody
//! else's, and may hold secrets.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

/// Above so many pairs of lines a change is shown as a whole.
const MOST_PAIRS: usize = 1 << 20;

/// One place that changes: lines counted from 0.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hunk {
    before: Range<usize>,
    after: Range<usize>,
}

/// The diff of a file, and which of its new lines are new, counted from 1 (nothing if none is). `None` stands for no file.
/// With `is_masked` what both sides of a change have in common is left out.
pub(super) fn unified(
    path: &Path,
    before: Option<&[u8]>,
    after: Option<&[u8]>,
    is_masked: bool,
) -> (String, Option<(usize, usize)>) {
    let (old, new) = (
        lines(before.unwrap_or_default()),
        lines(after.unwrap_or_default()),
    );
    let hunks = hunks(&old, &new);
    let name =
        |side: Option<&[u8]>| side.map_or("/dev/null".into(), |_| path.display().to_string());
    let mut text = format!("--- {}\n+++ {}\n", name(before), name(after));
    for hunk in &hunks {
        let _ = writeln!(
            text,
            "@@ -{} +{} @@",
            place(&hunk.before),
            place(&hunk.after)
        );
        let part = |all: &[String], range: &Range<usize>| {
            all.get(range.clone()).unwrap_or_default().join("\n")
        };
        let (mut gone, mut come) = (part(&old, &hunk.before), part(&new, &hunk.after));
        if is_masked && !hunk.before.is_empty() && !hunk.after.is_empty() {
            (gone, come) = masked(&gone, &come);
        }
        for (sign, range, side) in [('-', &hunk.before, gone), ('+', &hunk.after, come)] {
            if !range.is_empty() {
                side.split('\n')
                    .for_each(|line| text += &format!("{sign}{line}\n"));
            }
        }
    }
    let mut fresh = hunks.iter().filter(|hunk| !hunk.after.is_empty());
    let first = fresh.next();
    let last = fresh.next_back().or(first);
    (
        text,
        first
            .zip(last)
            .map(|(first, last)| (first.after.start + 1, last.after.end)),
    )
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// As `@@` has it: the first line and how many, or the line before and none.
fn place(range: &Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => format!("{}", range.start + 1),
        many => format!("{},{many}", range.start + 1),
    }
}

/// Both sides with a mark in the place of what they have in common at their ends, unless that is punctuation.
fn masked(before: &str, after: &str) -> (String, String) {
    let common = |left: &mut dyn Iterator<Item = char>, right: &mut dyn Iterator<Item = char>| {
        left.zip(right)
            .take_while(|(left, right)| left == right)
            .map(|(each, _)| each.len_utf8())
            .sum::<usize>()
    };
    let head = common(&mut before.chars(), &mut after.chars());
    let (old, new) = (before.split_at(head).1, after.split_at(head).1);
    let tail = common(&mut old.chars().rev(), &mut new.chars().rev());
    let shown = |part: &str| {
        let is_harmless = part
            .chars()
            .all(|each| each.is_whitespace() || "{}[],:\"".contains(each));
        if is_harmless {
            part.to_owned()
        } else {
            "…".into()
        }
    };
    let side = |rest: &str| {
        let (middle, end) = rest.split_at(rest.len() - tail);
        shown(before.split_at(head).0) + middle + &shown(end)
    };
    (side(old), side(new))
}

fn hunks(old: &[String], new: &[String]) -> Vec<Hunk> {
    let head = old
        .iter()
        .zip(new)
        .take_while(|(old, new)| old == new)
        .count();
    let (old, new) = (
        old.get(head..).unwrap_or_default(),
        new.get(head..).unwrap_or_default(),
    );
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(|(old, new)| old == new)
        .count();
    let old = old.get(..old.len() - tail).unwrap_or_default();
    let new = new.get(..new.len() - tail).unwrap_or_default();
    let mut found: Vec<Hunk> = Vec::new();
    let (mut at, mut to) = (0, 0);
    for (one, other) in kept(old, new).into_iter().chain([(old.len(), new.len())]) {
        if (at, to) != (one, other) {
            found.push(Hunk {
                before: head + at..head + one,
                after: head + to..head + other,
            });
        }
        (at, to) = (one + 1, other + 1);
    }
    found
}

/// Which lines stay: the longest common subsequence, as pairs of places.
fn kept(old: &[String], new: &[String]) -> Vec<(usize, usize)> {
    if old.len().saturating_mul(new.len()) > MOST_PAIRS {
        return Vec::new();
    }
    // How many lines can stay from here on, for each pair of places.
    let wide = new.len() + 1;
    let mut table = vec![0_usize; (old.len() + 1) * wide];
    let get = |table: &[usize], one: usize, other: usize| {
        table.get(one * wide + other).copied().unwrap_or(0)
    };
    for (one, line) in old.iter().enumerate().rev() {
        for (other, candidate) in new.iter().enumerate().rev() {
            let best = if line == candidate {
                get(&table, one + 1, other + 1) + 1
            } else {
                get(&table, one + 1, other).max(get(&table, one, other + 1))
            };
            if let Some(cell) = table.get_mut(one * wide + other) {
                *cell = best;
            }
        }
    }
    let (mut one, mut other, mut pairs) = (0, 0, Vec::new());
    while let (Some(line), Some(candidate)) = (old.get(one), new.get(other)) {
        if line == candidate {
            pairs.push((one, other));
            (one, other) = (one + 1, other + 1);
        } else if get(&table, one + 1, other) >= get(&table, one, other + 1) {
            one += 1;
        } else {
            other += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(before: &str, after: &str, is_masked: bool) -> String {
        let (text, _) = unified(
            Path::new("f"),
            Some(before.as_bytes()),
            Some(after.as_bytes()),
            is_masked,
        );
        text.lines().skip(2).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_diff_shows_what_changes_and_no_line_around_it() {
        assert_eq!(
            shown("a\nb\nc\n", "a\nb\nx\ny\nc\n", false),
            "@@ -2,0 +3,2 @@\n+x\n+y"
        );
        assert_eq!(
            shown("a\nb\nc\nd\ne\n", "a\nB\nc\ne\n", false),
            "@@ -2 +2 @@\n-b\n+B\n@@ -4 +3,0 @@\n-d"
        );
        assert_eq!(
            shown("a\nsecret", "a\nsecret\nx", false),
            "@@ -2,0 +3 @@\n+x"
        );
        let (text, fresh) = unified(Path::new("/f"), None, Some(b"x\n"), false);
        assert_eq!(
            (text.as_str(), fresh),
            ("--- /dev/null\n+++ /f\n@@ -0,0 +1 @@\n+x\n", Some((1, 1)))
        );
        let (text, fresh) = unified(Path::new("/f"), Some(b"x\n"), None, false);
        assert_eq!(
            (text.as_str(), fresh),
            ("--- /f\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", None)
        );
        let (_, fresh) = unified(
            Path::new("f"),
            Some(b"a\nb\nc\n"),
            Some(b"a\nB\nc\nD\n"),
            false,
        );
        assert_eq!(fresh, Some((2, 4)));
    }

    #[test]
    fn a_line_that_changes_in_part_is_shown_without_what_stays() {
        let before = r#"{"auths": {"r": {"auth": "c2VjcmV0"}}}"#;
        let after = r#"{"credHelpers": {"h": "x"}, "auths": {"r": {"auth": "c2VjcmV0"}}}"#;
        assert_eq!(
            shown(before, after, true),
            "@@ -1 +1 @@\n-{\"…\n+{\"credHelpers\": {\"h\": \"x\"}, \"…"
        );
    }
}
