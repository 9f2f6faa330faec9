//! The daemon's side of a helper process: start it, send requests, await responses, notice its exit, and pass its socket
//! to the next daemon process.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::ipc::{self, Frame, MAX_FRAME, Request};
use super::{HelperKind, SUBCOMMAND};
use crate::sync::lock;

/// The most requests without a response. Later ones fail: an inspection would come too late to be true.
const MAX_PENDING: usize = 8192;

/// How long a thread waits for a response. Helpers respond in microseconds.
const WAIT: Duration = Duration::from_secs(2);

/// A response, and what it takes of the descriptors that come with it.
pub(super) trait Response: DeserializeOwned + Send + Sync + 'static {
    fn attach(&mut self, _descriptors: Vec<OwnedFd>) {}

    /// Whether another response follows.
    fn is_interim(&self) -> bool {
        false
    }
}

/// A helper process, whose responses are `R`.
#[derive(Debug)]
pub(super) struct Helper<R> {
    kind: HelperKind,
    socket: OwnedFd,
    next_id: AtomicU64,
    pending: Arc<Pending<R>>,
    health: Arc<Health>,
}

type Pending<R> = Mutex<HashMap<u64, Arc<PendingResponse<R>>>>;

#[derive(Debug, Default)]
struct Health {
    has_exited: AtomicBool,
    /// A thread has waited in vain. Until the next response no other thread waits.
    is_stuck: AtomicBool,
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
            socket,
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

    /// Starts to receive responses, in a thread of the daemon. Must be called after the daemon has confined itself, so that
    /// the thread is confined, too.
    pub(super) fn listen(&self) -> io::Result<()> {
        let kind = self.kind;
        let socket = self.socket.try_clone()?;
        let pending = Arc::clone(&self.pending);
        let health = Arc::clone(&self.health);
        thread::spawn(move || receive_responses(kind, &socket, &pending, &health));
        Ok(())
    }

    pub(super) fn has_exited(&self) -> bool {
        self.health.has_exited.load(Ordering::Relaxed)
    }

    /// For the daemon process that comes next.
    pub(super) fn try_clone_socket(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Requests work. Fails if the process has exited, or does not accept requests as fast as they come.
    pub(super) fn request(
        self: &Arc<Self>,
        work: impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<StartedWork<R>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let response = Arc::new(PendingResponse::new(&self.health));
        {
            let mut pending = lock(&self.pending);
            if self.has_exited() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if pending.len() >= MAX_PENDING {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            pending.insert(id, Arc::clone(&response));
        }

        let started = StartedWork {
            id,
            response,
            helper: Arc::clone(self),
            is_settled: false,
        };

        self.send(id, Request::Start(work), descriptors)?;

        Ok(started)
    }

    fn send<W: Serialize>(
        &self,
        id: u64,
        body: Request<W>,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let frame = Frame { id, body };
        ipc::send(&self.socket, &frame, descriptors, SendFlags::DONTWAIT)
    }
}

/// Work that a helper process has started. It is cancelled when this is dropped.
#[derive(Debug)]
pub(super) struct StartedWork<R: Response> {
    id: u64,
    response: Arc<PendingResponse<R>>,
    helper: Arc<Helper<R>>,
    is_settled: bool,
}

impl<R: Response> StartedWork<R> {
    pub(super) fn response(&self) -> &Arc<PendingResponse<R>> {
        &self.response
    }

    /// For work that completes by itself.
    pub(super) fn into_response(mut self) -> Arc<PendingResponse<R>> {
        self.is_settled = true;
        Arc::clone(&self.response)
    }

    /// Has the helper complete the work.
    pub(super) fn finish(mut self) -> Arc<PendingResponse<R>> {
        let finished = self.helper.send(self.id, Request::<()>::Finish, &[]);
        self.is_settled = finished.is_ok();
        Arc::clone(&self.response)
    }
}

impl<R: Response> Drop for StartedWork<R> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        lock(&self.helper.pending).remove(&self.id);
        self.response.resolve(None);
        // If it fails the helper has exited, or will cancel the work by its own limits.
        let _ = self.helper.send(self.id, Request::<()>::Cancel, &[]);
    }
}

