//! The result of an inspection.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rolekeeper::protocol::Process;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::sandbox::helper::client::{PendingResponse, Response};

/// How long a request waits for an inspection. It takes microseconds.
const WAIT: Duration = Duration::from_secs(2);

/// How long a lease waits for the inspection of a process that needs none to be allowed.
const JOURNAL_WAIT: Duration = Duration::from_millis(100);

/// A process and the program that it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Program {
    #[serde(flatten)]
    pub(crate) process: Process,
    /// Device and inode of the program's file. None for a process of another user that must not be read.
    pub(crate) file: Option<(u64, u64)>,
    /// The rolekeeper client, or a system shell without a terminal of its own: it acts for the process that started it.
    pub(crate) is_intermediary: bool,
    /// Only where the hash was requested.
    pub(crate) sha256: Option<[u8; 32]>,
}

/// A process at the time of its connection, or a little later.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Inspection {
    /// The process itself, then its parent, and so on, without the first process of the system.
    pub(crate) programs: Vec<Program>,
    /// The units of the system's service manager that contain the process, the outermost first.
    pub(crate) units: Vec<String>,
    pub(crate) has_terminal: bool,
    /// `programs` reaches up to the first process of the system.
    pub(crate) is_complete: bool,
    /// The process is in the daemon's pid namespace. From another namespace, a message can carry the pid of any process.
    pub(crate) in_pid_namespace: bool,
    #[serde(skip)]
    pub(crate) pin: Option<ProcessPin>,
}

impl Response for Inspection {
    fn attach(&mut self, descriptors: Vec<OwnedFd>) {
        self.pin = descriptors.into_iter().next().map(ProcessPin::new);
    }
}

/// Whether a process still runs the program that was inspected: a view of its address space, which ends with exec and with
/// exit (proc_pid_pagemap(5), proc_pid_maps(5)).
#[derive(Debug)]
pub(crate) struct ProcessPin(OwnedFd);

impl ProcessPin {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(crate) fn is_valid(&self) -> bool {
        // One entry of the pagemap, or the first bytes of the maps.
        let mut entry = [0; 8];
        rustix::io::pread(&self.0, &mut entry, 0).is_ok_and(|length| length > 0)
    }
}

pub(crate) type PendingInspection = PendingResponse<Inspection>;

impl PendingInspection {
    /// Waits up to two seconds. None if the process could not be inspected in that time.
    pub(crate) async fn result(&self) -> Option<&Inspection> {
        timeout(WAIT, self.response()).await.unwrap_or_default()
    }

    /// Waits up to 100 ms, so that the journal names a process that exits as soon as it has its credentials.
    pub(crate) async fn wait_before_lease(&self) {
        if self.get().is_none() {
            let _ = timeout(JOURNAL_WAIT, self.response()).await;
        }
    }

    /// The process and its parents, for the journal. Blocks the thread for up to two seconds.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let programs = self.wait().map(|inspection| &inspection.programs);
        programs
            .into_iter()
            .flatten()
            .map(|program| program.process.clone())
            .collect()
    }
}
