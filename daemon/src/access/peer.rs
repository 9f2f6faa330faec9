//! Who is at the other end of a connection, as the kernel describes it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use interprocess::local_socket::tokio::Stream;

use crate::platform::sock_diag::Ends;
use crate::platform::sys::{connected_by, groups_of, is_alive};
use crate::sandbox::helper::peer_inspector::{InspectionStart, PeerInspector, PendingInspection};
use crate::sync::lock;

/// One connection's other end.
#[derive(Debug)]
pub struct Peer {
    /// Effective user when the connection was made.
    pub uid: u32,
    pub pid: Option<i32>,
    /// Its groups when the connection was made, if it is known.
    pub groups: Vec<u32>,
    trace: Arc<PeerHandle>,
    /// A hold on the process, where a rule may want to know.
    process: Option<OwnedFd>,
    /// Something was sent over the connection by another process than the one that made it.
    is_handed_on: AtomicBool,
    /// It has answered after it was looked at.
    is_proven: AtomicBool,
    /// The sessions that it was given credentials of.
    given: Mutex<BTreeSet<String>>,
}

/// Where a process is to be looked for. That is done once for a connection.
#[derive(Debug)]
pub struct PeerHandle {
    lookout: Option<Arc<PeerInspector>>,
    whence: PeerSource,
    begun: Mutex<Option<InspectionStart>>,
    sight: OnceLock<Arc<PendingInspection>>,
    hashed: OnceLock<Arc<PendingInspection>>,
}

#[derive(Debug)]
enum PeerSource {
    Nowhere,
    Pid(i32),
    Tcp(Ends),
}

impl PeerHandle {
    fn new(lookout: Option<&Arc<PeerInspector>>, whence: PeerSource) -> Arc<Self> {
        let (begun, sight, hashed) = (Mutex::new(None), OnceLock::new(), OnceLock::new());
        Arc::new(Self {
            lookout: lookout.cloned(),
            whence,
            begun,
            sight,
            hashed,
        })
    }

    /// From now on it is known whether the process runs what it runs now.
    pub fn pin(&self) {
        if let (Some(lookout), PeerSource::Pid(pid)) = (&self.lookout, &self.whence) {
            match lookout.begin(*pid) {
                Some(begun) => *lock(&self.begun) = Some(begun),
                // What it runs later is not what is asked for.
                None => drop(self.sight.set(PendingInspection::of_nobody())),
            }
        }
    }

    /// The same once more, with what the programs hash to.
    pub fn hashed(&self) -> &Arc<PendingInspection> {
        self.hashed
            .get_or_init(|| match (&self.lookout, &self.whence) {
                (Some(lookout), PeerSource::Pid(pid)) => lookout.look_and_hash(*pid),
                _ => PendingInspection::of_nobody(),
            })
    }

    /// Whether nobody can look any more.
    pub fn is_lookout_gone(&self) -> bool {
        self.lookout
            .as_ref()
            .is_some_and(|lookout| lookout.is_gone())
    }

    /// The process and its parents. To be asked first while the peer waits for an answer.
    pub fn sight(&self) -> &Arc<PendingInspection> {
        let begun = || lock(&self.begun).take();
        self.sight
            .get_or_init(|| match (&self.lookout, &self.whence) {
                (Some(lookout), PeerSource::Pid(pid)) => {
                    begun().map_or_else(|| lookout.look_for(*pid), InspectionStart::finish)
                }
                (Some(lookout), PeerSource::Tcp(ends)) => ends
                    .other()
                    .map_or_else(PendingInspection::of_nobody, |socket| {
                        lookout.look_for_holder(socket.inode)
                    }),
                (None, _) | (_, PeerSource::Nowhere) => PendingInspection::of_nobody(),
            })
    }
}

impl Peer {
    /// One that cannot be looked for.
    pub fn new(uid: u32, pid: Option<i32>) -> Self {
        Self::traced(uid, pid, PeerHandle::new(None, PeerSource::Nowhere))
    }

