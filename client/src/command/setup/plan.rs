//! What is to become of files: it is shown, or done and told.

use std::fmt::Write as _;
use std::path::Path;

use rolekeeper::protocol::{Code, Failure};
use serde::Serialize;

use super::How;
use super::diff;
use super::file::Original;
use super::lines::Wrong;
use crate::command::{self, printable};

/// What is to become of one file.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) original: Original,
    /// None: it is to be gone.
    pub(super) after: Option<Vec<u8>>,
    pub(super) kind: FileKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A tool's configuration.
    Configuration,
    /// The same, in which a line may hold more than what is ours.
    Dense,
    /// A program of ours alone, of which no copy is kept.
    Script,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    /// How to use what was set up.
    pub(super) usage: String,
    /// What else there is to say, a sentence each.
    pub(super) notes: Vec<String>,
}

/// What became of one file, or is to.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    backup: Option<String>,
    /// Whether there is something to change.
    changed: bool,
    /// Whether that was done.
    written: bool,
    diff: String,
    #[serde(skip)]
    prose: String,
}

#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    configuration: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<Report>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

impl Plan {
    pub(super) fn carry_out(self, how: How) -> Result<(), Failure> {
        let mut prose = String::new();
        let (mut configuration, mut script) = (None, None);
        for change in self.changes {
            let kind = change.kind;
            let report = change.carry_out(how)?;
            prose += &report.prose;
            if kind == FileKind::Script {
                script = Some(report)
            } else {
                configuration = Some(report)
            }
        }
        let Some(configuration) = configuration else {
            return Ok(());
        };
        let is_changed =
            configuration.changed || script.as_ref().is_some_and(|script| script.changed);
        if is_changed && !how.write {
            prose += "Nothing is written yet: the same with --write does it.\n";
        }
        let usage = (!how.undo).then_some(self.usage);
        for note in &self.notes {
            let _ = writeln!(prose, "{note}");
        }
        if let Some(usage) = usage.as_ref().filter(|_| how.write || !is_changed) {
            let _ = writeln!(prose, "Use it: {usage}");
        }
        if how.json {
            return command::print_json(&Whole {
                configuration,
                script,
                usage,
                notes: self.notes,
            });
        }
        command::print(&shown(&prose))
    }
}

impl Change {
    fn carry_out(self, how: How) -> Result<Report, Failure> {
        let Self {
            original,
            after,
            kind,
        } = self;
        let file = original.path.display().to_string();
        if original.bytes == after {
            let prose = format!(
                "{file}: there is nothing to {}\n",
                if how.undo { "take out" } else { "change" }
            );
            return Ok(Report {
                file,
                backup: None,
                changed: false,
                written: false,
                diff: String::new(),
                prose,
            });
        }
        let is_masked = kind == FileKind::Dense;
        let (diff, fresh) = diff::unified(
            &original.path,
            original.bytes.as_deref(),
            after.as_deref(),
            is_masked,
        );
        let mut report = Report {
            file,
            backup: None,
            changed: true,
            written: how.write,
            prose: diff.clone(),
            diff,
        };
        if !how.write {
            return Ok(report);
        }
        let (mode, keep) = if kind == FileKind::Script {
            (0o755, false)
        } else {
            (0o600, true)
        };
        let done = match &after {
            None => {
                original.remove()?;
                "removed: there was nothing else in it".into()
            }
            Some(bytes) => {
                let copy = original.replace(bytes, mode, keep)?;
                report.backup = copy.map(|copy| copy.display().to_string());
                let lines = match fresh {
                    Some((first, last)) if first == last => format!(", line {first}"),
                    Some((first, last)) => format!(", lines {first} to {last}"),
                    None => String::new(),
                };
                let done = if original.bytes.is_none() {
                    "made"
                } else {
                    "written"
                };
                let before = report
                    .backup
                    .as_ref()
                    .map(|copy| format!("; as it was: {copy}"))
                    .unwrap_or_default();
                format!("{done}{lines}{before}")
            }
        };
        let _ = writeln!(report.prose, "{}: {done}", report.file);
        Ok(report)
    }
}

/// Prose in which nothing moves the cursor; tabs are part of files.
fn shown(prose: &str) -> String {
    let line = |line: &str| {
        line.split('\t')
            .map(printable)
            .collect::<Vec<_>>()
            .join("\t")
            + "\n"
    };
    prose.lines().map(line).collect()
}

/// What is to become of a file from which an entry is taken out, of which `left` is left. A copy that with that entry
/// would be the file as it is now is what there was before, to the byte; and a file in which nothing is left was made for
/// it, unless a copy says that it was there with nothing in it.
pub(super) fn undone(
    original: &Original,
    left: Vec<u8>,
    is_before: impl Fn(&[u8]) -> bool,
    is_blank: impl Fn(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let copies = original.backups();
    if let Some(before) = copies.iter().find(|copy| is_before(copy)) {
        return Some(before.clone());
    }
    let was_made =
        is_blank(&left) && !original.is_linked && !copies.iter().any(|copy| is_blank(copy));
    (!was_made).then_some(left)
}

/// A file that cannot be changed as it is.
pub(super) fn refused(path: &Path, wrong: &Wrong) -> Failure {
    Failure::new(
        Code::Configuration,
        format!("{}:{}: {}", path.display(), wrong.line, wrong.why),
        wrong
            .hint
            .unwrap_or("mend that by hand, or name another file with --file; nothing was changed"),
    )
}
