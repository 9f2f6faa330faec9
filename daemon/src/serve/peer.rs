//! Who is calling, as the kernel describes the process at the other end.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Mutex, OnceLock};

use interprocess::local_socket::tokio::Stream;
use interprocess::local_socket::traits::StreamCommon;
use rolekeeper::protocol::Process;

use crate::lock;

/// How many parents are looked at: the tool that asked, its shell, an editor, a terminal, and what is between them.
const GENERATIONS: usize = 8;

/// One connection's other end.
#[derive(Debug)]
pub struct Peer {
    /// Effective user when the connection was made.
    pub uid: u32,
    pub pid: Option<i32>,
    /// The process, and its parent: looked up once, while it is surely there.
    process: OnceLock<(Option<Process>, Option<i32>)>,
    /// The sessions that it was given credentials of.
    given: Mutex<BTreeSet<String>>,
}

impl Peer {
    pub fn new(uid: u32, pid: Option<i32>) -> Self {
        Self { uid, pid, process: OnceLock::new(), given: Mutex::default() }
    }

    #[cfg(unix)]
    pub fn of(stream: &Stream) -> io::Result<Self> {
        let credentials = stream.peer_creds()?;
        let uid = credentials.euid().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        Ok(Self::new(uid, credentials.pid()))
    }

    /// Whether it is given this session's credentials for the first time.
    pub fn is_first_time(&self, session: &str) -> bool {
        let mut given = lock(&self.given);
        !given.contains(session) && given.insert(session.into())
    }

    /// The process and the id of its parent, as far as they can be seen: by `/proc` on Linux, elsewhere not at all. To be
    /// asked first while the peer waits for an answer, or it may be gone.
    pub fn process(&self) -> &(Option<Process>, Option<i32>) {
        self.process.get_or_init(|| match self.pid {
            Some(pid) => (Some(Process { pid, program: program(pid) }), parent(pid)),
            None => (None, None),
        })
    }
}

/// A process and its parents, the nearest first, without the one that started the system.
pub fn parents(pid: Option<i32>) -> impl Iterator<Item = Process> {
    let parents = std::iter::successors(pid, |pid| parent(*pid)).take_while(|pid| *pid > 1);
    parents.take(GENERATIONS).map(|pid| Process { pid, program: program(pid) })
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
        let me = i32::try_from(std::process::id()).unwrap();
        let peer = Peer::new(0, Some(me));
        let (process, mother) = peer.process();
        let program = std::env::current_exe().unwrap().display().to_string();
        assert_eq!(process.as_ref(), Some(&Process { pid: me, program }));
        assert_eq!(*mother, Some(i32::try_from(std::os::unix::process::parent_id()).unwrap()));
        assert_eq!(parents(*mother).next().map(|first| first.pid), mother.filter(|pid| *pid > 1));
        assert_eq!(parents(None).count(), 0);
    }

    #[test]
    fn a_session_is_new_to_a_connection_once() {
        let peer = Peer::new(0, None);
        assert!(peer.is_first_time("s-1") && !peer.is_first_time("s-1") && peer.is_first_time("s-2"));
    }
}
