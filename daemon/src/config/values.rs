//! Parsers of single values. An error is a predicate: the value is its subject.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use rolekeeper::connect::variable;
use rolekeeper::places;
use rustix::fs::{Access, access};

/// The rule for the names of profiles, upstreams and keyring entries.
pub(super) const NAME_RULE: &str =
    "1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit";

/// In the home folder, or absolute.
const USER_FOLDERS: &[&str] = &[
    ".local/bin",
    "bin",
    ".cargo/bin",
    "go/bin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/home/linuxbrew/.linuxbrew/bin",
    "/snap/bin",
];

/// A duration in whole seconds with units: `90s`, `15m`, `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok();
    parsed
        .and_then(|span| Duration::try_from(span).ok())
        .filter(|span| span.subsec_nanos() == 0)
        .ok_or_else(|| {
            "is not a duration; use a number and a unit, such as \"15m\" or \"1h30m\"".into()
        })
}

/// A duration within limits, which `limits` describes.
pub(super) fn duration_within(
    text: &str,
    range: RangeInclusive<Duration>,
    limits: &str,
) -> Result<Duration, String> {
    let duration = duration(text)?;
    if range.contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("is out of range; use {limits}"))
    }
}

/// The path of a program. A name alone is rejected: its meaning would depend on the `PATH` of the process that starts the daemon.
pub(super) fn program(text: &str, folder: &Path) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('/') {
        return path(text, folder);
    }

    match find_program(text) {
        Some(found) => Err(format!(
            "is not a path; write {:?}",
            found.display().to_string()
        )),
        None => Err(format!(
            "is not a path; write the one that `command -v {text}` prints"
        )),
    }
}

/// In `PATH`, and where users install programs: a daemon that a client has started has the system's `PATH`.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let of_process = variable("PATH").unwrap_or_default();
    let home = variable("HOME").map(PathBuf::from).unwrap_or_default();
    let of_user = USER_FOLDERS.iter().map(|folder| home.join(folder));

    std::env::split_paths(&of_process)
        .chain(of_user)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|path| is_executable(path))
}

pub(super) fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// `~/` is the home folder. A relative path starts at the folder of the configuration.
pub(super) fn path(text: &str, folder: &Path) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("is not a path".into());
    }

    let Some(rest) = text.strip_prefix("~/") else {
        return Ok(folder.join(text));
    };

    match places::home() {
        Some(home) => Ok(home.join(rest)),
        None => Err("starts with `~/`, but this user has no home".into()),
    }
}