/// A response that may still have to arrive.
#[derive(Debug)]
pub(crate) struct PendingResponse<R> {
    interim: OnceLock<R>,
    response: OnceLock<Option<R>>,
    arrived: Notify,
    waiting: Mutex<()>,
    woken: Condvar,
    health: Arc<Health>,
}

impl<R> PendingResponse<R> {
    fn new(health: &Arc<Health>) -> Self {
        Self {
            interim: OnceLock::new(),
            response: OnceLock::new(),
            arrived: Notify::new(),
            waiting: Mutex::new(()),
            woken: Condvar::new(),
            health: Arc::clone(health),
        }
    }

    /// No response, and no need to wait for it.
    pub(crate) fn unavailable() -> Arc<Self> {
        let pending = Self::new(&Arc::default());
        pending.resolve(None);
        Arc::new(pending)
    }

    /// The first call decides.
    fn resolve(&self, response: Option<R>) {
        let _ = self.response.set(response);
        self.arrived.notify_waiters();
        drop(lock(&self.waiting));
        self.woken.notify_all();
    }

    /// The response before the last one, if there is one and it has arrived.
    pub(super) fn interim(&self) -> Option<&R> {
        self.interim.get()
    }

    /// The response, if it has arrived.
    pub(crate) fn get(&self) -> Option<&R> {
        self.response.get()?.as_ref()
    }

    /// Waits for the response. None if the helper has exited or the work was cancelled.
    pub(super) async fn response(&self) -> Option<&R> {
        let mut arrived = std::pin::pin!(self.arrived.notified());
        arrived.as_mut().enable();
        if self.response.get().is_none() {
            arrived.await;
        }
        self.get()
    }

    /// Waits for the response in a thread that may block. None also if it takes longer than two seconds.
    pub(crate) fn wait(&self) -> Option<&R> {
        if self.health.is_stuck.load(Ordering::Relaxed) {
            return self.get();
        }

        let is_missing = |_: &mut ()| self.response.get().is_none();
        let waited = self
            .woken
            .wait_timeout_while(lock(&self.waiting), WAIT, is_missing);
        if waited.is_ok_and(|(_, timeout)| timeout.timed_out()) {
            self.health.is_stuck.store(true, Ordering::Relaxed);
        }

        self.get()
    }
}

/// Receives responses until the helper has exited.
fn receive_responses<R: Response>(
    kind: HelperKind,
    socket: &OwnedFd,
    pending: &Pending<R>,
    health: &Health,
) {
    let mut buffer = vec![0; MAX_FRAME];
    while let Some((frame, descriptors)) =
        ipc::receive::<R>(socket, &mut buffer, RecvFlags::empty())
    {
        health.is_stuck.store(false, Ordering::Relaxed);
        let mut response = frame.body;
        response.attach(descriptors);

        if response.is_interim() {
            if let Some(requested) = lock(pending).get(&frame.id) {
                let _ = requested.interim.set(response);
            }
            continue;
        }

        let requested = lock(pending).remove(&frame.id);
        if let Some(requested) = requested {
            requested.resolve(Some(response));
        }
    }

    let mut pending = lock(pending);
    health.has_exited.store(true, Ordering::Relaxed);
    let helper = kind.name();
    tracing::error!(helper, "the helper process has exited; restart rolekeeperd");
    for (_, unanswered) in pending.drain() {
        unanswered.resolve(None);
    }
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
        let response = helper.request((), &[]).unwrap().into_response();

        drop(theirs);
        assert!(response.response().await.is_none() && response.wait().is_none());
        assert!(helper.has_exited() && helper.request((), &[]).is_err());
    }

    #[tokio::test]
    async fn dropped_work_is_cancelled_and_forgotten() {
        let (ours, theirs) = ipc::pair().unwrap();
        let helper: Arc<Helper<Echo>> = Helper::with_socket(HelperKind::CommandRunner, ours);
        let started = helper.request("work", &[]).unwrap();
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
