//! The peer inspector process.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::mpsc;
use std::thread;

use rustix::net::SendFlags;
use serde::{Deserialize, Serialize};

use super::hashes::Hashes;
use super::inspection::{Inspection, ProcessPin};
use super::procfs::{ProcReader, socket_owner};
use crate::platform::limits::connection_cap;
use crate::sandbox::helper::ipc::{self, Frame, Request};
use crate::sandbox::helper::worker::{self, Worker};

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum InspectTarget {
    Pid(i32),
    /// The inode of a socket that the process has open.
    Socket(u32),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Work {
    /// Inspect now.
    Inspect { target: InspectTarget, hash: bool },
    /// Pin this process and read its program. The rest follows on [`Request::Finish`].
    Pin(i32),
}

/// Inspects for the daemon at the other end of this socket.
pub(in crate::sandbox::helper) fn run_worker(socket: &OwnedFd) {
    let (to_hash, hashing) = mpsc::channel::<(u64, ProcReader)>();
    let Ok(responses) = socket.try_clone() else {
        return;
    };

    // Reading a large program takes a while. Other inspections go on meanwhile.
    thread::spawn(move || {
        let mut hashes = Hashes::default();
        for (id, mut reader) in hashing {
            reader.hash_programs(&mut hashes);
            let _ = respond(&responses, id, reader.finish());
        }
    });

    let mut inspector = Inspector {
        socket,
        to_hash,
        accepted: Vec::new(),
        pinned: PinnedProcesses::new(connection_cap()),
    };

    worker::run(socket, &mut inspector);
}

struct Inspector<'a> {
    socket: &'a OwnedFd,
    to_hash: mpsc::Sender<(u64, ProcReader)>,
    accepted: Vec<(u64, ProcReader)>,
    pinned: PinnedProcesses,
}

impl Worker for Inspector<'_> {
    type Work = Work;

    /// Reads what may change soonest.
    fn accept(&mut self, id: u64, request: Request<Work>, _descriptors: Vec<OwnedFd>) {
        match request {
            Request::Start(Work::Inspect { target, hash }) => {
                let pid = match target {
                    InspectTarget::Pid(pid) => Some(pid),
                    InspectTarget::Socket(inode) => socket_owner(inode),
                };
                let reader = ProcReader::start(pid);
                if hash {
                    let _ = self.to_hash.send((id, reader));
                } else {
                    self.accepted.push((id, reader));
                }
            }
            Request::Start(Work::Pin(pid)) => self.pinned.insert(id, ProcReader::pinned(pid)),
            Request::Finish => self.accepted.push((id, self.pinned.take(id))),
            Request::Cancel => drop(self.pinned.take(id)),
        }
    }

    fn complete(&mut self) -> io::Result<()> {
        for (id, reader) in self.accepted.drain(..) {
            respond(self.socket, id, reader.finish())?;
        }
        Ok(())
    }
}

/// Processes whose inspection may be finished later, by the id of the request.
struct PinnedProcesses {
    readers: BTreeMap<u64, ProcReader>,
    capacity: usize,
}

impl PinnedProcesses {
    fn new(capacity: usize) -> Self {
        Self {
            readers: BTreeMap::new(),
            capacity,
        }
    }

    /// Drops the oldest one over capacity: its request was neither finished nor cancelled.
    fn insert(&mut self, id: u64, reader: ProcReader) {
        if self.readers.len() >= self.capacity {
            self.readers.pop_first();
        }
        self.readers.insert(id, reader);
    }

    /// An unknown process is not inspected now: it may run another program by now.
    fn take(&mut self, id: u64) -> ProcReader {
        self.readers.remove(&id).unwrap_or_default()
    }
}

/// Fails if the daemon has exited.
fn respond(socket: &OwnedFd, id: u64, mut inspection: Inspection) -> io::Result<()> {
    let pin = inspection.pin.take();
    let pins: Vec<BorrowedFd<'_>> = pin.iter().map(ProcessPin::descriptor).collect();
    let mut response = Frame {
        id,
        body: inspection,
    };

    match ipc::send(socket, &response, &pins, SendFlags::empty()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            // Too many long paths. A rule about a parent or a unit does not match then.
            let inspection = &mut response.body;
            inspection.programs.truncate(1);
            inspection.units.clear();
            inspection.is_complete = false;
            ipc::send(socket, &response, &pins, SendFlags::empty())
        }
        sent => sent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_process_is_stored_until_finish_or_cancel() {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut pinned = PinnedProcesses::new(2);
        pinned.insert(1, ProcReader::pinned(me));
        let inspection = pinned.take(1).finish();
        assert!(inspection.programs[0].process.pid == me && inspection.pin.is_some());
        for unknown in [1, 2] {
            assert!(pinned.take(unknown).finish().programs.is_empty());
        }

        for id in [4, 5, 6] {
            pinned.insert(id, ProcReader::pinned(me));
        }
        let is_stored = [4, 5, 6].map(|id| !pinned.take(id).finish().programs.is_empty());
        assert_eq!(is_stored, [false, true, true], "capacity is two");
        assert!(pinned.readers.is_empty());
    }
}
