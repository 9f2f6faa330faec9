//! The process at the other end of a connection, as the kernel describes it.

mod programs;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::journal::{Caller, Via};
use crate::platform::descriptors::register;
use crate::platform::peer_credentials::{is_alive, peer_credentials, peer_groups, peer_pidfd};
use crate::platform::sock_diag::Ends;
use crate::sandbox::helper::peer_inspector::{PeerInspector, PendingInspection, ProcessPin};
use crate::sync::lock;

pub(crate) use programs::{describe, file_id, is_interpreter, requesting_programs};

/// One connection's other end.
#[derive(Debug)]
pub struct Peer {
    /// Its effective user when it connected.
    pub(crate) uid: u32,
    pub(crate) pid: Option<i32>,
    /// Its groups when it connected, if a profile names groups.
    pub(crate) groups: Vec<u32>,
    handle: Arc<PeerHandle>,
    /// Refers to the process itself, where a rule may depend on it.
    pidfd: Option<OwnedFd>,
    /// Another process than the one that connected has sent something.
    is_passed_on: AtomicBool,
    has_passed_challenge: AtomicBool,
    /// The sessions whose credentials it got.
    given: Mutex<BTreeSet<String>>,
}

/// Finds the process of a connection and inspects it, once.
#[derive(Debug)]
pub(crate) struct PeerHandle {
    inspector: Option<Arc<PeerInspector>>,
    uid: u32,
    source: PeerSource,
    pin: OnceLock<ProcessPin>,
    inspection: OnceLock<Arc<PendingInspection>>,
    hashed: OnceLock<Arc<PendingInspection>>,
}

/// Where the process of a connection is found.
#[derive(Debug)]
enum PeerSource {
    Unknown,
    Pid(i32),
    Tcp(Ends),
}

impl PeerHandle {
    fn new(inspector: Option<&Arc<PeerInspector>>, uid: u32, source: PeerSource) -> Arc<Self> {
        Arc::new(Self {
            inspector: inspector.cloned(),
            uid,
            source,
            pin: OnceLock::new(),
            inspection: OnceLock::new(),
            hashed: OnceLock::new(),
        })
    }

    /// Pins the program that the process runs now. The inspection will describe this program, or
    /// fail.
    pub(crate) fn pin(&self) {
        if let (Some(inspector), PeerSource::Pid(pid)) = (&self.inspector, &self.source) {
            match inspector.pin(self.uid, *pid) {
                Ok(pin) => drop(self.pin.set(pin)),
                Err(none) => drop(self.inspection.set(none)),
            }
        }
    }

    /// The process and its parents. The first call starts the inspection, and has to come while the
    /// peer waits for a reply.
    pub(crate) fn inspection(&self) -> &Arc<PendingInspection> {
        self.inspection.get_or_init(|| self.inspect())
    }

    fn inspect(&self) -> Arc<PendingInspection> {
        let Some(inspector) = &self.inspector else {
            return PendingInspection::unavailable();
        };

        match &self.source {
            PeerSource::Unknown => PendingInspection::unavailable(),
            PeerSource::Pid(pid) => match self.pin.get() {
                Some(pin) => pin.inspect(),
                None => inspector.inspect(self.uid, *pid),
            },
            PeerSource::Tcp(ends) => match ends.other() {
                Some(socket) => inspector.inspect_socket_owner(self.uid, socket.inode),
                None => PendingInspection::unavailable(),
            },
        }
    }

    /// The same as [`Self::inspection`], with the SHA-256 of the programs' files.
    pub(crate) fn inspection_with_hashes(&self) -> &Arc<PendingInspection> {
        self.hashed
            .get_or_init(|| match (&self.inspector, &self.source) {
                (Some(inspector), PeerSource::Pid(pid)) => {
                    inspector.inspect_with_hashes(self.uid, *pid)
                }
                _ => PendingInspection::unavailable(),
            })
    }

    /// Whether the process still runs the program that was pinned, as `is_unchanged` of the result.
    pub(crate) fn check_again(&self) -> Arc<PendingInspection> {
        match (&self.inspector, self.pin.get()) {
            (Some(inspector), Some(pin)) => inspector.check_again(pin),
            _ => PendingInspection::unavailable(),
        }
    }

    pub(crate) fn is_inspector_gone(&self) -> bool {
        let inspector = self.inspector.as_ref();
        inspector.is_some_and(|inspector| inspector.has_exited())
    }

    /// Whether the inspector process works, for a request that has waited for it in vain.
    pub(crate) async fn is_inspector_responding(&self) -> bool {
        match &self.inspector {
            Some(inspector) => inspector.responds().await,
            None => false,
        }
    }
}

impl Peer {
    /// A peer whose process is unknown.
    pub fn new(uid: u32, pid: Option<i32>) -> Self {
        Self::with_handle(pid, PeerHandle::new(None, uid, PeerSource::Unknown))
    }

