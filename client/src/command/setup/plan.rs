//! The changes to a tool's configuration, and the report about them.

use std::fmt::Write as _;

use rolekeeper::protocol::Failure;
use rolekeeper::shell::quoted;
use serde::Serialize;

use super::file::{ApplyError, Edit};
use super::{Options, external};
use crate::command::{self, printable_lines};

#[derive(Debug)]
pub(super) struct Plan {
    /// In the order in which they are made. Empty once they have been made.
    pub(super) changes: Vec<Change>,
    /// A command that uses the new configuration.
    pub(super) example: String,
    pub(super) notes: Vec<Note>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Change {
    /// The tool changes its own configuration.
    Command {
        command: Vec<String>,
    },
    File(Edit),
}

/// Something that the user has to do.
#[derive(Debug, Serialize)]
pub(super) struct Note {
    pub(super) message: String,
    pub(super) hint: String,
}

#[derive(Serialize)]
struct Report<'a> {
    written: bool,
    changes: &'a [Change],
    example: Option<&'a str>,
    notes: &'a [Note],
}

impl Plan {
    pub(super) fn report(&self, profile: &str, options: &Options) -> Result<(), Failure> {
        let Options {
            write, undo, json, ..
        } = options;

        let example = (!undo).then_some(self.example.as_str());
        if *json {
            return command::print_json(&Report {
                written: *write && !self.changes.is_empty(),
                changes: &self.changes,
                example,
                notes: &self.notes,
            });
        }

        let mut text = match (self.changes.first(), write) {
            (Some(Change::Command { .. }), true) => "Commands that were run:\n".to_owned(),
            (Some(Change::Command { .. }), false) => "Commands to run:\n".to_owned(),
            (Some(Change::File(_)), _) => String::new(),
            (None, _) if *undo => format!("Profile {profile} is not set up.\n"),
            (None, _) => format!("Profile {profile} is already set up.\n"),
        };

        text.extend(self.changes.iter().map(|change| change.prose(*write)));
        let is_preview = !write && !self.changes.is_empty();
        if is_preview {
            text += "Run the command again with --write to make the changes.\n";
        }

        if let Some(example) = example.filter(|_| !is_preview) {
            let _ = writeln!(text, "Example: {example}");
        }

        for Note { message, hint } in &self.notes {
            let _ = writeln!(text, "Note: {message}\n  try: {hint}");
        }

        command::print(&(printable_lines(&text) + "\n"))
    }
}

impl Change {
    /// Refuses a change that cannot be made.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Command { .. } => Ok(()),
            Self::File(edit) => edit.check(),
        }
    }

    pub(super) fn apply(&self) -> Result<(), ApplyError> {
        match self {
            Self::Command { command } => external::run(command)
                .map(|_| ())
                .map_err(ApplyError::Failed),
            Self::File(edit) => edit.apply(),
        }
    }

    pub(super) fn prose(&self, is_done: bool) -> String {
        let edit = match self {
            Self::Command { command } => return format!("  {}\n", quoted(command)),
            Self::File(edit) => edit,
        };

        let verb = match (&edit.content, is_done) {
            (Some(_), true) => "Written",
            (Some(_), false) => "Will write",
            (None, true) => "Removed",
            (None, false) => "Will remove",
        };

        let mut text = format!("{verb}: {}\n", edit.file);
        if let Some(backup) = &edit.backup {
            let note = match backup.exists {
                true => " (from before the first change)",
                false => "",
            };
            let _ = writeln!(text, "Backup: {}{note}", backup.path.display());
        }

        for (sign, lines) in [('-', &edit.removed), ('+', &edit.added)] {
            text.extend(lines.iter().map(|line| format!("  {sign} {line}\n")));
        }

        text
    }
}
