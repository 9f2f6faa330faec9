//! What `/proc` says of a process, for the lookout.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use rolekeeper::protocol::Process;
use serde::{Deserialize, Serialize};

/// How many processes are looked at: the one that asked, its shell, an editor, a terminal, and what is between them.
const GENERATIONS: usize = 9;
/// How many of them are looked at first: the client, and the tool that started it, may both be gone a moment later.
const AT_ONCE: usize = 2;
/// The most of a path, in bytes.
const PATH: usize = 1024;
/// The most units.
const UNITS: usize = 16;
/// The most groups.
const GROUPS: usize = 1024;
/// The largest program that is hashed, in bytes.
const LARGEST: u64 = 1024 * 1024 * 1024;
/// How many hashes are remembered.
const HASHES: usize = 256;

/// A process and what it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Program {
    #[serde(flatten)]
    pub process: Process,
    /// Device and number of its program's file, if it may be looked at.
    pub file: Option<(u64, u64)>,
    /// Where that was asked for.
    pub sha256: Option<[u8; 32]>,
}

/// Whether a program only passes on what another one asks for: rolekeeper itself, and shells.
pub fn is_between(program: &str) -> bool {
    let name = program.trim_end_matches(" (deleted)").rsplit('/').next().unwrap_or(program);
    matches!(name, "rolekeeper" | "sh" | "ash" | "bash" | "busybox" | "dash" | "fish" | "ksh" | "mksh" | "zsh")
}

/// A process that is being looked at.
pub(super) struct Look {
    programs: Vec<Program>,
    next: Option<i32>,
    pub(super) pin: Option<OwnedFd>,
}

impl Look {
    /// What may be gone soonest.
    pub(super) fn begin(pid: Option<i32>, wants_pin: bool) -> Self {
        // The pin first: all that is read while it holds is read of one program.
        // Of another user's process only the second can be opened, by whoever may trace it.
        let open = |pid| ["pagemap", "maps"].iter().find_map(|file| File::open(format!("/proc/{pid}/{file}")).ok());
        let pin = pid.filter(|_| wants_pin).and_then(open);
        let mut look = Self { programs: Vec::new(), next: pid, pin: pin.map(Into::into) };
        look.follow(AT_ONCE);
        look
    }

    /// All of it.
    pub(super) fn finish(mut self, hashes: Option<&mut Hashes>) -> Report {
        self.follow(GENERATIONS);
        if let Some(hashes) = hashes {
            let asked = self.programs.iter().take_while(|program| is_between(&program.process.program)).count();
            for program in self.programs.iter_mut().take(asked + 1) {
                program.sha256 = hashes.of(program.process.pid);
            }
        }
        let pid = self.programs.first().map(|program| program.process.pid);
        let (has_terminal, _) = pid.and_then(stat).unwrap_or_default();
        Report {
            units: pid.map(units).unwrap_or_default(),
            groups: pid.map(groups).unwrap_or_default(),
            has_terminal,
            programs: self.programs,
            pin: self.pin,
        }
    }

    fn follow(&mut self, generations: usize) {
        while let Some(pid) = self.next.filter(|pid| *pid > 1 && self.programs.len() < generations) {
            let (_, parent) = stat(pid).unzip();
            if parent.is_some() {
                let (program, file) = program(pid);
                self.programs.push(Program { process: Process { pid, program }, file, sha256: None });
            }
            self.next = parent;
        }
    }
}

pub(super) struct Report {
    pub(super) programs: Vec<Program>,
    pub(super) units: Vec<String>,
    pub(super) has_terminal: bool,
    pub(super) groups: Vec<u32>,
    pub(super) pin: Option<OwnedFd>,
}

/// Whether it has a controlling terminal, and its parent. Proc_pid_stat(5): the fourth and the seventh field, behind the name in
/// parentheses, which may contain anything.
fn stat(pid: i32) -> Option<(bool, i32)> {
    // The fields that matter here are near the start.
    let mut text = [0; 256];
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut text).ok()?;
    let text = String::from_utf8_lossy(text.get(..length)?);
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((fields.nth(2)? != "0", parent))
}

/// The path of what it runs, or `?` for a process that may not be looked at, and which file that is.
fn program(pid: i32) -> (String, Option<(u64, u64)>) {
    let link = PathBuf::from(format!("/proc/{pid}/exe"));
    let Ok(path) = std::fs::read_link(&link) else { return ("?".into(), None) };
    let mut path = path.display().to_string();
    while path.len() > PATH {
        path.pop();
    }
    (path, std::fs::metadata(&link).ok().map(|meta| (meta.dev(), meta.ino())))
}

