//! The loop of a helper process.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::RecvFlags;
use serde::de::DeserializeOwned;

use super::ipc::{MAX_FRAME, Request, receive};

/// The most requests that are accepted before the first one is completed.
const BATCH: usize = 64;

pub(super) trait Worker {
    type Work: DeserializeOwned;

    /// Starts what cannot wait. Responds now, in [`Worker::complete`], or from another thread.
    fn accept(&mut self, id: u64, request: Request<Self::Work>, descriptors: Vec<OwnedFd>);

    /// Completes the requests that were accepted together. Fails if the daemon has exited.
    fn complete(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Serves requests until the daemon has exited.
pub(super) fn run(socket: &OwnedFd, worker: &mut impl Worker) {
    let mut buffer = vec![0; MAX_FRAME];
    while let Some((frame, descriptors)) = receive(socket, &mut buffer, RecvFlags::empty()) {
        worker.accept(frame.id, frame.body, descriptors);

        for _ in 1..BATCH {
            let Some((frame, descriptors)) = receive(socket, &mut buffer, RecvFlags::DONTWAIT)
            else {
                break;
            };
            worker.accept(frame.id, frame.body, descriptors);
        }

        if worker.complete().is_err() {
            return;
        }
    }
}
