//! Who is calling: looked up in a process of its own. The daemon confines itself, and whoever is confined by Landlock may no
//! longer see what another process runs; the lookout sees that, and holds no secrets.

mod inspection;
mod procfs;
mod worker;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::net::{SendFlags, send};

pub use inspection::{Inspection, PendingInspection, ProcessPin};
pub use procfs::{Program, is_between};
pub use worker::{ARGUMENT, stand_at};

use crate::sandbox::helper::ipc;
use crate::sync::lock;
use worker::{InspectTarget, Query, Task};

/// The most that are looked for at once: more would be gone by the time they are found.
const WAITING: usize = 4096;

/// The way to the lookout.
#[derive(Debug)]
pub struct PeerInspector {
    socket: OwnedFd,
    next: AtomicU64,
    waiting: Arc<Waiting>,
    /// Whether a rule of the configuration wants a process to be the same all along.
    pins: AtomicBool,
    state: Arc<State>,
}

/// Who waits, and for what is known of whom.
type Waiting = Mutex<HashMap<u64, (Arc<PendingInspection>, InspectTarget)>>;

/// How it is with the lookout.
#[derive(Debug, Default)]
pub(crate) struct State {
    is_gone: AtomicBool,
    /// It has not answered in time, and nobody need wait until it answers again.
    is_stuck: AtomicBool,
}

impl PeerInspector {
    /// Starts one by this program's own file. To be called before the daemon confines itself.
    pub fn start(program: &std::path::Path) -> io::Result<Arc<Self>> {
        Ok(Self::at(ipc::start(program, ARGUMENT, false)?))
    }

    /// Where processes cannot be looked at.
    pub fn none() -> io::Result<Arc<Self>> {
        let lookout = Self::at(std::os::unix::net::UnixStream::pair()?.0.into());
        lookout.state.is_gone.store(true, Ordering::Relaxed);
        Ok(lookout)
    }

    /// In a thread of this process.
    #[cfg(test)]
    pub fn within() -> io::Result<Arc<Self>> {
        let (ours, theirs) = ipc::pair()?;
        thread::spawn(move || worker::stand(&theirs));
        let lookout = Self::at(ours);
        lookout.listen()?;
        Ok(lookout)
    }

    /// One that an earlier process started.
    pub fn at(socket: OwnedFd) -> Arc<Self> {
        // What an earlier process asked may still be answered: it is not to be taken for an answer to this one.
        let next = AtomicU64::new(fastrand::u64(..u64::MAX / 2));
        let (waiting, pins, state) = (Arc::default(), AtomicBool::new(false), Arc::default());
        Arc::new(Self {
            socket,
            next,
            waiting,
            pins,
            state,
        })
    }

    /// Begins to hear its answers, in a thread that is as confined as this one.
    pub fn listen(&self) -> io::Result<()> {
        let (socket, waiting, state) = (
            self.socket.try_clone()?,
            Arc::clone(&self.waiting),
            Arc::clone(&self.state),
        );
        thread::spawn(move || listen(&socket, &waiting, &state));
        Ok(())
    }

    /// Whether there is none any more. Nobody can start one from here.
    pub fn is_gone(&self) -> bool {
        self.state.is_gone.load(Ordering::Relaxed)
    }

    /// What rules want to know, from now on.
    pub fn watch_for(&self, pins: bool) {
        self.pins.store(pins, Ordering::Relaxed);
    }

    pub(crate) fn has_pins(&self) -> bool {
        self.pins.load(Ordering::Relaxed)
    }

