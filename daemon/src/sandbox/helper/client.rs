//! The daemon's side of a helper process: start it, send requests, await responses, notice its exit, and pass its socket
//! to the next daemon process.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::RecvFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::ipc::{self, Frame, MAX_FRAME, Request};
use super::outbox::Outbox;
use super::pending::{Pending, PendingResponse};
use super::{HelperKind, SUBCOMMAND};
use crate::sync::lock;

/// How long the process may take to respond to a request that needs no work.
const PING_WAIT: Duration = Duration::from_millis(500);

/// Whom the daemon's own requests are for. It is no user.
const DAEMON: u32 = u32::MAX;

pub(super) trait Response: DeserializeOwned + Send + Sync + 'static {
    /// Whether another response follows.
    fn is_interim(&self) -> bool {
        false
    }
}

/// A helper process, whose responses are `R`.
#[derive(Debug)]
pub(super) struct Helper<R> {
    kind: HelperKind,
    outbox: Arc<Outbox>,
    next_id: AtomicU64,
    pending: Arc<Mutex<Pending<R>>>,
    health: Arc<Health>,
}

#[derive(Debug, Default)]
struct Health {
    has_exited: AtomicBool,
    /// A ping had no response. The process is stopped or hangs.
    is_silent: AtomicBool,
}

impl<R: Response> Helper<R> {
    /// Starts the process from this program's file. Must be called before the daemon confines itself.
    pub(super) fn start(kind: HelperKind, program: &Path) -> io::Result<Arc<Self>> {
        let (ours, theirs) = ipc::pair()?;
        let mut command = Command::new(program);
        command
            .args([SUBCOMMAND, kind.name()])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null());
        if !kind.inherits_environment() {
            command.env_clear();
        }

        drop(command.spawn()?);

        Ok(Self::with_socket(kind, ours))
    }

    /// A process that an earlier daemon started, or whose socket this is.
    pub(super) fn with_socket(kind: HelperKind, socket: OwnedFd) -> Arc<Self> {
        // Responses to the earlier daemon may still arrive. Their ids must not be those of this one.
        let first_id = fastrand::u64(..u64::MAX / 2);
        Arc::new(Self {
            kind,
            outbox: Arc::new(Outbox::new(socket)),
            next_id: AtomicU64::new(first_id),
            pending: Arc::default(),
            health: Arc::default(),
        })
    }

    /// Where there is no such process.
    pub(super) fn unavailable(kind: HelperKind) -> io::Result<Arc<Self>> {
        let (socket, _) = std::os::unix::net::UnixStream::pair()?;
        let helper = Self::with_socket(kind, socket.into());
        helper.health.has_exited.store(true, Ordering::Relaxed);
        Ok(helper)
    }

    /// A thread of this process in place of a process.
    #[cfg(test)]
    pub(super) fn in_thread(
        kind: HelperKind,
        run_worker: impl FnOnce(&OwnedFd) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let (ours, theirs) = ipc::pair()?;
        thread::spawn(move || run_worker(&theirs));
        let helper = Self::with_socket(kind, ours);
        helper.listen()?;
        Ok(helper)
    }

    /// Starts to send and receive, in threads of the daemon. Must be called after the daemon has confined itself, so that
    /// the threads are confined, too.
    pub(super) fn listen(&self) -> io::Result<()> {
        let kind = self.kind;
        let socket = self.try_clone_socket()?;
        let pending = Arc::clone(&self.pending);
        let health = Arc::clone(&self.health);
        thread::spawn(move || receive_responses(kind, &socket, &pending, &health));

        let outbox = Arc::clone(&self.outbox);
        thread::spawn(move || outbox.run());

        Ok(())
    }

    pub(super) fn has_exited(&self) -> bool {
        self.health.has_exited.load(Ordering::Relaxed)
    }

    /// For the daemon process that comes next.
    pub(super) fn try_clone_socket(&self) -> io::Result<OwnedFd> {
        self.outbox.try_clone_socket()
    }

    /// Whether the process responds to a request that needs no work. Logs a change.
    pub(super) async fn responds(self: &Arc<Self>, ping: impl Serialize) -> bool {
        if self.has_exited() || self.health.is_silent.load(Ordering::Relaxed) {
            return false;
        }

        let Ok(ping) = self.request(DAEMON, ping, &[]) else {
            return !self.has_exited();
        };
        let ping = ping.into_response();
        let response = timeout(PING_WAIT, ping.response()).await;
        let is_silent = response.is_err();

        if is_silent && !self.health.is_silent.swap(true, Ordering::Relaxed) {
            let helper = self.kind.name();
            tracing::error!(
                helper,
                "the helper process does not respond; continue it if it is stopped, or restart rolekeeperd"
            );
        }

        !is_silent && !self.has_exited()
    }

    /// Requests work for a user. Fails with `BrokenPipe` if the process has exited, and with `WouldBlock` if too many
    /// requests are pending.
    pub(super) fn request(
        self: &Arc<Self>,
        uid: u32,
        work: impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<StartedWork<R>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let response = {
            let mut pending = lock(&self.pending);
            if self.has_exited() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let inserted = pending.insert(uid, id);
            inserted.ok_or(io::ErrorKind::WouldBlock)?
        };

        let started = StartedWork {
            id,
            uid,
            response,
            helper: Arc::clone(self),
            is_settled: false,
        };

        started.send(Request::Start(work), descriptors)?;

        Ok(started)
    }
}

