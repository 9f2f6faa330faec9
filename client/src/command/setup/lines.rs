//! A text file as lines that keep their bytes: what is put between them is ended as they are, and nothing else moves.

use std::ops::Range;

/// What is wrong with a file, and in which line, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) why: String,
    /// What to do about it, where that is not to mend the file.
    pub(super) hint: Option<&'static str>,
}

impl Wrong {
    pub(super) fn new(line: usize, why: impl Into<String>) -> Self {
        Self {
            line,
            why: why.into(),
            hint: None,
        }
    }

    pub(super) fn or_try(self, hint: &'static str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }
}

#[derive(Debug)]
pub(super) struct Lines<'a> {
    /// The byte order mark, if there is one. It belongs to no line.
    mark: &'a [u8],
    lines: Vec<Line<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    content: &'a [u8],
    /// Nothing at the end of a file whose last line is not ended.
    end: &'a [u8],
}

const MARK: &[u8] = b"\xef\xbb\xbf";

impl<'a> Lines<'a> {
    /// Refuses a carriage return within a line: some readers end the line there, and others do not.
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, Wrong> {
        let (mark, bytes) = match bytes.strip_prefix(MARK) {
            Some(rest) => (MARK, rest),
            None => (&b""[..], bytes),
        };
        let mut lines = Vec::new();
        for (at, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let content = line
                .strip_suffix(b"\n")
                .map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
            if content.contains(&b'\r') {
                return Err(Wrong::new(
                    at + 1,
                    "there is a carriage return within this line",
                ));
            }
            lines.push(Line {
                content,
                end: line.get(content.len()..).unwrap_or_default(),
            });
        }
        Ok(Self { mark, lines })
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The lines without their ends.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator {
        self.lines.iter().map(|line| line.content)
    }

    /// A line, counted from 0, without its end. There is nothing in one that is not there.
    pub(super) fn at(&self, index: usize) -> &'a [u8] {
        self.lines
            .get(index)
            .map(|line| line.content)
            .unwrap_or_default()
    }

    /// The file with other lines in the place of some, counted from 0. If its last line is not ended, the last line of the
    /// new file is not either, so that the same lines taken out again leave the same bytes.
    pub(super) fn with<S: AsRef<[u8]>>(&self, place: Range<usize>, new: &[S]) -> Vec<u8> {
        let end = self
            .lines
            .iter()
            .rev()
            .map(|line| line.end)
            .find(|end| !end.is_empty())
            .unwrap_or(b"\n");
        let is_ended = self.lines.last().is_none_or(|line| !line.end.is_empty());
        let before = self.lines.iter().take(place.start).copied();
        let new = new.iter().map(|line| Line {
            content: line.as_ref(),
            end,
        });
        let after = self.lines.iter().skip(place.end).copied();
        let mut all: Vec<Line<'_>> = before.chain(new).chain(after).collect();
        for line in all.iter_mut().filter(|line| line.end.is_empty()) {
            line.end = end;
        }
        if let Some(last) = all.last_mut().filter(|_| !is_ended) {
            last.end = b"";
        }
        let mut bytes = self.mark.to_vec();
        for line in all {
            bytes.extend_from_slice(line.content);
            bytes.extend_from_slice(line.end);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_put_in_and_taken_out_again_leave_the_same_bytes() {
        let originals: [&[u8]; 9] = [
            b"",
            b"a",
            b"a\n",
            b"a\r\nb",
            b"a\r\nb\r\n",
            b"\n\n",
            b"\xef\xbb\xbfa\nb",
            b"\xff\xfe\n\x00",
            b"a\nb\r\n\n",
        ];
        for original in originals {
            let lines = Lines::of(original).unwrap();
            assert_eq!(lines.with::<&str>(0..0, &[]), original);
            for at in 0..=lines.len() {
                let with = lines.with(at..at, &["x", "y"]);
                let again = Lines::of(&with).unwrap();
                assert_eq!((again.at(at), again.at(at + 1)), (&b"x"[..], &b"y"[..]));
                assert_eq!(
                    again.with::<&str>(at..at + 2, &[]),
                    original,
                    "{original:?} at {at}"
                );
            }
        }
        assert_eq!(
            Lines::of(b"a\r\nb").unwrap().with(2..2, &["x"]),
            b"a\r\nb\r\nx"
        );
    }

    #[test]
    fn a_carriage_return_within_a_line_is_refused_with_its_line() {
        assert_eq!(Lines::of(b"a\nb\rc\n").unwrap_err().line, 2);
        assert_eq!(Lines::of(b"a\r\r\n").unwrap_err().line, 1);
        assert_eq!(Lines::of(b"a\r").unwrap_err().line, 1);
    }
}
