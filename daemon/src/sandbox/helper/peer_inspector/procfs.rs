//! Reads processes from `/proc`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rolekeeper::protocol::Process;
use rustix::fs::statfs;

use super::files::{FileIdentity, is_local};
use super::hashes::Hashes;
use super::inspection::{Inspection, Program};

/// The most processes of one inspection: the peer, its shell, an editor, a terminal, and what is between them.
const MAX_GENERATIONS: usize = 16;

/// The client and the tool that started it. Both may exit a moment later, so they are read first.
const FIRST_GENERATIONS: usize = 2;

/// The longest path, in bytes.
const MAX_PATH: usize = 1024;

const MAX_UNITS: usize = 16;

/// Whether a program of this name acts for the process that started it: the client, or a shell.
pub(crate) fn is_intermediary_name(program: &str) -> bool {
    let path = program.trim_end_matches(" (deleted)");
    let name = path.rsplit('/').next().unwrap_or(path);
    matches!(
        name,
        "rolekeeper" | "sh" | "ash" | "bash" | "busybox" | "dash" | "fish" | "ksh" | "mksh" | "zsh"
    )
}

/// An inspection in progress.
#[derive(Default)]
pub(super) struct ProcReader {
    /// The process that is read next.
    next: Option<i32>,
    programs: Vec<Program>,
    is_pinned: bool,
}

impl ProcReader {
    /// Reads the processes that may exit soonest.
    pub(super) fn start(pid: Option<i32>) -> Self {
        let mut reader = Self {
            next: pid,
            ..Self::default()
        };
        reader.read_up_to(FIRST_GENERATIONS);
        reader
    }

    /// Reads a process that is pinned, and it alone.
    pub(super) fn pinned(pid: i32) -> Self {
        let mut reader = Self {
            next: Some(pid),
            is_pinned: true,
            ..Self::default()
        };

        reader.read_up_to(1);

        reader
    }

    /// Device and inode of the program that the process runs.
    pub(super) fn first_file(&self) -> Option<(u64, u64)> {
        self.programs.first()?.file
    }

    pub(super) fn finish(mut self) -> Inspection {
        self.read_rest();
        self.compare_paths();
        let pid = self.programs.first().map(|program| program.process.pid);
        let stat = pid.and_then(stat);

        let reached_init = self.next.is_some_and(|next| next <= 1);
        Inspection {
            units: pid.map(units).unwrap_or_default(),
            has_terminal: stat.is_some_and(|stat| stat.has_terminal),
            in_pid_namespace: pid.is_some_and(is_in_own_pid_namespace),
            is_complete: !self.programs.is_empty() && reached_init,
            programs: self.programs,
            is_unchanged: false,
        }
    }

    /// For the programs that a user reads about: the intermediaries, the one that asks, and its parent.
    fn compare_paths(&mut self) {
        let intermediaries = self.programs.iter().take_while(|it| it.is_intermediary);
        let shown = intermediaries.count() + 2;
        for program in self.programs.iter_mut().take(shown) {
            let here = FileIdentity::at(Path::new(&program.process.program));
            program.is_elsewhere = program.file.is_some() && program.file != here.map(|it| it.id);
        }
    }

    /// Hashes the programs that a rule may name: the intermediaries, and the first that is none.
    pub(super) fn hash_programs(&mut self, hashes: &mut Hashes) {
        self.read_rest();
        for program in &mut self.programs {
            match hashes.of_process(program.process.pid) {
                Ok(hash) => program.sha256 = Some(hash),
                Err(reason) => program.not_hashed = Some(reason),
            }
            if !program.is_intermediary {
                break;
            }
        }
    }

    fn read_rest(&mut self) {
        // Since the process was pinned, its parent may have exited, and another process have that pid.
        if self.is_pinned
            && let [pinned] = self.programs.as_slice()
        {
            self.next = stat(pinned.process.pid).map(|stat| stat.parent);
        }
        self.read_up_to(MAX_GENERATIONS);
    }

    fn read_up_to(&mut self, generations: usize) {
        while let Some(pid) = self.next
            && pid > 1
            && self.programs.len() < generations
        {
            let stat = stat(pid);
            if let Some(stat) = stat {
                self.programs.push(read_program(pid, stat));
            }
            self.next = stat.map(|stat| stat.parent);
        }
    }
}

fn read_program(pid: i32, stat: Stat) -> Program {
    let (program, file) = executable(pid);
    // A person types into a shell that leads a terminal's session: it acts for itself.
    let is_intermediary = !stat.leads_terminal
        && is_intermediary_name(&program)
        && file.is_some_and(|file| is_trusted(pid, file));
    Program {
        process: Process { pid, program },
        file: file.map(|file| file.id),
        is_intermediary,
        is_elsewhere: false,
        sha256: None,
        not_hashed: None,
    }
}

#[derive(Debug, Clone, Copy)]
struct Stat {
    parent: i32,
    has_terminal: bool,
    /// It leads the session of its terminal.
    leads_terminal: bool,
}