    /// Another hold on the way to it, for the process that comes next.
    pub fn leave_open(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Looks for a process. Nothing is waited for here.
    pub(crate) fn look_for(&self, pid: i32) -> Arc<PendingInspection> {
        self.look(InspectTarget::Pid(pid), false)
    }

    /// The same with what its program, and those that it passes on for, hash to.
    pub(crate) fn look_and_hash(&self, pid: i32) -> Arc<PendingInspection> {
        self.look(InspectTarget::Pid(pid), true)
    }

    /// The same for whoever has a socket open.
    pub(crate) fn look_for_holder(&self, inode: u32) -> Arc<PendingInspection> {
        self.look(InspectTarget::Inode(inode), false)
    }

    /// Has a process pinned, and the rest looked for when somebody wants to know.
    pub(crate) fn begin(self: &Arc<Self>, pid: i32) -> Option<InspectionStart> {
        let id = self.next_id();
        self.tell(id, Task::Begin(pid)).then(|| InspectionStart {
            id,
            pid,
            lookout: Some(Arc::clone(self)),
        })
    }

    fn look(&self, whom: InspectTarget, hash: bool) -> Arc<PendingInspection> {
        self.ask(self.next_id(), whom, Task::ProcReader { whom, hash })
    }

    fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn ask(&self, id: u64, whom: InspectTarget, task: Task) -> Arc<PendingInspection> {
        let sight = PendingInspection::awaited(&self.state);
        {
            let mut waiting = lock(&self.waiting);
            if self.is_gone() || waiting.len() >= WAITING {
                return PendingInspection::of_nobody();
            }
            waiting.insert(id, (Arc::clone(&sight), whom));
        }
        if !self.tell(id, task) {
            lock(&self.waiting).remove(&id);
            return PendingInspection::of_nobody();
        }
        sight
    }

    fn tell(&self, id: u64, task: Task) -> bool {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        serde_json::to_vec(&Query { id, task })
            .is_ok_and(|text| send(self.socket.as_fd(), &text, flags).is_ok())
    }
}

/// A process that is pinned for as long as nobody has wanted to know more of it.
#[derive(Debug)]
pub(crate) struct InspectionStart {
    id: u64,
    pid: i32,
    lookout: Option<Arc<PeerInspector>>,
}

impl InspectionStart {
    pub(crate) fn finish(mut self) -> Arc<PendingInspection> {
        let lookout = self.lookout.take();
        lookout.map_or_else(PendingInspection::of_nobody, |lookout| {
            lookout.ask(self.id, InspectTarget::Pid(self.pid), Task::Finish)
        })
    }
}

impl Drop for InspectionStart {
    fn drop(&mut self) {
        if let Some(lookout) = self.lookout.take() {
            lookout.tell(self.id, Task::Forget);
        }
    }
}

/// The thread that hands out what the lookout has seen, until there is none.
fn listen(socket: &OwnedFd, waiting: &Waiting, state: &State) {
    while let Some((id, seen)) = worker::receive(socket) {
        state.is_stuck.store(false, Ordering::Relaxed);
        let asked = lock(waiting).remove(&id);
        if let Some((sight, whom)) = asked {
            let first = seen.programs.first().map(|program| program.process.pid);
            let is_about =
                !matches!(whom, InspectTarget::Pid(pid) if first.is_some_and(|first| first != pid));
            sight.tell(Some(seen).filter(|_| is_about));
        }
    }
    let mut waiting = lock(waiting);
    state.is_gone.store(true, Ordering::Relaxed);
    tracing::error!(
        "the lookout is gone: who calls can no longer be told until rolekeeperd is restarted"
    );
    for (_, (sight, _)) in waiting.drain() {
        sight.tell(None);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn a_process_is_seen_with_its_parents_for_as_long_as_it_runs_what_it_ran() {
        let lookout = PeerInspector::within().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "read x; exec sleep 60"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let sight = lookout.begin(pid).unwrap().finish();
        let seen = sight.seen().await.unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let pids: Vec<_> = seen
            .programs
            .iter()
            .map(|program| program.process.pid)
            .collect();
        assert_eq!(pids[..2], [pid, me]);
        assert!(
            seen.programs[1]
                .process
                .program
                .ends_with(std::env::current_exe().unwrap().to_str().unwrap())
        );
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
        assert!(
            lookout
                .look_for(pid)
                .seen()
                .await
                .is_none_or(|seen| seen.programs.is_empty())
        );
    }

    #[tokio::test]
    async fn nobody_waits_for_a_lookout_that_is_gone() {
        let (ours, theirs) = ipc::pair().unwrap();
        let lookout = PeerInspector::at(ours);
        lookout.listen().unwrap();
        let sight = lookout.look_for(1);
        drop(theirs);
        assert!(sight.seen().await.is_none());
        assert!(lookout.look_for(1).seen().await.is_none());
    }
}
