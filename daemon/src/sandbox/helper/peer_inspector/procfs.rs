//! What `/proc` says of a process, for the lookout.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ring::digest::{Context, SHA256};
use rolekeeper::protocol::Process;
use serde::{Deserialize, Serialize};

/// How many processes are looked at: the one that asked, its shell, an editor, a terminal, and what is between them.
const GENERATIONS: usize = 16;
/// How many of them are looked at first: the client, and the tool that started it, may both be gone a moment later.
const AT_ONCE: usize = 2;
/// The most of a path, in bytes.
const PATH: usize = 1024;
/// The most units.
const UNITS: usize = 16;
/// The largest program that is hashed, in bytes.
const LARGEST: u64 = 512 * 1024 * 1024;
/// How many hashes are remembered.
const HASHES: usize = 256;

/// A process and what it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Program {
    #[serde(flatten)]
    pub process: Process,
    /// Device and number of its program's file, if it may be looked at.
    pub file: Option<(u64, u64)>,
    /// It only passes on what another one asks for: rolekeeper itself, and a shell of the system's that nobody types into.
    pub is_between: bool,
    /// Where that was asked for.
    pub sha256: Option<[u8; 32]>,
}

/// Whether a program is called as those are that only pass on what others ask for.
pub fn is_between(program: &str) -> bool {
    let name = program
        .trim_end_matches(" (deleted)")
        .rsplit('/')
        .next()
        .unwrap_or(program);
    matches!(
        name,
        "rolekeeper" | "sh" | "ash" | "bash" | "busybox" | "dash" | "fish" | "ksh" | "mksh" | "zsh"
    )
}

/// A process that is being looked at.
#[derive(Default)]
pub(super) struct ProcReader {
    programs: Vec<Program>,
    next: Option<i32>,
    pub(super) pin: Option<OwnedFd>,
}

impl ProcReader {
    /// What may be gone soonest.
    pub(super) fn begin(pid: Option<i32>) -> Self {
        let mut look = Self {
            next: pid,
            ..Self::default()
        };
        look.follow(AT_ONCE);
        look
    }

    /// The process alone, and held: it may be long until it is asked for more, and most never are.
    pub(super) fn pinned(pid: i32) -> Self {
        // The pin first: all that is read while it holds is read of one program.
        // Of another user's process only the second can be opened, by whoever may trace it.
        let pin = ["pagemap", "maps"]
            .iter()
            .find_map(|file| File::open(format!("/proc/{pid}/{file}")).ok());
        let mut look = Self {
            next: Some(pid),
            pin: pin.map(Into::into),
            ..Self::default()
        };
        look.follow(1);
        look
    }

    /// All of it.
    pub(super) fn finish(mut self, hashes: Option<&mut Hashes>) -> Report {
        let pid = self.programs.first().map(|program| program.process.pid);
        let stat = pid.and_then(stat);
        if self.pin.is_some() {
            // Since it was pinned its parent may have ended, and the number have become another's.
            self.next = stat.map(|stat| stat.parent);
        }
        self.follow(GENERATIONS);
        if let Some(hashes) = hashes {
            let asked = self
                .programs
                .iter()
                .take_while(|program| program.is_between)
                .count();
            for program in self.programs.iter_mut().take(asked + 1) {
                program.sha256 = hashes.of(program.process.pid);
            }
        }
        Report {
            units: pid.map(units).unwrap_or_default(),
            has_terminal: stat.is_some_and(|stat| stat.has_terminal),
            is_here: pid.is_some_and(is_here),
            is_whole: !self.programs.is_empty() && self.next.is_some_and(|next| next <= 1),
            programs: self.programs,
            pin: self.pin,
        }
    }

