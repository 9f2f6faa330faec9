//! Who is calling: looked up in a process of its own. The daemon confines itself, and whoever is confined by Landlock may no
//! longer see what another process runs; the lookout sees that, and holds no secrets.

mod look;
mod post;
mod sight;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

pub use look::{Program, is_between};
pub use post::{ARGUMENT, stand_at};
pub use sight::{Pin, Seen, Sight};

use crate::sync::lock;
use post::{Query, Whom, stand};

/// The most that are looked for at once: more would be gone by the time they are found.
const WAITING: usize = 4096;

/// The way to the lookout.
#[derive(Debug)]
pub struct Lookout {
    socket: OwnedFd,
    next: AtomicU64,
    waiting: Arc<Waiting>,
    /// Whether a rule of the configuration wants a process to be the same all along, and the hash of its program.
    pins: AtomicBool,
    hashes: AtomicBool,
}

type Waiting = Mutex<HashMap<u64, Arc<Sight>>>;

impl Lookout {
    /// Starts one by this program's own file. To be called before the daemon confines itself.
    pub fn start(program: &std::path::Path) -> io::Result<Arc<Self>> {
        let (ours, theirs) = pair()?;
        let mut command = Command::new(program);
        command.arg(ARGUMENT).stdin(Stdio::from(theirs)).stdout(Stdio::null());
        command.env_clear();
        // It ends when nobody is left on the other side of its standard input, and nobody waits for it.
        drop(command.spawn()?);
        Ok(Self::at(ours))
    }

    /// In a thread of this process, which must not be confined.
    pub fn within() -> io::Result<Arc<Self>> {
        let (ours, theirs) = pair()?;
        thread::spawn(move || stand(&theirs));
        Ok(Self::at(ours))
    }

    /// One that an earlier process started.
    pub fn at(socket: OwnedFd) -> Arc<Self> {
        let waiting: Arc<Waiting> = Arc::default();
        if let Ok(socket) = socket.try_clone() {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || listen(&socket, &waiting));
        }
        let (next, pins, hashes) = (AtomicU64::new(1), AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { socket, next, waiting, pins, hashes })
    }

    /// What rules want to know, from now on.
    pub fn watch_for(&self, pins: bool, hashes: bool) {
        self.pins.store(pins, Ordering::Relaxed);
        self.hashes.store(hashes, Ordering::Relaxed);
    }

    pub(crate) fn has_pins(&self) -> bool {
        self.pins.load(Ordering::Relaxed)
    }

    /// Another hold on the way to it, for the process that comes next.
    pub fn leave_open(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Looks for a process. Nothing is waited for here.
    pub(crate) fn look_for(&self, pid: i32) -> Arc<Sight> {
        self.look(Whom::Pid(pid))
    }

    /// The same for whoever has a socket open.
    pub(crate) fn look_for_holder(&self, inode: u32) -> Arc<Sight> {
        self.look(Whom::Inode(inode))
    }

    fn look(&self, whom: Whom) -> Arc<Sight> {
        let (id, sight) = (self.next.fetch_add(1, Ordering::Relaxed), Sight::awaited());
        let (pin, hash) = (self.pins.load(Ordering::Relaxed), self.hashes.load(Ordering::Relaxed));
        let Ok(query) = serde_json::to_vec(&Query { id, whom, pin, hash }) else { return Sight::of_nobody() };
        {
            let mut waiting = lock(&self.waiting);
            if waiting.len() >= WAITING {
                return Sight::of_nobody();
            }
            waiting.insert(id, Arc::clone(&sight));
        }
        if send(self.socket.as_fd(), &query, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_err() {
            lock(&self.waiting).remove(&id);
            return Sight::of_nobody();
        }
        sight
    }
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// The thread that hands out what the lookout has seen, until there is none.
fn listen(socket: &OwnedFd, waiting: &Waiting) {
    while let Some((id, seen)) = post::receive(socket) {
        if let Some(sight) = lock(waiting).remove(&id) {
            sight.tell(Some(seen));
        }
    }
    tracing::warn!("the lookout is gone: who calls can no longer be told");
    for (_, sight) in lock(waiting).drain() {
        sight.tell(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_seen_with_its_parents_for_as_long_as_it_runs_what_it_ran() {
        let lookout = Lookout::within().unwrap();
        lookout.watch_for(true, true);
        let mut child = Command::new("sh").args(["-c", "read x; exec sleep 60"]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let sight = lookout.look_for(pid);
        let seen = sight.seen().await.unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let pids: Vec<_> = seen.programs.iter().map(|program| program.process.pid).collect();
        assert_eq!(pids[..2], [pid, me]);
        assert!(seen.programs[1].process.program.ends_with(std::env::current_exe().unwrap().to_str().unwrap()));
        let pin = seen.pin.as_ref().unwrap();
        assert!(pin.holds());
        // The shell's program is replaced by another, in the same process.
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, b"\n").unwrap();
        while pin.holds() {
            tokio::task::yield_now().await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(lookout.look_for(pid).seen().await.is_none_or(|seen| seen.programs.is_empty()));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_lookout_that_is_gone() {
        let (ours, theirs) = pair().unwrap();
        let lookout = Lookout::at(ours);
        let sight = lookout.look_for(1);
        drop(theirs);
        assert!(sight.seen().await.is_none());
        assert!(lookout.look_for(1).seen().await.is_none());
    }
}
