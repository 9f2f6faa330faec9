//! How one process of the daemon follows another: it is replaced at a reload, or started by the service manager after an
//! end of any kind. Neither costs a request or a session.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tracing_subscriber::filter::Targets;

use super::daemon::Daemon;
use super::inherited_fds::{self, InheritedState};
use super::state_transfer::{self, HandoffTarget};
use crate::platform::signals;

/// How long the program on disk may take to validate the configuration.
const CHECK_LIMIT: Duration = Duration::from_secs(10);
/// The most that is read of its error message, in bytes.
const MAX_MESSAGE: u64 = 8 * 1024;
/// Sessions that change within this time are stored together.
const STORE_DELAY: Duration = Duration::from_millis(200);

/// The program on disk, and its arguments.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) config: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) log: Targets,
}

/// What is started in place of this process.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) program: Program,
    pub(super) state: InheritedState,
}

impl Program {
    /// Whether the program on disk starts and accepts the configuration. If not, the reason is logged.
    pub(super) async fn is_valid(&self) -> bool {
        let reason = match tokio::time::timeout(CHECK_LIMIT, self.check()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => format!("no answer within {} s", CHECK_LIMIT.as_secs()),
        };

        crate::status::record_failed_reload(&reason);
        signals::reload_rejected();
        tracing::error!(program = %self.path.display(), %reason, "not reloaded; the running configuration stays");
        false
    }

    async fn check(&self) -> io::Result<()> {
        let mut child = Command::new(&self.path)
            .args(["--check", "--reload"])
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;

        let mut message = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            stderr.take(MAX_MESSAGE).read_to_end(&mut message).await?;
        }

        if child.wait().await?.success() {
            return Ok(());
        }

        let message = String::from_utf8_lossy(&message);

        Err(io::Error::other(message.trim().to_owned()))
    }
}

impl Next {
    /// Returns only if it cannot be started.
    pub(super) fn start(self) -> io::Error {
        let Program {
            path,
            config,
            socket,
            log,
        } = self.program;

        let arguments = [
            "--config".into(),
            config.into(),
            "--socket".into(),
            socket.into(),
            "--log".into(),
            log.to_string().into(),
        ];

        inherited_fds::replace_process(&path, &arguments, &self.state)
    }
}

/// Continues with the sessions of earlier processes.
pub(super) fn take_over(daemon: &Daemon, sessions: Vec<OwnedFd>) {
    if sessions.is_empty() {
        return;
    }

    let count = state_transfer::unpack(daemon, sessions);
    tracing::info!(count, "continues with the sessions of an earlier process");

    let revocation = &daemon.services.revocation;
    // The service manager's store may contain more, or older ones.
    revocation.subscriptions.mark_sessions_changed();
    // Revocations may have happened while there was no process.
    revocation.poll_all_soon();
}

/// Keeps the service manager's store up to date, if there is one.
pub(super) async fn keep_stored(daemon: Arc<Daemon>) {
    let mut number = 0;

    while inherited_fds::is_supervised() {
        let subscriptions = &daemon.services.revocation.subscriptions;
        subscriptions.sessions_changed().await;
        tokio::time::sleep(STORE_DELAY).await;

        number += 1;
        store(&daemon, number);
    }
}

/// Stores all sessions with the service manager, if there is one.
pub(super) fn store(daemon: &Daemon, number: u64) {
    if !inherited_fds::is_supervised() {
        return;
    }

    if let Some(sessions) = pack(daemon, HandoffTarget::Store)
        && let Err(error) = inherited_fds::store(number, &sessions)
    {
        tracing::warn!(%error, "cannot store the sessions; they are fetched anew after a restart");
    }
}

/// All sessions, for another process.
pub(super) fn pack(daemon: &Daemon, target: HandoffTarget) -> Option<OwnedFd> {
    match state_transfer::pack(daemon, target) {
        Ok(sessions) => Some(sessions),
        Err(error) => {
            tracing::warn!(%error, "cannot pass the sessions on; they are fetched anew");
            None
        }
    }
}