    fn follow(&mut self, generations: usize) {
        while let Some(pid) = self
            .next
            .filter(|pid| *pid > 1 && self.programs.len() < generations)
        {
            let stat = stat(pid);
            if let Some(Stat { leads, .. }) = stat {
                let (program, meta) = program(pid);
                let file = meta.as_ref().map(|meta| (meta.dev(), meta.ino()));
                let is_between =
                    !leads && is_between(&program) && meta.is_some_and(|meta| is_trusted(&meta));
                self.programs.push(Program {
                    process: Process { pid, program },
                    file,
                    is_between,
                    sha256: None,
                });
            }
            self.next = stat.map(|stat| stat.parent);
        }
    }
}

pub(super) struct Report {
    pub(super) programs: Vec<Program>,
    pub(super) units: Vec<String>,
    pub(super) has_terminal: bool,
    pub(super) is_whole: bool,
    pub(super) is_here: bool,
    pub(super) pin: Option<OwnedFd>,
}

#[derive(Debug, Clone, Copy)]
struct Stat {
    parent: i32,
    has_terminal: bool,
    leads: bool,
}

/// Proc_pid_stat(5): the fourth, sixth and seventh field, behind the name in parentheses, which may contain anything.
fn stat(pid: i32) -> Option<Stat> {
    // The fields that matter here are near the start.
    let mut text = [0; 256];
    let length = File::open(format!("/proc/{pid}/stat"))
        .ok()?
        .read(&mut text)
        .ok()?;
    let text = String::from_utf8_lossy(text.get(..length)?);
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let session: i32 = fields.nth(1)?.parse().ok()?;
    let has_terminal = fields.next()? != "0";
    Some(Stat {
        parent,
        has_terminal,
        leads: has_terminal && session == pid,
    })
}

/// The path of what it runs, or `?` for a process that may not be looked at, and its file.
fn program(pid: i32) -> (String, Option<Metadata>) {
    let link = PathBuf::from(format!("/proc/{pid}/exe"));
    let Ok(path) = std::fs::read_link(&link) else {
        return ("?".into(), None);
    };
    let mut path = path.display().to_string();
    while path.len() > PATH {
        path.pop();
    }
    (path, std::fs::metadata(&link).ok())
}

/// Whether a file is what its name says: root's, which nobody else writes, or the client beside this very program.
fn is_trusted(meta: &Metadata) -> bool {
    let is_roots = meta.uid() == 0 && meta.mode() & 0o022 == 0;
    is_roots
        || client().is_some_and(|client| (client.dev(), client.ino()) == (meta.dev(), meta.ino()))
}

fn client() -> Option<Metadata> {
    static BESIDE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let beside =
        BESIDE.get_or_init(|| Some(std::env::current_exe().ok()?.with_file_name("rolekeeper")));
    std::fs::metadata(beside.as_deref()?).ok()
}

/// Whether a process is in the same namespace of processes as this one.
fn is_here(pid: i32) -> bool {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/pid")).ok();
    let own = of("self");
    own.is_some() && own == of(&pid.to_string())
}

/// Cgroups(7): a path for each hierarchy, of which systemd names one after its units. Below the first service or scope a user's own
/// processes may make what folders they like.
fn units(pid: i32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().find_map(units_of).unwrap_or_default()
}

fn units_of(line: &str) -> Option<Vec<String>> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (hierarchy, path) = (parts.next()?, parts.next()?);
    if !matches!(hierarchy, "" | "name=systemd") {
        return None;
    }
    let mut units = Vec::new();
    for part in path
        .split('/')
        .filter(|part| !part.is_empty() && part.len() <= PATH)
        .take(UNITS)
    {
        units.push(part.to_owned());
        if !part.ends_with(".slice") {
            break;
        }
    }
    Some(units)
}

/// A process that has a socket open, of those that may be looked at.
pub(super) fn holder_of(inode: u32) -> Option<i32> {
    let wanted = format!("socket:[{inode}]");
    let has_it = |process: &Path| {
        let open = std::fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        open.map(|entry| entry.path()).any(|path| {
            std::fs::read_link(path).is_ok_and(|target| target.as_os_str() == wanted.as_str())
        })
    };
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut numbered = processes
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    numbered.find(|(_, path)| has_it(path)).map(|(pid, _)| pid)
}

