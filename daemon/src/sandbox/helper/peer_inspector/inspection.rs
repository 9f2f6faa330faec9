//! What was seen of a peer, once it is known.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use rolekeeper::protocol::Process;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Program, State};
use crate::sync::lock;

/// How long the lookout is waited for. It answers in microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// A process as it was when it connected, or a little later.
#[derive(Debug)]
pub struct Inspection {
    /// The process itself, then its parents, the nearest first and without the one that started the system.
    pub programs: Vec<Program>,
    /// The units of the system's systemd that it is in, the outermost first.
    pub units: Vec<String>,
    pub has_terminal: bool,
    /// All of its parents are there, to the one that started the system.
    pub is_whole: bool,
    /// It is of the same namespace of processes as the daemon: in another one it could speak in others' names.
    pub is_here: bool,
    pub pin: Option<ProcessPin>,
}

/// What tells whether a process still runs what it ran: a view of how its memory is laid out, which ends with an exec and
/// with the process (proc_pid_pagemap(5), proc_pid_maps(5)). No more is read of it than that it is there.
#[derive(Debug)]
pub struct ProcessPin(OwnedFd);

impl ProcessPin {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    pub fn holds(&self) -> bool {
        // One entry of the one, or the beginning of the other.
        let mut entry = [0; 8];
        rustix::io::pread(&self.0, &mut entry, 0).is_ok_and(|length| length > 0)
    }
}

/// What is being looked for.
#[derive(Debug, Default)]
pub struct PendingInspection {
    seen: OnceLock<Option<Inspection>>,
    told: Notify,
    lock: Mutex<()>,
    also_told: Condvar,
    of: Arc<State>,
}

impl PendingInspection {
    pub(super) fn awaited(of: &Arc<State>) -> Arc<Self> {
        Arc::new(Self {
            of: Arc::clone(of),
            ..Self::default()
        })
    }

    /// Nothing can be seen, and nothing need be waited for.
    pub fn of_nobody() -> Arc<Self> {
        let sight = Self::default();
        let _ = sight.seen.set(None);
        Arc::new(sight)
    }

    pub(super) fn tell(&self, seen: Option<Inspection>) {
        let _ = self.seen.set(seen);
        self.told.notify_waiters();
        drop(lock(&self.lock));
        self.also_told.notify_all();
    }

    /// What was seen, or nothing if that cannot be told.
    pub async fn seen(&self) -> Option<&Inspection> {
        let mut told = std::pin::pin!(self.told.notified());
        told.as_mut().enable();
        if self.seen.get().is_none() {
            let _ = timeout(PATIENCE, told).await;
        }
        self.get()
    }

    /// What was seen by now.
    pub fn get(&self) -> Option<&Inspection> {
        self.seen.get()?.as_ref()
    }

    /// The same for a thread that may wait.
    pub fn wait(&self) -> Option<&Inspection> {
        if self.of.is_stuck.load(Ordering::Relaxed) {
            return self.get();
        }
        let guard = lock(&self.lock);
        let unknown = |_: &mut ()| self.seen.get().is_none();
        // A poisoned lock guards nothing.
        let waited = self.also_told.wait_timeout_while(guard, PATIENCE, unknown);
        if waited.is_ok_and(|(_, timeout)| timeout.timed_out()) {
            self.of.is_stuck.store(true, Ordering::Relaxed);
        }
        self.get()
    }

    /// For a record of who called.
    pub fn processes(&self) -> Vec<Process> {
        self.wait().map_or_else(Vec::new, |seen| {
            seen.programs
                .iter()
                .map(|program| program.process.clone())
                .collect()
        })
    }
}
