//! Which processes may have a profile: what its configuration says of users, programs and a person's word.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{file_path, time_span};
use super::raw::{Faults, Table};
use crate::platform::users;

/// What a profile asks of whoever wants it.
#[derive(Debug, Clone, Default)]
pub struct Callers {
    /// Users beside the daemon's own, by number.
    pub users: Vec<u32>,
    /// Groups whose members may have it, by number.
    pub groups: Vec<u32>,
    /// One of these has to fit; none means that every process of those users may.
    pub rules: Vec<CallerRule>,
    pub confirm: Confirm,
}

/// What a process has to be. Everything that is given has to be so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallerRule {
    /// The program that asked: the peer, or the nearest of its parents that is neither rolekeeper nor a shell.
    pub exe: Option<PathBuf>,
    /// What that program's file hashes to.
    pub sha256: Option<[u8; 32]>,
    /// A program further up: any of the peer's parents.
    pub under: Option<PathBuf>,
    /// The systemd unit that the peer runs in.
    pub unit: Option<String>,
    /// Whether the peer has a controlling terminal.
    pub terminal: Option<bool>,
}

/// When a person is asked before a lease is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confirm {
    #[default]
    Never,
    /// Once for each program, for as long as the daemon runs.
    First,
    /// Once for each program, which is good for so long.
    For(Duration),
    /// At every request.
    Always,
}

impl Callers {
    /// Whether rules have to fit, which they cannot where it is not known which process asks.
    pub fn asks_for_process(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Whether more counts than the user whose process it is: it has to be the same all along, then.
    pub fn is_guarded(&self) -> bool {
        self.asks_for_process() || self.confirm != Confirm::Never
    }

    /// Whether programs have to be hashed for it.
    pub fn asks_for_hash(&self) -> bool {
        self.rules.iter().any(|rule| rule.sha256.is_some())
    }
}

/// The longest that a person's word is good for: as long as any session.
const LONGEST_WORD: Duration = super::LONGEST_SESSION;

/// What a profile's table says of who may have it.
pub(super) fn callers(table: &mut Table<'_>, folder: &Path, faults: &mut Faults) -> Callers {
    let mut callers = Callers::default();
    table.names("users", faults, |name| {
        callers.users.push(number_of(name, "user", users::uid_of)?);
        Ok(())
    });
    table.names("groups", faults, |name| {
        callers
            .groups
            .push(number_of(name, "group", users::gid_of)?);
        Ok(())
    });
    for each in table.tables("callers", faults) {
        callers.rules.extend(rule(each, folder, faults));
    }
    callers.confirm = table.text("confirm", faults, confirm).unwrap_or_default();
    callers
}

fn rule(mut table: Table<'_>, folder: &Path, faults: &mut Faults) -> Option<CallerRule> {
    let program = |text: &str| {
        let path = file_path(text, folder)?;
        // What is not there now may be installed later, but a folder never runs.
        if path.is_dir() {
            Err("is a folder, not a program".into())
        } else {
            Ok(path)
        }
    };
    let rule = CallerRule {
        exe: table.text("exe", faults, program),
        sha256: table.text("sha256", faults, sha256),
        under: table.text("under", faults, program),
        unit: table.text("unit", faults, |text| {
            let is_unit = text.contains('.')
                && !text.contains(|each: char| each == '/' || each.is_whitespace());
            if is_unit {
                Ok(text.to_owned())
            } else {
                Err("is no unit; write one such as \"ci.service\"".into())
            }
        }),
        terminal: table.flag("terminal", faults),
    };
    if table.is_empty() {
        let what = "names nothing that a caller has to be; write { exe = \"PATH\" }";
        faults.add(&table.span.clone(), format!("`{}` {what}", table.path));
    }
    table.finish(faults);
    (rule != CallerRule::default()).then_some(rule)
}

fn sha256(text: &str) -> Result<[u8; 32], String> {
    let wrong = || "is no SHA-256: 64 hexadecimal digits, as sha256sum prints them".to_owned();
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = text
            .get(at..at + 2)
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .ok_or_else(wrong)?;
    }
    Ok(hash)
}

fn confirm(text: &str) -> Result<Confirm, String> {
    match text {
        "never" => Ok(Confirm::Never),
        "first" => Ok(Confirm::First),
        "always" => Ok(Confirm::Always),
        _ => match time_span(text) {
            Ok(span) if !span.is_zero() && span <= LONGEST_WORD => Ok(Confirm::For(span)),
            Ok(_) => Err("is out of range; a person's word is good for 1s to 12h".into()),
            Err(_) => {
                Err("is none of \"always\", \"first\", \"never\" and a time such as \"15m\"".into())
            }
        },
    }
}

/// A name that this machine knows, or a number.
fn number_of(
    name: &str,
    what: &str,
    find: impl FnOnce(&str) -> Option<u32>,
) -> Result<u32, String> {
    name.parse()
        .ok()
        .or_else(|| find(name))
        .ok_or_else(|| format!("is no {what} of this machine"))
}
