//! Objects of a JSON text, changed in place: what is put in comes first, laid out as what is there, and nothing else moves.
//! The text has to be JSON: what reads it here looks for places, not for faults.

use std::ops::Range;

/// Where an object is and what it has.
#[derive(Debug)]
pub(super) struct Object {
    /// Behind its first brace.
    start: usize,
    /// Before its last one.
    end: usize,
    pub(super) members: Vec<Member>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// With the quotes of its name.
    pub(super) start: usize,
    pub(super) value: Range<usize>,
}

impl Object {
    /// The object that begins here, behind white space.
    pub(super) fn at(text: &str, place: usize) -> Option<Self> {
        let mut cursor = Cursor { text, place };
        cursor.take(b'{')?;
        let start = cursor.place;
        let mut members = Vec::new();
        while cursor.peek()? != b'}' {
            let name = cursor.value()?;
            let decoded = serde_json::from_str(text.get(name.clone())?).ok()?;
            cursor.take(b':')?;
            members.push(Member {
                name: decoded,
                start: name.start,
                value: cursor.value()?,
            });
            if cursor.peek()? == b',' {
                cursor.take(b',')?;
            }
        }
        let end = cursor.place;
        Some(Self {
            start,
            end,
            members,
        })
    }

    /// The text with more members before the others. Each is written as it is to stand there, behind so much space.
    pub(super) fn with(&self, text: &str, members: &[String], layout: &Layout) -> String {
        let inside = text.get(self.start..self.end).unwrap_or_default();
        let new = match self.members.first() {
            Some(first) => {
                let space = text.get(self.start..first.start).unwrap_or_default();
                let between = if space.contains('\n') {
                    format!(",{space}")
                } else {
                    ", ".into()
                };
                let rest = text.get(first.start..self.end).unwrap_or_default();
                format!("{space}{}{between}{rest}", members.join(&between))
            }
            None => {
                let between = format!(
                    ",{}",
                    if layout.before.is_empty() {
                        " "
                    } else {
                        &layout.before
                    }
                );
                let after = if inside.contains('\n') {
                    inside
                } else {
                    &layout.after
                };
                format!("{}{}{after}", layout.before, members.join(&between))
            }
        };
        replaced(text, self.start..self.end, &new)
    }

    /// The text without a member.
    pub(super) fn without(&self, text: &str, name: &str) -> String {
        let Some(index) = self.members.iter().position(|member| member.name == name) else {
            return text.into();
        };
        let gone = self
            .members
            .get(index)
            .map_or(0..0, |member| member.start..member.value.end);
        let before = index
            .checked_sub(1)
            .and_then(|index| self.members.get(index));
        let place = match (before, self.members.get(index + 1)) {
            (_, Some(next)) => gone.start..next.start,
            (Some(before), None) => before.value.end..gone.end,
            (None, None) => self.start..self.end,
        };
        replaced(text, place, "")
    }

    pub(super) fn get(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The space before the first member, if it has lines of their own.
    pub(super) fn space<'a>(&self, text: &'a str) -> Option<&'a str> {
        let space = text.get(self.start..self.members.first()?.start)?;
        space.contains('\n').then_some(space)
    }
}

/// Where members go in an object that has none: what comes before each, and what after the last.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) before: String,
    pub(super) after: String,
}

fn replaced(text: &str, place: Range<usize>, new: &str) -> String {
    let part = |range: Option<&str>| range.unwrap_or_default().to_owned();
    part(text.get(..place.start)) + new + &part(text.get(place.end..))
}

struct Cursor<'a> {
    text: &'a str,
    place: usize,
}

impl Cursor<'_> {
    /// What is next, behind white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.place..)?;
        self.place += rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        self.text.as_bytes().get(self.place).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        let is_next = self.peek()? == byte;
        self.place += 1;
        is_next.then_some(())
    }

    /// Goes over a value.
    fn value(&mut self) -> Option<Range<usize>> {
        let first = self.peek()?;
        let start = self.place;
        match first {
            b'"' => self.text()?,
            b'{' | b'[' => self.container()?,
            _ => {
                let rest = self.text.as_bytes().get(start..)?;
                self.place += rest
                    .iter()
                    .position(|byte| byte.is_ascii_whitespace() || b",}]".contains(byte))?;
            }
        }
        Some(start..self.place)
    }

    fn container(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.text.as_bytes().get(self.place)? {
                b'"' => {
                    self.text()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.place += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn text(&mut self) -> Option<()> {
        self.place += 1;
        loop {
            match self.text.as_bytes().get(self.place)? {
                b'\\' => self.place += 2,
                b'"' => break,
                _ => self.place += 1,
            }
        }
        self.place += 1;
        Some(())
    }
}
