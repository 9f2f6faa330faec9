//! Who is calling, as the kernel describes the process at the other end.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, OnceLock};

use interprocess::local_socket::tokio::Stream;
use rolekeeper::protocol::Process;

use super::tcp::Ends;
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
    nearest: OnceLock<Arc<Lineage>>,
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

    /// The other end of a connection over TCP, whose process is looked up when somebody wants to know.
    pub fn over_tcp(uid: u32, ends: Ends) -> Self {
        let peer = Self::new(uid, None);
        let _ = peer.nearest.set(Arc::new(Lineage { ends: Some(ends), ..Lineage::begin(None) }));
        peer
    }

    /// Whether it is given this session's credentials for the first time.
    pub fn is_first_time(&self, session: &str) -> bool {
        let mut given = lock(&self.given);
        !given.contains(session) && given.insert(session.into())
    }

    /// The process and those of its parents that may not be there for long. To be asked first while the peer waits for
    /// an answer.
    pub fn nearest(&self) -> &Arc<Lineage> {
        self.nearest.get_or_init(|| Arc::new(Lineage::begin(self.pid)))
    }
}

/// A process and its parents, the nearest first and without the one that started the system, as far as they can be seen:
/// by `/proc` on Linux, elsewhere not at all.
#[derive(Debug)]
pub struct Lineage {
    nearest: Vec<Process>,
    /// Who comes next.
    next: Option<i32>,
    /// Where it is to be found, if it came over TCP.
    ends: Option<Ends>,
    /// All of it, once somebody has wanted to know.
    whole: OnceLock<Vec<Process>>,
}

impl Lineage {
    fn begin(pid: Option<i32>) -> Self {
        let mut nearest = Vec::new();
        let next = follow(&mut nearest, pid, AT_ONCE);
        Self { nearest, next, ends: None, whole: OnceLock::new() }
    }

    /// All of it, looked up once for a connection.
    pub fn whole(&self) -> &[Process] {
        self.whole.get_or_init(|| {
            let mut whole = self.nearest.clone();
            let found = || self.ends?.other()?.process();
            follow(&mut whole, self.next.or_else(found), GENERATIONS);
            whole
        })
    }
}

/// Adds processes until there are so many. Returns who comes next.
fn follow(processes: &mut Vec<Process>, mut next: Option<i32>, generations: usize) -> Option<i32> {
    while let Some(pid) = next.filter(|pid| *pid > 1 && processes.len() < generations) {
        processes.push(Process { pid, program: program(pid) });
        next = parent(pid);
    }
    next
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
        let lineage = peer.nearest();
        let program = std::env::current_exe().unwrap().display().to_string();
        assert_eq!(lineage.nearest[0], Process { pid: me, program });
        let mother = pid(std::os::unix::process::parent_id());
        assert_eq!(lineage.nearest.get(1).map(|process| process.pid), Some(mother).filter(|pid| *pid > 1));
        let all = lineage.whole();
        assert!(all.starts_with(&lineage.nearest) && all.len() <= GENERATIONS);
        assert!(all.iter().all(|process| process.pid > 1));
        assert!(Peer::new(0, None).nearest().whole().is_empty());
    }

    #[test]
    fn a_session_is_new_to_a_connection_once() {
        let peer = Peer::new(0, None);
        assert!(peer.is_first_time("s-1") && !peer.is_first_time("s-1") && peer.is_first_time("s-2"));
    }
}
