//! The result of an inspection.

use std::time::Duration;

use rolekeeper::protocol::Process;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::timeout;

use crate::sandbox::helper::client::Response;
use crate::sandbox::helper::pending::PendingResponse;

/// How long a request waits for a program to be hashed.
const HASH_WAIT: Duration = Duration::from_secs(2);

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
    /// Another file is at that path for the daemon, or none.
    #[serde(default)]
    pub(crate) is_elsewhere: bool,
    /// Only where the hash was requested.
    pub(crate) sha256: Option<[u8; 32]>,
    /// Why there is no hash, although it was requested.
    #[serde(default)]
    pub(crate) not_hashed: Option<NotHashed>,
}

/// Why the hash of a program's file is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Error)]
pub enum NotHashed {
    #[error("its file cannot be read")]
    Unreadable,
    #[error("it is larger than 512 MiB")]
    TooLarge,
    /// Such as FUSE or NFS: the server of the file can show one content to the daemon and another to the process.
    #[error("its file is not on a local file system, so it could change unnoticed")]
    FileSystem,
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
    /// Only where that was requested: the process is the one that was pinned, and runs the same program.
    #[serde(default)]
    pub(crate) is_unchanged: bool,
}

impl Response for Inspection {}

pub(crate) type PendingInspection = PendingResponse<Inspection>;

impl PendingInspection {
    /// Waits up to two seconds. None if the process could not be inspected in that time.
    pub(crate) async fn result(&self) -> Option<&Inspection> {
        self.response_in_time().await
    }

    /// The same for an inspection with hashes. Others do not wait for this one.
    pub(crate) async fn result_with_hashes(&self) -> Option<&Inspection> {
        let response = timeout(HASH_WAIT, self.response()).await;
        response.unwrap_or_default()
    }

    /// Waits up to 100 ms, so that the journal names a process that exits as soon as it has its credentials. Returns
    /// whether that was enough.
    pub(crate) async fn wait_before_lease(&self) -> bool {
        if self.get().is_some() {
            return true;
        }
        !self.is_stuck() && timeout(JOURNAL_WAIT, self.response()).await.is_ok()
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
