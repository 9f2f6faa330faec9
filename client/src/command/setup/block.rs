//! Blocks of ours in files of sections: between two comments that say by which command they came. Whatever is outside of
//! them is never touched, and what somebody else has put inside of one is never thrown away.

use std::ops::Range;

use super::lines::{Lines, Wrong};

/// What a line is, by the rules of the file's own reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Empty, or a comment.
    Nothing,
    /// The first line of a section, with what is between its brackets.
    Section(String),
    /// A setting, or more of one.
    Setting,
}

/// What makes one tool's blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maker {
    pub(super) tool: &'static str,
    /// The option that names an entry: `--name`.
    pub(super) option: &'static str,
    /// Whether an entry is called as its profile if nothing else is said.
    pub(super) is_optional: bool,
    /// The settings that it writes.
    pub(super) settings: &'static [&'static str],
    pub(super) kinds: fn(&Lines<'_>) -> Result<Vec<Kind>, Wrong>,
}

/// A block that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) profile: String,
    pub(super) entry: String,
    /// Its lines, counted from 0, with the comments around it.
    pub(super) place: Range<usize>,
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Sections<'a> {
    lines: Lines<'a>,
    kinds: Vec<Kind>,
    pub(super) blocks: Vec<Block>,
    maker: Maker,
}

const BEGIN: &str = "# >>> rolekeeper setup ";
const BEGIN_END: &str = " >>>";
const END: &str = "# <<< rolekeeper setup ";
const END_END: &str = " <<<";

impl<'a> Sections<'a> {
    pub(super) fn read(bytes: &'a [u8], maker: Maker) -> Result<Self, Wrong> {
        let lines = Lines::of(bytes)?;
        let kinds = (maker.kinds)(&lines)?;
        let blocks = blocks(&lines, &kinds, maker)?;
        Ok(Self {
            lines,
            kinds,
            blocks,
            maker,
        })
    }

    pub(super) fn block(&self, entry: &str) -> Option<&Block> {
        self.blocks.iter().find(|block| block.entry == entry)
    }

    /// What else there is of ours in the file, for somebody who looks for something that is not.
    pub(super) fn commands(&self) -> Vec<String> {
        let command = |block: &Block| self.maker.command(&block.profile, &block.entry);
        self.blocks
            .iter()
            .map(|block| format!("There is what came by: rolekeeper setup {}", command(block)))
            .collect()
    }

    /// The sections that are not ours: the line, counted from 0, and what is between the brackets.
    pub(super) fn others(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_ours = |line: &usize| self.blocks.iter().any(|block| block.place.contains(line));
        self.kinds
            .iter()
            .enumerate()
            .filter(move |(line, _)| !is_ours(line))
            .filter_map(|(line, kind)| match kind {
                Kind::Section(name) => Some((line, name.as_str())),
                _ => None,
            })
    }

    /// The file with this entry: in the place of the one that is there, or at the end.
    pub(super) fn with(
        &self,
        profile: &str,
        entry: &str,
        body: &[String],
    ) -> Result<Vec<u8>, Wrong> {
        let place = match self.block(entry) {
            Some(block) => {
                self.only_ours(block)?;
                block.place.clone()
            }
            None => self.lines.len()..self.lines.len(),
        };
        let command = self.maker.command(profile, entry);
        let mut lines = vec![format!("{BEGIN}{command}{BEGIN_END}")];
        lines.extend_from_slice(body);
        lines.push(format!("{END}{command}{END_END}"));
        Ok(self.lines.with(place, &lines))
    }

    /// The file without a block of its.
    pub(super) fn without(&self, block: &Block) -> Result<Vec<u8>, Wrong> {
        self.only_ours(block)?;
        let behind = self
            .kinds
            .iter()
            .enumerate()
            .skip(block.place.end)
            .find(|(_, kind)| **kind != Kind::Nothing);
        match behind {
            Some((line, Kind::Setting)) => Err(Wrong::new(
                line + 1,
                "this setting is part of the section that is to be taken out, and not by rolekeeper",
            )),
            _ => Ok(self.lines.with::<&str>(block.place.clone(), &[])),
        }
    }

    /// Refuses a block in which somebody else has written.
    fn only_ours(&self, block: &Block) -> Result<(), Wrong> {
        let inside = block.place.start + 1..block.place.end - 1;
        for line in inside.clone() {
            let text = String::from_utf8_lossy(self.lines.at(line));
            let is_ours = match self.kinds.get(line) {
                Some(Kind::Section(_)) => line == inside.start && text.trim_end().ends_with(']'),
                Some(Kind::Setting) => {
                    let key = text.split_once('=').map(|(key, _)| key.trim());
                    line > inside.start && key.is_some_and(|key| self.maker.settings.contains(&key))
                }
                _ => text.trim().is_empty(),
            };
            if !is_ours {
                return Err(Wrong::new(
                    line + 1,
                    "this line in rolekeeper's part of the file is not rolekeeper's",
                ));
            }
        }
        Ok(())
    }
}

impl Maker {
    fn command(&self, profile: &str, entry: &str) -> String {
        let Self {
            tool,
            option,
            is_optional,
            ..
        } = self;
        if *is_optional && entry == profile {
            return format!("{tool} {profile}");
        }
        format!("{tool} {profile} {option} {entry}")
    }

    /// The profile and the entry of a command.
    fn parse(&self, command: &str) -> Option<(String, String)> {
        let words: Vec<&str> = command.split(' ').collect();
        let (profile, entry) = match *words.as_slice() {
            [tool, profile] if tool == self.tool && self.is_optional => (profile, profile),
            [tool, profile, option, entry] if tool == self.tool && option == self.option => {
                (profile, entry)
            }
            _ => return None,
        };
        Some((profile.into(), entry.into()))
    }
}

fn blocks(lines: &Lines<'_>, kinds: &[Kind], maker: Maker) -> Result<Vec<Block>, Wrong> {
    let mut found: Vec<Block> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let comments = lines
        .iter()
        .zip(kinds)
        .enumerate()
        .filter(|(_, (_, kind))| **kind == Kind::Nothing);
    for (line, (bytes, _)) in comments {
        let text = String::from_utf8_lossy(bytes);
        let begin = text
            .trim()
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(BEGIN_END));
        let end = text
            .trim()
            .strip_prefix(END)
            .and_then(|rest| rest.strip_suffix(END_END));
        match (begin, end, open.take()) {
            (None, None, before) => open = before,
            (Some(command), _, None) => open = Some((line, command.to_owned())),
            (_, Some(command), Some((start, began))) if command == began => {
                let (profile, entry) = maker.parse(command).ok_or_else(|| {
                    Wrong::new(
                        line + 1,
                        "this comment of rolekeeper's is not as setup writes it",
                    )
                })?;
                if found.iter().any(|block| block.entry == entry) {
                    return Err(Wrong::new(
                        start + 1,
                        format!("rolekeeper's entry {entry} is there twice"),
                    ));
                }
                found.push(Block {
                    profile,
                    entry,
                    place: start..line + 1,
                });
            }
            _ => {
                return Err(Wrong::new(
                    line + 1,
                    "this comment of rolekeeper's belongs to no other",
                ));
            }
        }
    }
    match open {
        Some((start, _)) => Err(Wrong::new(
            start + 1,
            "what rolekeeper began here has no end",
        )),
        None => Ok(found),
    }
}
