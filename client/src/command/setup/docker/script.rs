//! The script that Docker knows as a credential helper: two lines that start this program. A file of that name that is
//! anything else is left alone.

use std::path::{Path, PathBuf};

use rolekeeper::protocol::{Code, Failure};

use super::super::file::Original;
use super::super::program::{self, escaped};

/// Where the script is, or is to be.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) original: Original,
    /// Whether it stays, because somebody else has changed it.
    pub(super) is_left: bool,
    pub(super) note: Option<String>,
}

const FIRST: &str = "#!/bin/sh\n";

/// The script of a profile. None if it is to be taken out and is not there.
pub(super) fn find(
    profile: &str,
    bin: Option<&Path>,
    undo: bool,
) -> Result<Option<Found>, Failure> {
    let name = format!("docker-credential-rolekeeper-{profile}");
    let search = program::search_path();
    let mut places: Vec<PathBuf> = search.clone();
    places.extend(candidates());
    let there = match bin {
        Some(folder) => Some(folder.to_owned()),
        None => places
            .into_iter()
            .find(|folder| folder.join(&name).symlink_metadata().is_ok()),
    };
    let folder = match there {
        Some(folder) => folder,
        None if undo => return Ok(None),
        None => candidates()
            .into_iter()
            .find(|folder| search.contains(folder) && is_writable(folder))
            .ok_or_else(nowhere)?,
    };
    let original = Original::read(&folder.join(&name))?;
    match &original.bytes {
        None if undo => Ok(None),
        None if !folder.is_dir() => Err(no_folder(&folder)),
        Some(bytes) if !is_ours(bytes, profile) && undo => {
            let note = format!(
                "{} stays: it is not as rolekeeper wrote it.",
                original.path.display()
            );
            Ok(Some(Found {
                original,
                is_left: true,
                note: Some(note),
            }))
        }
        Some(bytes) if !is_ours(bytes, profile) => Err(taken(&original.path)),
        _ => {
            let is_on_path =
                std::path::absolute(&folder).is_ok_and(|folder| search.contains(&folder));
            let note = format!(
                "Docker does not find the script: {} is not on PATH.",
                folder.display()
            );
            Ok(Some(Found {
                original,
                is_left: false,
                note: (!undo && !is_on_path).then_some(note),
            }))
        }
    }
}

impl Found {
    /// The script without these hosts.
    pub(super) fn without(&self, hosts: &[String]) -> Vec<u8> {
        let mut text = String::from_utf8_lossy(self.original.content()).into_owned();
        for host in hosts {
            text = text.replacen(&format!(" --host {} ", escaped(host)), " ", 1);
        }
        text.into_bytes()
    }
}

pub(super) fn text(
    program: &str,
    profile: &str,
    hosts: &[&String],
    username: Option<&str>,
    socket: Option<&str>,
) -> Vec<u8> {
    let mut command = format!(
        "{FIRST}exec {} docker-credential {profile}",
        escaped(program)
    );
    let hosts = hosts.iter().map(|host| ("--host", Some(host.as_str())));
    for (option, value) in hosts.chain([("--username", username), ("--socket", socket)]) {
        if let Some(value) = value {
            command += &format!(" {option} {}", escaped(value));
        }
    }
    (command + " \"$@\"\n").into_bytes()
}

fn is_ours(bytes: &[u8], profile: &str) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let command = text
        .strip_prefix(FIRST)
        .and_then(|rest| rest.strip_prefix("exec "))
        .unwrap_or_default();
    command.contains(&format!(" docker-credential {profile} --host "))
        && command
            .strip_suffix(" \"$@\"\n")
            .is_some_and(|command| !command.contains('\n'))
}

/// Where the script may go by itself.
fn candidates() -> Vec<PathBuf> {
    let at_home = [".local/bin", "bin"]
        .into_iter()
        .filter_map(|folder| program::at_home(folder).ok());
    let own = program::name()
        .ok()
        .and_then(|name| Path::new(&name).parent().map(Path::to_owned));
    at_home.chain(own).collect()
}

#[cfg(unix)]
fn is_writable(folder: &Path) -> bool {
    use rustix::fs::{Access, access};
    folder.is_dir() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
fn is_writable(folder: &Path) -> bool {
    folder.is_dir()
}

fn nowhere() -> Failure {
    Failure::new(
        Code::Configuration,
        "there is no folder for the script that Docker starts: of ~/.local/bin, ~/bin and this program's own, none is on \
         PATH and may be written to",
        "name a folder on PATH with --bin",
    )
}

fn no_folder(folder: &Path) -> Failure {
    let folder = folder.display();
    Failure::new(
        Code::Usage,
        format!("--bin: {folder} is no folder"),
        format!("mkdir -p {folder}"),
    )
}

fn taken(path: &Path) -> Failure {
    Failure::new(
        Code::Configuration,
        format!("{} is there already, and not by rolekeeper", path.display()),
        "another folder with --bin, or take it away first",
    )
}