/// Work that a helper process has started. It is cancelled when this is dropped.
#[derive(Debug)]
pub(super) struct StartedWork<R: Response> {
    id: u64,
    uid: u32,
    response: Arc<PendingResponse<R>>,
    helper: Arc<Helper<R>>,
    is_settled: bool,
}

impl<R: Response> StartedWork<R> {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn response(&self) -> &Arc<PendingResponse<R>> {
        &self.response
    }

    /// For work that completes by itself.
    pub(super) fn into_response(mut self) -> Arc<PendingResponse<R>> {
        self.is_settled = true;
        Arc::clone(&self.response)
    }

    /// Has the helper complete the work.
    pub(super) fn finish(mut self) {
        self.is_settled = self.request_finish().is_ok();
    }

    /// Has the helper complete the work. What the helper stores for it stays until this is dropped.
    pub(super) fn request_finish(&self) -> io::Result<()> {
        self.send(Request::<()>::Finish, &[])
    }

    fn send<W: Serialize>(
        &self,
        body: Request<W>,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let Self { id, uid, .. } = *self;
        let text = ipc::encode(&Frame { id, uid, body })?;
        self.helper.outbox.send(uid, text, descriptors)
    }
}

impl<R: Response> Drop for StartedWork<R> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        lock(&self.helper.pending).remove(self.id);
        self.response.resolve(None);
        // If it fails the helper has exited.
        let _ = self.send(Request::<()>::Cancel, &[]);
    }
}

/// Receives responses until the helper has exited.
fn receive_responses<R: Response>(
    kind: HelperKind,
    socket: &OwnedFd,
    pending: &Mutex<Pending<R>>,
    health: &Health,
) {
    let helper = kind.name();
    let mut buffer = vec![0; MAX_FRAME];
    while let Some((frame, _)) = ipc::receive::<R>(socket, &mut buffer, RecvFlags::empty()) {
        if health.is_silent.swap(false, Ordering::Relaxed) {
            tracing::info!(helper, "the helper process responds again");
        }

        let response = frame.body;
        if response.is_interim() {
            if let Some(requested) = lock(pending).get(frame.id) {
                requested.set_interim(response);
            }
            continue;
        }

        let requested = lock(pending).remove(frame.id);
        if let Some(requested) = requested {
            requested.resolve(Some(response));
        }
    }

    let mut pending = lock(pending);
    health.has_exited.store(true, Ordering::Relaxed);
    tracing::error!(helper, "the helper process has exited; restart rolekeeperd");
    pending.clear();
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Echo;

    impl Response for Echo {}

    #[tokio::test]
    async fn exited_helper_ends_every_wait() {
        let (ours, theirs) = ipc::pair().unwrap();
        let helper: Arc<Helper<Echo>> = Helper::with_socket(HelperKind::PeerInspector, ours);
        helper.listen().unwrap();
        let response = helper.request(7, (), &[]).unwrap().into_response();

        drop(theirs);
        assert!(response.response().await.is_none() && response.wait().is_none());
        assert!(helper.has_exited() && helper.request(7, (), &[]).is_err());
    }

    #[tokio::test]
    async fn dropped_work_is_cancelled_and_forgotten() {
        let (ours, theirs) = ipc::pair().unwrap();
        let helper: Arc<Helper<Echo>> = Helper::with_socket(HelperKind::CommandRunner, ours);
        let started = helper.request(7, "work", &[]).unwrap();
        let id = started.id;
        drop(started);
        assert!(lock(&helper.pending).is_empty());

        let mut buffer = vec![0; MAX_FRAME];
        let mut next = || ipc::receive::<Request<String>>(&theirs, &mut buffer, RecvFlags::empty());
        let (start, _) = next().unwrap();
        assert!(matches!(start.body, Request::Start(work) if work == "work"));
        let (cancel, _) = next().unwrap();
        assert!(cancel.id == id && matches!(cancel.body, Request::Cancel));
    }
}
