//! The peer inspector process. Each user's processes are inspected in a thread of their own: a process can make what is read
//! of it take as long as it likes, for example with a program on FUSE.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::net::SendFlags;
use serde::{Deserialize, Serialize};

use super::hashes::Hashes;
use super::inspection::Inspection;
use super::pinned::PinnedProcesses;
use super::procfs::{ProcReader, socket_owner};
use crate::platform::limits::connection_cap;
use crate::sandbox::helper::ipc::{self, Frame, Request};
use crate::sandbox::helper::worker::{self, Worker};

/// The most users with threads of their own. All others share two.
const MAX_USERS: usize = 64;

/// The most requests of one user that are accepted before the first one is completed.
const BATCH: usize = 64;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum InspectTarget {
    Pid(i32),
    /// The inode of a socket that the process has open.
    Socket(u32),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Work {
    /// Respond.
    Ping,
    /// Inspect now.
    Inspect { target: InspectTarget, hash: bool },
    /// Pin this process and read its program. The rest follows on [`Request::Finish`]. The pin stays until
    /// [`Request::Cancel`].
    Pin(i32),
    /// Compare the process that the request of this id has pinned.
    CheckAgain(u64),
}

type InspectRequest = Frame<Request<Work>>;

/// Inspects for the daemon at the other end of this socket.
pub(in crate::sandbox::helper) fn run_worker(socket: &OwnedFd) {
    let Ok(responses) = socket.try_clone() else {
        return;
    };

    let mut inspector = Inspector {
        responses: Arc::new(responses),
        users: BTreeMap::new(),
    };

    worker::run(socket, &mut inspector);
}

struct Inspector {
    responses: Arc<OwnedFd>,
    users: BTreeMap<u32, Sender<InspectRequest>>,
}

impl Worker for Inspector {
    type Work = Work;

    fn accept(&mut self, request: InspectRequest, _descriptors: Vec<OwnedFd>) {
        if let Request::Start(Work::Ping) = request.body {
            let _ = respond(&self.responses, request.id, Inspection::default());
            return;
        }

        let has_thread = self.users.len() < MAX_USERS || self.users.contains_key(&request.uid);
        let uid = if has_thread { request.uid } else { u32::MAX };
        let thread = self
            .users
            .entry(uid)
            .or_insert_with(|| start_thread(&self.responses));

        // Without a thread there is no response, and the request is overdue.
        let _ = thread.send(request);
    }
}

fn start_thread(responses: &Arc<OwnedFd>) -> Sender<InspectRequest> {
    let (sender, requests) = channel();
    let mut inspector = UserInspector::new(responses);
    let _ = thread::Builder::new().spawn(move || inspector.run(&requests));

    sender
}

/// Inspects the processes of one user.
struct UserInspector {
    responses: Arc<OwnedFd>,
    to_hash: Option<Sender<(u64, ProcReader)>>,
    /// What is read soonest is read of all of them first.
    accepted: Vec<(u64, ProcReader)>,
    pinned: PinnedProcesses,
}

impl UserInspector {
    fn new(responses: &Arc<OwnedFd>) -> Self {
        Self {
            responses: Arc::clone(responses),
            to_hash: None,
            accepted: Vec::new(),
            pinned: PinnedProcesses::new(connection_cap()),
        }
    }

    fn run(&mut self, requests: &Receiver<InspectRequest>) {
        while let Ok(first) = requests.recv() {
            let more = requests.try_iter().take(BATCH - 1);
            let batch: Vec<_> = std::iter::once(first).chain(more).collect();

            if self.serve(batch).is_err() {
                return;
            }
        }
    }

    /// Fails if the daemon has exited.
    fn serve(&mut self, batch: Vec<InspectRequest>) -> io::Result<()> {
        // Many connections close before their processes are read.
        let is_cancel = |request: &&InspectRequest| matches!(request.body, Request::Cancel);
        let cancelled = batch.iter().filter(is_cancel).map(|request| request.id);
        let cancelled: HashSet<u64> = cancelled.collect();

        for request in batch {
            match request.body {
                Request::Cancel => self.pinned.release(request.id),
                _ if cancelled.contains(&request.id) => {}
                body => self.accept(request.id, body)?,
            }
        }

        for (id, reader) in self.accepted.drain(..) {
            respond(&self.responses, id, reader.finish())?;
        }

        Ok(())
    }

    /// Reads what may change soonest.
    fn accept(&mut self, id: u64, request: Request<Work>) -> io::Result<()> {
        match request {
            Request::Start(Work::Inspect { target, hash }) => {
                let pid = match target {
                    InspectTarget::Pid(pid) => Some(pid),
                    InspectTarget::Socket(inode) => socket_owner(inode),
                };
                let reader = ProcReader::start(pid);
                if hash {
                    self.hash(id, reader);
                } else {
                    self.accepted.push((id, reader));
                }
            }
            Request::Start(Work::Pin(pid)) => self.pinned.pin(id, pid),
            Request::Start(Work::CheckAgain(pin)) => {
                let response = Inspection {
                    is_unchanged: self.pinned.is_unchanged(pin),
                    ..Inspection::default()
                };
                respond(&self.responses, id, response)?;
            }
            Request::Finish => respond(&self.responses, id, self.pinned.finish(id))?,
            Request::Start(Work::Ping) | Request::Cancel => {}
        }

        Ok(())
    }

    /// Reading a large program takes a while. The user's other inspections go on meanwhile.
    fn hash(&mut self, id: u64, reader: ProcReader) {
        let to_hash = self.to_hash.get_or_insert_with(|| {
            let (sender, readers) = channel::<(u64, ProcReader)>();
            let responses = Arc::clone(&self.responses);
            let run = move || {
                let mut hashes = Hashes::default();
                for (id, mut reader) in readers {
                    reader.hash_programs(&mut hashes);
                    let _ = respond(&responses, id, reader.finish());
                }
            };
            let _ = thread::Builder::new().spawn(run);
            sender
        });

        let _ = to_hash.send((id, reader));
    }
}

/// Fails if the daemon has exited.
fn respond(socket: &OwnedFd, id: u64, inspection: Inspection) -> io::Result<()> {
    let mut response = Frame {
        id,
        uid: 0,
        body: inspection,
    };

    match ipc::send(socket, &response, &[], SendFlags::empty()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            // Too many long paths. A rule about a parent or a unit does not match then.
            let inspection = &mut response.body;
            inspection.programs.truncate(1);
            inspection.units.clear();
            inspection.is_complete = false;
            ipc::send(socket, &response, &[], SendFlags::empty())
        }
        sent => sent,
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::RecvFlags;

    use super::*;
    use crate::sandbox::helper::ipc::MAX_FRAME;

    #[test]
    fn process_that_cannot_be_read_delays_its_user_only() {
        let (ours, theirs) = ipc::pair().unwrap();
        // The thread of this user waits for a process, and does not go on.
        let (hanging, _requests) = channel();
        let mut inspector = Inspector {
            responses: Arc::new(theirs),
            users: BTreeMap::from([(1000, hanging)]),
        };

        let target = InspectTarget::Pid(std::process::id().try_into().unwrap());
        let inspect = Work::Inspect {
            target,
            hash: false,
        };
        for (id, uid, work) in [
            (1, 1000, inspect),
            (2, 1001, inspect),
            (3, 1000, Work::Ping),
        ] {
            let body = Request::Start(work);
            inspector.accept(Frame { id, uid, body }, Vec::new());
        }

        let mut buffer = vec![0; MAX_FRAME];
        let mut next = || {
            let (frame, _) = ipc::receive::<Inspection>(&ours, &mut buffer, RecvFlags::empty())?;
            Some((frame.id, frame.body.programs.is_empty()))
        };
        let mut responses = [next().unwrap(), next().unwrap()];
        responses.sort_unstable();
        assert_eq!(responses, [(2, false), (3, true)]);
    }

    #[test]
    fn cancelled_request_is_not_read() {
        let (ours, theirs) = ipc::pair().unwrap();
        let (sender, requests) = channel();
        let me = std::process::id().try_into().unwrap();
        for (id, body) in [
            (1, Request::Start(Work::Pin(me))),
            (2, Request::Start(Work::Pin(me))),
            (1, Request::Cancel),
            (1, Request::Finish),
            (2, Request::Finish),
        ] {
            sender.send(Frame { id, uid: 0, body }).unwrap();
        }
        drop(sender);
        UserInspector::new(&Arc::new(theirs)).run(&requests);

        let mut buffer = vec![0; MAX_FRAME];
        let (frame, _) =
            ipc::receive::<Inspection>(&ours, &mut buffer, RecvFlags::empty()).unwrap();
        assert_eq!((frame.id, frame.body.programs.is_empty()), (2, false));
        let more = ipc::receive::<Inspection>(&ours, &mut buffer, RecvFlags::DONTWAIT);
        assert!(more.is_none());
    }
}
