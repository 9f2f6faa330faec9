//! Which processes may use a profile: by user, by program, and by approval.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::raw::{Errors, Table};
use super::values::{duration, duration_within, program};
use crate::platform::users;

/// The conditions of a profile. All of them apply.
#[derive(Debug, Clone, Default)]
pub struct Callers {
    /// Users besides the daemon's own, by number.
    pub(crate) users: Vec<u32>,
    /// Groups whose members may use the profile, by number.
    pub(crate) groups: Vec<u32>,
    /// A process must match one of them. Without rules, every process of these users may use the profile.
    pub(crate) rules: Vec<CallerRule>,
    pub(crate) confirm: Confirm,
}

/// What a process must be. It must match every field that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CallerRule {
    /// The calling program: the peer, or the nearest of its ancestors that is no intermediary (the client or a shell).
    pub(crate) exe: Option<PathBuf>,
    /// The hash of that program's file.
    pub(crate) sha256: Option<[u8; 32]>,
    /// The program of any ancestor of the peer.
    pub(crate) under: Option<PathBuf>,
    /// The systemd unit that contains the peer.
    pub(crate) unit: Option<String>,
    /// Whether the peer has a controlling terminal.
    pub(crate) terminal: Option<bool>,
}

/// When a lease needs approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Confirm {
    #[default]
    Never,
    /// Once for each program, until the daemon stops.
    First,
    /// Once for each program and this time.
    For(Duration),
    /// At every request.
    Always,
}

impl Callers {
    /// Whether there are rules, which need to know the calling process.
    pub(crate) fn asks_for_process(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Whether the user alone does not decide. The process must then stay the same during its connection.
    pub(crate) fn is_guarded(&self) -> bool {
        self.asks_for_process() || self.confirm != Confirm::Never
    }

    /// Whether a rule needs the hash of the program.
    pub(crate) fn asks_for_hash(&self) -> bool {
        self.rules.iter().any(|rule| rule.sha256.is_some())
    }
}

/// The longest time of an approval: that of a session.
const MAX_APPROVAL: Duration = super::LONGEST_SESSION;

pub(super) fn parse(table: &mut Table<'_>, folder: &Path, errors: &mut Errors) -> Callers {
    let mut callers = Callers::default();
    table.names("users", errors, |name| {
        callers.users.push(number_of(name, "user", users::uid_of)?);
        Ok(())
    });

    table.names("groups", errors, |name| {
        callers
            .groups
            .push(number_of(name, "group", users::gid_of)?);
        Ok(())
    });

    for each in table.tables("callers", errors) {
        callers.rules.extend(rule(each, folder, errors));
    }

    callers.confirm = table.string("confirm", errors, confirm).unwrap_or_default();

    callers
}

fn rule(mut table: Table<'_>, folder: &Path, errors: &mut Errors) -> Option<CallerRule> {
    let rule = CallerRule {
        exe: table.string("exe", errors, |text| caller_program(text, folder)),
        sha256: table.string("sha256", errors, sha256),
        under: table.string("under", errors, |text| caller_program(text, folder)),
        unit: table.string("unit", errors, unit),
        terminal: table.boolean("terminal", errors),
    };

    if table.is_empty() {
        let message = format!(
            "`{}` contains an empty rule; set {{ exe = \"PATH\" }}",
            table.path
        );
        errors.add(&table.span, message);
    }

    table.finish(errors);

    (rule != CallerRule::default()).then_some(rule)
}

/// A program that is missing now may be installed later.
fn caller_program(text: &str, folder: &Path) -> Result<PathBuf, String> {
    let path = program(text, folder)?;
    if path.is_dir() {
        Err("is a folder, not a program".into())
    } else {
        Ok(path)
    }
}

fn unit(text: &str) -> Result<String, String> {
    let has_suffix = text.contains('.');
    if has_suffix && !text.contains(|each: char| each == '/' || each.is_whitespace()) {
        Ok(text.to_owned())
    } else {
        Err("is not a unit; use a name such as \"ci.service\"".into())
    }
}

fn sha256(text: &str) -> Result<[u8; 32], String> {
    let error =
        || "is not a SHA-256; use the 64 hexadecimal digits that sha256sum prints".to_owned();
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(error());
    }

    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = text
            .get(at..at + 2)
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .ok_or_else(error)?;
    }

    Ok(hash)
}

fn confirm(text: &str) -> Result<Confirm, String> {
    match text {
        "never" => Ok(Confirm::Never),
        "first" => Ok(Confirm::First),
        "always" => Ok(Confirm::Always),
        _ if duration(text).is_err() => Err(
            "is not an option; use \"always\", \"first\", \"never\" or a duration such as \"15m\""
                .into(),
        ),
        _ => {
            let range = Duration::from_secs(1)..=MAX_APPROVAL;
            duration_within(text, range, "1s to 12h").map(Confirm::For)
        }
    }
}

/// By a name of this system, or a number.
fn number_of(
    name: &str,
    kind: &str,
    find: impl FnOnce(&str) -> Option<u32>,
) -> Result<u32, String> {
    let number = name.parse().ok().or_else(|| find(name));
    number.ok_or_else(|| format!("is not a {kind} of this system"))
}