    fn with_handle(pid: Option<i32>, handle: Arc<PeerHandle>) -> Self {
        Self {
            uid: handle.uid,
            pid,
            groups: Vec::new(),
            handle,
            pidfd: None,
            is_passed_on: AtomicBool::new(false),
            has_passed_challenge: AtomicBool::new(false),
            given: Mutex::default(),
        }
    }

    /// The other end of a connection on the local socket.
    pub(crate) fn of(
        connection: &OwnedFd,
        inspector: &Arc<PeerInspector>,
        wants_groups: bool,
    ) -> io::Result<Self> {
        let credentials = peer_credentials(connection.as_fd())?;

        // The kernel gives no pid for a process outside of the daemon's PID namespace.
        let pid = Some(credentials.pid).filter(|pid| *pid > 0);
        let source = pid.map_or(PeerSource::Unknown, PeerSource::Pid);
        let handle = PeerHandle::new(Some(inspector), credentials.uid, source);

        let mut peer = Self::with_handle(pid, handle);
        if wants_groups {
            peer.groups = peer_groups(connection.as_fd());
        }

        peer.groups.push(credentials.gid);

        Ok(peer)
    }

    /// Refers to the process itself from now on.
    pub(crate) fn open_pidfd(&mut self, connection: &OwnedFd) {
        self.pidfd = peer_pidfd(connection.as_fd());
    }

    /// The other end of a TCP connection. Its process is found once it is needed.
    pub(crate) fn over_tcp(uid: u32, ends: Ends, inspector: &Arc<PeerInspector>) -> Self {
        let handle = PeerHandle::new(Some(inspector), uid, PeerSource::Tcp(ends));
        Self::with_handle(None, handle)
    }

    pub(crate) fn handle(&self) -> &Arc<PeerHandle> {
        &self.handle
    }

    /// Whether a rule may depend on the process that connected.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pidfd.is_some()
    }

    /// Whether the process that connected still runs. If so, its pid has been its own since then.
    pub(crate) fn is_alive(&self) -> bool {
        self.pidfd.as_ref().is_some_and(is_alive)
    }

    /// Returns once the process that connected has exited, if that can be noticed.
    pub(crate) async fn exited(&self) {
        let pidfd = self.pidfd.as_ref().and_then(|pidfd| pidfd.try_clone().ok());
        let exit = pidfd.and_then(|pidfd| register(pidfd).ok());
        match exit {
            Some(exit) if exit.readable().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }

    /// Whether the kernel names the process that connected.
    pub(crate) fn has_process(&self) -> bool {
        matches!(self.handle.source, PeerSource::Pid(_))
    }

    pub(crate) fn is_over_http(&self) -> bool {
        matches!(self.handle.source, PeerSource::Tcp(_))
    }

    /// The peer as the journal records it. Starts its inspection, if that has not started.
    pub fn caller(&self) -> Caller {
        let via = match self.handle.source {
            PeerSource::Unknown => None,
            PeerSource::Pid(_) => Some(Via::Socket),
            PeerSource::Tcp(_) => Some(Via::Http),
        };

        Caller {
            uid: self.uid,
            via,
            inspection: Arc::clone(self.handle.inspection()),
        }
    }

    /// Notes which process has sent something. Returns whether it belongs to the user who
    /// connected.
    pub(crate) fn check_sender(&self, uid: u32, pid: i32) -> bool {
        if self.pid != Some(pid) {
            self.is_passed_on.store(true, Ordering::Relaxed);
        }
        self.uid == uid
    }

    /// Whether another process than the one that connected has sent something.
    pub(crate) fn is_passed_on(&self) -> bool {
        self.is_passed_on.load(Ordering::Relaxed)
    }

    /// Marks the challenge as passed. The nonce is sent only after the inspection, so a process
    /// that called `exec` in between cannot know it.
    pub(crate) fn set_challenge_passed(&self) {
        self.has_passed_challenge.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_passed_challenge(&self) -> bool {
        self.has_passed_challenge.load(Ordering::Relaxed)
    }

    /// Whether it gets this session's credentials for the first time.
    pub(crate) fn is_first_time(&self, session: &str) -> bool {
        let mut given = lock(&self.given);
        !given.contains(session) && given.insert(session.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_is_new_to_a_connection_once() {
        let peer = Peer::new(0, None);
        assert!(peer.is_first_time("s-1"));
        assert!(!peer.is_first_time("s-1"));
        assert!(peer.is_first_time("s-2"));
    }

    #[test]
    fn connection_used_by_another_process_is_passed_on() {
        let peer = Peer::new(1000, Some(7));
        assert!(peer.check_sender(1000, 7) && !peer.is_passed_on());
        assert!(!peer.check_sender(1001, 7) && !peer.is_passed_on());
        assert!(peer.check_sender(1000, 8) && peer.is_passed_on());
    }
}
