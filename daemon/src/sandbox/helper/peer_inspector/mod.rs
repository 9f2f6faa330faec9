//! The program at the other end of a connection, as a helper process reads it from `/proc`. Landlock hides from the daemon
//! which program another process runs.

mod files;
mod hashes;
mod inspection;
mod pinned;
mod procfs;
mod worker;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use inspection::{Inspection, NotHashed, PendingInspection, Program};
pub(crate) use procfs::is_intermediary_name;
pub(super) use worker::run_worker;

use super::HelperKind;
use super::client::{Helper, StartedWork};
use worker::{InspectTarget, Work};

/// The daemon's side of the peer inspector process.
#[derive(Debug)]
pub(crate) struct PeerInspector {
    helper: Arc<Helper<Inspection>>,
    /// Whether a profile's rules need a process to stay the same from its connection to its last request.
    pins_peers: AtomicBool,
}

impl PeerInspector {
    /// Starts the process. Must be called before the daemon confines itself.
    pub(crate) fn start(program: &Path) -> io::Result<Arc<Self>> {
        let helper = Helper::start(HelperKind::PeerInspector, program)?;
        Ok(Self::with(helper))
    }

    /// Where processes cannot be inspected.
    pub(crate) fn unavailable() -> io::Result<Arc<Self>> {
        let helper = Helper::unavailable(HelperKind::PeerInspector)?;
        Ok(Self::with(helper))
    }

    #[cfg(test)]
    pub(crate) fn in_thread() -> io::Result<Arc<Self>> {
        let helper = Helper::in_thread(HelperKind::PeerInspector, run_worker)?;
        Ok(Self::with(helper))
    }

    /// The process that an earlier daemon started.
    pub(crate) fn inherited(socket: OwnedFd) -> Arc<Self> {
        Self::with(Helper::with_socket(HelperKind::PeerInspector, socket))
    }

    fn with(helper: Arc<Helper<Inspection>>) -> Arc<Self> {
        Arc::new(Self {
            helper,
            pins_peers: AtomicBool::new(false),
        })
    }

    /// See [`Helper::listen`].
    pub(crate) fn listen(&self) -> io::Result<()> {
        self.helper.listen()
    }

    /// A confined daemon cannot start another one.
    pub(crate) fn has_exited(&self) -> bool {
        self.helper.has_exited()
    }

    /// For the daemon process that comes next.
    pub(crate) fn try_clone_socket(&self) -> io::Result<OwnedFd> {
        self.helper.try_clone_socket()
    }

    pub(crate) fn set_pins_peers(&self, pins_peers: bool) {
        self.pins_peers.store(pins_peers, Ordering::Relaxed);
    }

    pub(crate) fn pins_peers(&self) -> bool {
        self.pins_peers.load(Ordering::Relaxed)
    }

    /// Whether inspections work. A process that is stopped or hangs is noticed after half a second.
    pub(crate) async fn responds(&self) -> bool {
        self.helper.responds(Work::Ping).await
    }

    pub(crate) fn inspect(&self, uid: u32, pid: i32) -> Arc<PendingInspection> {
        let target = InspectTarget::Pid(pid);
        self.start_inspection(
            uid,
            Work::Inspect {
                target,
                hash: false,
            },
        )
    }

    /// With the hash of its program, and of those that it is an intermediary of.
    pub(crate) fn inspect_with_hashes(&self, uid: u32, pid: i32) -> Arc<PendingInspection> {
        let target = InspectTarget::Pid(pid);
        self.start_inspection(uid, Work::Inspect { target, hash: true })
    }

    /// The process that has a socket open.
    pub(crate) fn inspect_socket_owner(&self, uid: u32, inode: u32) -> Arc<PendingInspection> {
        let target = InspectTarget::Socket(inode);
        self.start_inspection(
            uid,
            Work::Inspect {
                target,
                hash: false,
            },
        )
    }

    fn start_inspection(&self, uid: u32, work: Work) -> Arc<PendingInspection> {
        match self.helper.request(uid, work, &[]) {
            Ok(started) => started.into_response(),
            Err(error) => not_started(&error),
        }
    }

    /// Has a process pinned. Most connections end before a rule needs the rest of the inspection.
    pub(crate) fn pin(&self, uid: u32, pid: i32) -> Result<ProcessPin, Arc<PendingInspection>> {
        let started = self.helper.request(uid, Work::Pin(pid), &[]);

        match started {
            Ok(started) => Ok(ProcessPin { uid, started }),
            Err(error) => Err(not_started(&error)),
        }
    }

    /// Whether the pinned process still runs the same program, as `is_unchanged` of the result.
    pub(crate) fn check_again(&self, pin: &ProcessPin) -> Arc<PendingInspection> {
        self.start_inspection(pin.uid, Work::CheckAgain(pin.started.id()))
    }
}

fn not_started(error: &io::Error) -> Arc<PendingInspection> {
    match error.kind() {
        io::ErrorKind::WouldBlock => PendingInspection::rejected(),
        _ => PendingInspection::unavailable(),
    }
}

/// A process that the helper has pinned, until this is dropped.
#[derive(Debug)]
pub(crate) struct ProcessPin {
    uid: u32,
    started: StartedWork<Inspection>,
}

impl ProcessPin {
    /// Has the inspection completed.
    pub(crate) fn inspect(&self) -> Arc<PendingInspection> {
        match self.started.request_finish() {
            Ok(()) => Arc::clone(self.started.response()),
            Err(error) => not_started(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn pin_ends_with_exec() {
        let inspector = PeerInspector::in_thread().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "read x; exec sleep 60"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();

        let pin = inspector.pin(0, pid).unwrap();
        let pending = pin.inspect();
        let inspection = pending.result().await.unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let pids: Vec<_> = inspection
            .programs
            .iter()
            .map(|program| program.process.pid)
            .collect();
        assert_eq!(pids[..2], [pid, me], "the process and its parent");
        let exe = std::env::current_exe().unwrap();
        let parent = &inspection.programs[1].process.program;
        assert!(parent.ends_with(exe.to_str().unwrap()));
        let is_unchanged = async || {
            let again = inspector.check_again(&pin);
            again.result().await.unwrap().is_unchanged
        };
        assert!(is_unchanged().await);

        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"\n").unwrap();
        while is_unchanged().await {}
        child.kill().unwrap();
        child.wait().unwrap();
        let later = inspector.inspect(0, pid);
        let later = later.result().await;
        assert!(later.is_none_or(|inspection| inspection.programs.is_empty()));
    }
}