    fn traced(uid: u32, pid: Option<i32>, trace: Arc<PeerHandle>) -> Self {
        Self {
            uid,
            pid,
            groups: Vec::new(),
            trace,
            process: None,
            is_handed_on: AtomicBool::new(false),
            is_proven: AtomicBool::new(false),
            given: Mutex::default(),
        }
    }

    #[cfg(unix)]
    pub fn of(
        stream: &Stream,
        lookout: &Arc<PeerInspector>,
        wants_groups: bool,
    ) -> io::Result<Self> {
        let Stream::UdSocket(stream) = stream;
        let credentials = stream.inner().peer_cred()?;
        // A process outside of the daemon's container has no number in it.
        let pid = credentials.pid().filter(|pid| *pid > 0);
        let trace = PeerHandle::new(
            Some(lookout),
            pid.map_or(PeerSource::Nowhere, PeerSource::Pid),
        );
        let process = lookout
            .has_pins()
            .then(|| connected_by(stream.as_fd()))
            .flatten();
        let mut groups = if wants_groups {
            groups_of(stream.as_fd())
        } else {
            Vec::new()
        };
        groups.push(credentials.gid());
        Ok(Self {
            process,
            groups,
            ..Self::traced(credentials.uid(), pid, trace)
        })
    }

    /// Whether a rule may want it to be what it was when it connected.
    pub fn is_pinned(&self) -> bool {
        self.process.is_some()
    }

    /// Whether the process that connected still runs, so that what was looked up by its number was its own.
    pub fn was_there_all_along(&self) -> bool {
        self.process.as_ref().is_some_and(is_alive)
    }

    /// The other end of a connection over TCP, whose process is looked for when somebody wants to know.
    pub fn over_tcp(uid: u32, ends: Ends, lookout: &Arc<PeerInspector>) -> Self {
        Self::traced(
            uid,
            None,
            PeerHandle::new(Some(lookout), PeerSource::Tcp(ends)),
        )
    }

    pub fn trace(&self) -> &Arc<PeerHandle> {
        &self.trace
    }

    /// Whether it is known who connected, and not only by which user.
    pub fn is_by_process(&self) -> bool {
        matches!(self.trace.whence, PeerSource::Pid(_))
    }

    /// By which door it came, for the record.
    pub fn how(&self) -> Option<&'static str> {
        match self.trace.whence {
            PeerSource::Nowhere => None,
            PeerSource::Pid(_) => Some("socket"),
            PeerSource::Tcp(_) => Some("http"),
        }
    }

    /// Notes who has sent something. Returns whether it was somebody of the user who connected.
    pub fn heard(&self, uid: u32, pid: i32) -> bool {
        if self.pid != Some(pid) {
            self.is_handed_on.store(true, Ordering::Relaxed);
        }
        self.uid == uid
    }

    pub fn is_handed_on(&self) -> bool {
        self.is_handed_on.load(Ordering::Relaxed)
    }

    /// Notes that it has said what it could only know once it had been looked at. What it runs is not what it was put in
    /// the place of in time to be looked at, then: that would know nothing to say.
    pub fn proved(&self) {
        self.is_proven.store(true, Ordering::Relaxed);
    }

    pub fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
    }

    /// Whether it is given this session's credentials for the first time.
    pub fn is_first_time(&self, session: &str) -> bool {
        let mut given = lock(&self.given);
        !given.contains(session) && given.insert(session.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_new_to_a_connection_once() {
        let peer = Peer::new(0, None);
        assert!(
            peer.is_first_time("s-1") && !peer.is_first_time("s-1") && peer.is_first_time("s-2")
        );
    }

    #[test]
    fn a_connection_that_another_process_uses_is_known_as_handed_on() {
        let peer = Peer::new(1000, Some(7));
        assert!(peer.heard(1000, 7) && !peer.is_handed_on());
        assert!(!peer.heard(1001, 7) && !peer.is_handed_on());
        assert!(peer.heard(1000, 8) && peer.is_handed_on());
    }
}