/// Cgroups(7): a path for each hierarchy, of which systemd names one after its units.
fn units(pid: i32) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return Vec::new() };
    let path = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (hierarchy, path) = (parts.next()?, parts.next()?);
        matches!(hierarchy, "" | "name=systemd").then(|| path.to_owned())
    };
    let mut units = Vec::new();
    for part in text.lines().filter_map(path).flat_map(|path| path.rsplit('/').map(str::to_owned).collect::<Vec<_>>()) {
        let is_unit = [".service", ".scope", ".slice"].iter().any(|kind| part.ends_with(kind));
        if is_unit && units.len() < UNITS && part.len() <= PATH && !units.contains(&part) {
            units.push(part);
        }
    }
    units
}

/// Its groups, the first one with which it makes files among them.
fn groups(pid: i32) -> Vec<u32> {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return Vec::new() };
    let mut groups = Vec::new();
    for line in text.lines() {
        if let Some(effective) = line.strip_prefix("Gid:").and_then(|ids| ids.split_whitespace().nth(1)) {
            groups.extend(effective.parse::<u32>().ok());
        } else if let Some(others) = line.strip_prefix("Groups:") {
            groups.extend(others.split_whitespace().filter_map(|id| id.parse::<u32>().ok()).take(GROUPS));
        }
    }
    groups
}

/// A process that has a socket open, of those that may be looked at.
pub(super) fn holder_of(inode: u32) -> Option<i32> {
    let wanted = format!("socket:[{inode}]");
    let has_it = |process: &Path| {
        let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        open.map(|entry| entry.path())
            .any(|path| std::fs::read_link(path).is_ok_and(|target| target.as_os_str() == wanted.as_str()))
    };
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut numbered = processes.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    numbered.find(|(_, path)| has_it(path)).map(|(pid, _)| pid)
}

/// What programs' files hash to, for as long as they are the same.
#[derive(Default)]
pub(super) struct Hashes(HashMap<(u64, u64, u64, i64, i64), [u8; 32]>);

impl Hashes {
    fn of(&mut self, pid: i32) -> Option<[u8; 32]> {
        let mut file = File::open(format!("/proc/{pid}/exe")).ok()?;
        let meta = file.metadata().ok().filter(|meta| meta.is_file() && meta.len() <= LARGEST)?;
        // A file's change time cannot be set to what it was.
        let key = (meta.dev(), meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec());
        if let Some(hash) = self.0.get(&key) {
            return Some(*hash);
        }
        let hash = hash(&mut file).ok()?;
        if self.0.len() >= HASHES {
            self.0.clear();
        }
        self.0.insert(key, hash);
        Some(hash)
    }
}

fn hash(file: &mut File) -> io::Result<[u8; 32]> {
    let (mut context, mut some) = (Context::new(&SHA256), vec![0; 256 * 1024]);
    loop {
        match file.read(&mut some)? {
            0 => break,
            length => context.update(some.get(..length).unwrap_or_default()),
        }
    }
    context.finish().as_ref().try_into().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_followed_by_its_parents_and_its_program_is_hashed_once() {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut hashes = Hashes::default();
        let report = Look::begin(Some(me), true).finish(Some(&mut hashes));
        let exe = std::env::current_exe().unwrap();
        let meta = std::fs::metadata(&exe).unwrap();
        let first = &report.programs[0];
        assert_eq!(first.process, Process { pid: me, program: exe.display().to_string() });
        assert_eq!(first.file, Some((meta.dev(), meta.ino())));
        let mut digest = Context::new(&SHA256);
        digest.update(&std::fs::read(&exe).unwrap());
        assert_eq!(first.sha256.unwrap(), digest.finish().as_ref());
        assert_eq!((hashes.0.len(), hashes.of(me)), (1, first.sha256));
        assert!(report.pin.is_some() && report.programs.len() <= GENERATIONS);
        assert!(report.programs.iter().all(|program| program.process.pid > 1));
        let groups = rustix::process::getgroups().unwrap().len() + 1;
        assert_eq!(report.groups.len(), groups);
        let nobody = Look::begin(None, true).finish(None);
        assert!(nobody.programs.is_empty() && nobody.pin.is_none());
    }

    #[test]
    fn the_holder_of_a_socket_is_found() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let inode = rustix::fs::fstat(&one).unwrap().st_ino;
        let found = holder_of(u32::try_from(inode).unwrap());
        assert_eq!(found, Some(i32::try_from(std::process::id()).unwrap()));
    }

    #[test]
    fn shells_and_rolekeeper_pass_on_what_others_ask_for() {
        for between in ["/usr/bin/rolekeeper", "/bin/sh", "/usr/bin/dash", "/x/rolekeeper (deleted)"] {
            assert!(is_between(between), "{between}");
        }
        for other in ["/usr/bin/terraform", "/usr/bin/python3.11", "?", "/bin/shim"] {
            assert!(!is_between(other), "{other}");
        }
    }
}