/// What programs' files hash to, for as long as they are the same.
#[derive(Default)]
pub(super) struct Hashes(HashMap<(u64, u64, u64, i64, i64), [u8; 32]>);

impl Hashes {
    fn of(&mut self, pid: i32) -> Option<[u8; 32]> {
        let mut file = File::open(format!("/proc/{pid}/exe")).ok()?;
        let meta = file
            .metadata()
            .ok()
            .filter(|meta| meta.is_file() && meta.len() <= LARGEST)?;
        // A file's change time cannot be set to what it was.
        let key = (
            meta.dev(),
            meta.ino(),
            meta.len(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
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
    context
        .finish()
        .as_ref()
        .try_into()
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_followed_by_its_parents_and_its_program_is_hashed_once() {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut hashes = Hashes::default();
        let report = ProcReader::pinned(me).finish(Some(&mut hashes));
        let exe = std::env::current_exe().unwrap();
        let meta = std::fs::metadata(&exe).unwrap();
        let first = &report.programs[0];
        assert_eq!(
            first.process,
            Process {
                pid: me,
                program: exe.display().to_string()
            }
        );
        assert_eq!(first.file, Some((meta.dev(), meta.ino())));
        let mut digest = Context::new(&SHA256);
        digest.update(&std::fs::read(&exe).unwrap());
        assert_eq!(first.sha256.unwrap(), digest.finish().as_ref());
        assert_eq!((hashes.0.len(), hashes.of(me)), (1, first.sha256));
        assert!(report.pin.is_some() && report.programs.len() <= GENERATIONS);
        assert!(
            report
                .programs
                .iter()
                .all(|program| program.process.pid > 1)
        );
        assert!(report.is_whole && report.is_here);
        let nobody = ProcReader::begin(None).finish(None);
        assert!(nobody.programs.is_empty() && nobody.pin.is_none());
    }

    #[test]
    fn a_parent_that_has_ended_since_a_process_was_pinned_is_not_taken_for_its_parent() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 >&- & echo $!; read x"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        let pid = said.trim().parse().unwrap();
        let look = ProcReader::pinned(pid);
        assert_eq!(look.next, i32::try_from(shell.id()).ok());
        drop(shell.stdin.take());
        shell.wait().unwrap();
        let report = look.finish(None);
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        assert!(
            report.programs.len() == 1
                || report.programs[1].process.pid != i32::try_from(shell.id()).unwrap()
        );
        assert!(
            report.is_whole,
            "its parents are followed from the one that it has now"
        );
    }

    #[test]
    fn a_unit_is_the_systems_and_nothing_that_is_made_below_it() {
        let table: &[(&str, &[&str])] = &[
            (
                "0::/system.slice/ci.service",
                &["system.slice", "ci.service"],
            ),
            (
                "0::/user.slice/user-7.slice/user@7.service/evil/ci.service",
                &["user.slice", "user-7.slice", "user@7.service"],
            ),
            ("1:name=systemd:/session-3.scope", &["session-3.scope"]),
            ("0::/", &[]),
        ];
        for (line, want) in table {
            assert_eq!(units_of(line).unwrap(), *want, "{line}");
        }
        assert!(units_of("4:memory:/system.slice/ci.service").is_none());
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
        for between in [
            "/usr/bin/rolekeeper",
            "/bin/sh",
            "/usr/bin/dash",
            "/x/rolekeeper (deleted)",
        ] {
            assert!(is_between(between), "{between}");
        }
        for other in [
            "/usr/bin/terraform",
            "/usr/bin/python3.11",
            "?",
            "/bin/shim",
        ] {
            assert!(!is_between(other), "{other}");
        }
    }
}
