//! The loop of a helper process.

use std::os::fd::OwnedFd;

use rustix::net::RecvFlags;
use serde::de::DeserializeOwned;

use super::ipc::{Frame, MAX_FRAME, Request, receive};

pub(super) trait Worker {
    type Work: DeserializeOwned;

    /// Starts the work, or passes it to another thread. It must not wait for anything that another process decides.
    fn accept(&mut self, request: Frame<Request<Self::Work>>, descriptors: Vec<OwnedFd>);
}

/// Serves requests until the daemon has exited.
pub(super) fn run(socket: &OwnedFd, worker: &mut impl Worker) {
    let mut buffer = vec![0; MAX_FRAME];
    while let Some((frame, descriptors)) = receive(socket, &mut buffer, RecvFlags::empty()) {
        worker.accept(frame, descriptors);
    }
}
