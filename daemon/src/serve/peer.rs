//! Who is calling, as the kernel describes the process at the other end.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Mutex, OnceLock};

use interprocess::local_socket::tokio::Stream;
use rolekeeper::protocol::Process;

use crate::sync::lock;

/// How many processes are looked at: the one that asked, its shell, an editor, a terminal, and what is between them.
const GENERATIONS: usize = 9;
/// How many of them are looked at before there is an answer: the client, and the tool that started it, may both be gone a
/// moment later.
const AT_ONCE: usize = 2;

/// One connection's other end.
#[derive(Debug)]
pub struct Peer {
    /// Effective user when the connection was made.
    pub uid: u32,
    pub pid: Option<i32>,
    /// The process and its nearest parents, looked up once, while they are surely there.
    nearest: OnceLock<Lineage>,
    /// The sessions that it was given credentials of.
    given: Mutex<BTreeSet<String>>,
}

impl Peer {
    pub fn new(uid: u32, pid: Option<i32>) -> Self {
        Self { uid, pid, nearest: OnceLock::new(), given: Mutex::default() }
    }

    #[cfg(unix)]
    pub fn of(stream: &Stream) -> io::Result<Self> {
        let Stream::UdSocket(stream) = stream;
        let credentials = stream.inner().peer_cred()?;
        // A process outside of the daemon's container has no number in it.
        Ok(Self::new(credentials.uid(), credentials.pid().filter(|pid| *pid > 0)))
    }

    /// Whether it is given this session's credentials for the first time.
    pub fn is_first_time(&self, session: &str) -> bool {
        let mut given = lock(&self.given);
        !given.contains(session) && given.insert(session.into())
    }

    /// The process and those of its parents that may not be there for long. To be asked first while the peer waits for
    /// an answer.
    pub fn nearest(&self) -> &Lineage {
        self.nearest.get_or_init(|| {
            let mut lineage = Lineage { processes: Vec::new(), next: self.pid };
            lineage.follow(AT_ONCE);
            lineage
        })
    }
}

/// A process and its parents, the nearest first and without the one that started the system, as far as they can be seen:
/// by `/proc` on Linux, elsewhere not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    pub processes: Vec<Process>,
    /// Who comes next.
    next: Option<i32>,
}

impl Lineage {
    /// All of it.
    pub fn complete(mut self) -> Vec<Process> {
        self.follow(GENERATIONS);
        self.processes
    }

    fn follow(&mut self, generations: usize) {
        while let Some(pid) = self.next.filter(|pid| *pid > 1 && self.processes.len() < generations) {
            self.processes.push(Process { pid, program: program(pid) });
            self.next = parent(pid);
        }
    }
}

/// Proc(5): the fourth field of `stat`, behind the name in parentheses, which may contain anything.
fn parent(pid: i32) -> Option<i32> {
    // The fields that matter here are near the start.
    let mut stat = [0; 256];
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut stat).ok()?;
    let stat = String::from_utf8_lossy(stat.get(..length)?);
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The path of what it runs, or `?` for a process that may not be looked at.
fn program(pid: i32) -> String {
    std::fs::read_link(format!("/proc/{pid}/exe")).map_or_else(|_| "?".into(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_is_followed_by_its_parents() {
        let pid = |id: u32| i32::try_from(id).unwrap();
        let me = pid(std::process::id());
        let peer = Peer::new(0, Some(me));
        let nearest = peer.nearest().clone();
        let program = std::env::current_exe().unwrap().display().to_string();
        assert_eq!(nearest.processes[0], Process { pid: me, program });
        let mother = pid(std::os::unix::process::parent_id());
        assert_eq!(nearest.processes.get(1).map(|process| process.pid), Some(mother).filter(|pid| *pid > 1));
        let all = nearest.clone().complete();
        assert!(all.starts_with(&nearest.processes) && all.len() <= GENERATIONS);
        assert!(all.iter().all(|process| process.pid > 1));
        assert!(Peer::new(0, None).nearest().clone().complete().is_empty());
    }

    #[test]
    fn a_session_is_new_to_a_connection_once() {
        let peer = Peer::new(0, None);
        assert!(peer.is_first_time("s-1") && !peer.is_first_time("s-1") && peer.is_first_time("s-2"));
    }
}