/// Fields 4, 6 and 7 of proc_pid_stat(5). The name before them, in parentheses, may contain anything.
fn stat(pid: i32) -> Option<Stat> {
    // These fields are near the start.
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
        leads_terminal: has_terminal && session == pid,
    })
}

/// The path of the program and its file, or `?` for a process that must not be read.
fn executable(pid: i32) -> (String, Option<FileIdentity>) {
    let link = exe(pid);
    let Ok(path) = std::fs::read_link(&link) else {
        return ("?".into(), None);
    };

    let mut path = path.display().to_string();
    while path.len() > MAX_PATH {
        path.pop();
    }

    (path, FileIdentity::at(&link))
}

/// Device and inode of the program that a process runs now.
pub(super) fn program_file(pid: i32) -> Option<(u64, u64)> {
    FileIdentity::at(&exe(pid)).map(|file| file.id)
}

pub(super) fn exe(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/exe"))
}

/// Whether a file is the program that its name claims: only root can write it, or it is the client beside this program.
/// A file system that a user serves can claim that a file is root's.
fn is_trusted(pid: i32, file: FileIdentity) -> bool {
    let is_roots = file.uid == 0 && file.mode & 0o022 == 0;
    let is_client = || client().is_some_and(|client| client.id == file.id);

    let is_local = || statfs(exe(pid)).is_ok_and(|found| is_local(&found, file.id.0));

    is_client() || (is_roots && is_local())
}

fn client() -> Option<FileIdentity> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let program = std::env::current_exe().ok()?;
        Some(program.with_file_name("rolekeeper"))
    });
    FileIdentity::at(path.as_deref()?)
}

fn is_in_own_pid_namespace(pid: i32) -> bool {
    let own = pid_namespace("self");
    own.is_some() && own == pid_namespace(&pid.to_string())
}

fn pid_namespace(process: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/pid")).ok()
}

/// From cgroups(7): a line for each hierarchy, one of which systemd names after its units. Below the first service or scope,
/// the user's own processes can create folders of any name.
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
        .filter(|part| !part.is_empty() && part.len() <= MAX_PATH)
        .take(MAX_UNITS)
    {
        units.push(part.to_owned());
        if !part.ends_with(".slice") {
            break;
        }
    }

    Some(units)
}

/// A process that has this socket open. Processes that must not be read are skipped.
pub(super) fn socket_owner(inode: u32) -> Option<i32> {
    let socket = format!("socket:[{inode}]");
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(pid) = pid
            && has_open(&entry.path(), Path::new(&socket))
        {
            return Some(pid);
        }
    }

    None
}

fn has_open(process: &Path, file: &Path) -> bool {
    std::fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == file))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::MetadataExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn inspection_lists_process_and_ancestors() {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut reader = ProcReader::pinned(me);
        reader.hash_programs(&mut Hashes::default());
        let inspection = reader.finish();

        let exe = std::env::current_exe().unwrap();
        let meta = std::fs::metadata(&exe).unwrap();
        let first = &inspection.programs[0];
        let process = Process {
            pid: me,
            program: exe.display().to_string(),
        };
        assert_eq!(first.process, process);
        assert_eq!(first.file, Some((meta.dev(), meta.ino())));
        assert!(first.sha256.is_some() && !first.is_elsewhere);
        assert!(inspection.programs.len() <= MAX_GENERATIONS);
        let of_me = |program: &&Program| program.process.pid == me;
        assert_eq!(inspection.programs.iter().filter(of_me).count(), 1);
        let pids = inspection
            .programs
            .iter()
            .map(|program| program.process.pid);
        assert!(pids.min() > Some(1));
        assert!(inspection.is_complete && inspection.in_pid_namespace);

        let none = ProcReader::start(None).finish();
        assert!(none.programs.is_empty());
    }

    #[test]
    fn exited_parent_is_not_reported() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 >&- & echo $!; read x"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let shell_pid = i32::try_from(shell.id()).unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let pid = line.trim().parse().unwrap();
        let reader = ProcReader::pinned(pid);
        assert_eq!(reader.next, Some(shell_pid));

        drop(shell.stdin.take());
        shell.wait().unwrap();
        let inspection = reader.finish();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let parent = inspection.programs.get(1);
        assert!(parent.is_none_or(|parent| parent.process.pid != shell_pid));
        assert!(inspection.is_complete, "up from the new parent");
    }

    #[test]
    fn units_below_first_service_are_ignored() {
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
    fn socket_owner_is_found() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let inode = rustix::fs::fstat(&one).unwrap().st_ino;
        let found = socket_owner(u32::try_from(inode).unwrap());
        assert_eq!(found, Some(i32::try_from(std::process::id()).unwrap()));
    }

    #[test]
    fn client_and_shells_are_intermediaries() {
        for between in [
            "/usr/bin/rolekeeper",
            "/bin/sh",
            "/usr/bin/dash",
            "/x/rolekeeper (deleted)",
        ] {
            assert!(is_intermediary_name(between), "{between}");
        }
        for other in [
            "/usr/bin/terraform",
            "/usr/bin/python3.11",
            "?",
            "/bin/shim",
        ] {
            assert!(!is_intermediary_name(other), "{other}");
        }
    }
}
