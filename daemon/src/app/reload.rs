//! How one process of this program follows another: the next one is put in the place of this one, or is started by the
//! service manager after an end of whatever kind. Neither may cost a request or a session.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tracing_subscriber::filter::Targets;

use crate::app::inherited_fds::{self, InheritedState};
use crate::app::state_transfer::{self, HandoffTarget};
use crate::credentials::Broker;

/// How long the program on disk may take to look at the configuration.
const CHECK: Duration = Duration::from_secs(10);
/// The most that is read of what it says, in bytes.
const WORDS: u64 = 8 * 1024;
/// New sessions of one moment are put into the service manager's store together.
const TOGETHER: Duration = Duration::from_millis(200);

/// The program on disk, and what it is to be started with.
#[derive(Debug)]
pub struct Program {
    pub path: PathBuf,
    pub config: PathBuf,
    pub socket: PathBuf,
    pub log: Targets,
}

/// What is to be started in the place of this process, and what it gets from it.
#[derive(Debug)]
pub struct Next {
    pub program: Program,
    pub legacy: InheritedState,
}

impl Program {
    /// Whether the program on disk starts, and finds the configuration good. What is wrong is logged, and nothing
    /// changes.
    pub async fn is_sound(&self) -> bool {
        let said = match tokio::time::timeout(CHECK, self.check()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => format!("no answer within {} s", CHECK.as_secs()),
        };
        tracing::error!(program = %self.path.display(), %said, "not reloaded: what runs goes on");
        false
    }

    /// The child does not outlive whoever waits here.
    async fn check(&self) -> io::Result<()> {
        let mut check = Command::new(&self.path);
        check
            .arg("--check")
            .arg("--config")
            .arg(&self.config)
            .kill_on_drop(true);
        let mut child = check
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut said = Vec::new();
        if let Some(words) = child.stderr.take() {
            words.take(WORDS).read_to_end(&mut said).await?;
        }
        if child.wait().await?.success() {
            return Ok(());
        }
        Err(io::Error::other(
            String::from_utf8_lossy(&said).trim().to_owned(),
        ))
    }
}

impl Next {
    /// Returns only if it cannot be started.
    pub fn start(self) -> io::Error {
        let Self {
            program:
                Program {
                    path,
                    config,
                    socket,
                    log,
                },
            legacy,
        } = self;
        let arguments = [
            "--config".into(),
            config.into(),
            "--socket".into(),
            socket.into(),
            "--log".into(),
            log.to_string().into(),
        ];
        inherited_fds::hand_over(&path, &arguments, &legacy)
    }
}

/// Takes over the sessions of earlier processes.
pub fn take_over(broker: &Broker, sessions: Vec<OwnedFd>) {
    if sessions.is_empty() {
        return;
    }
    let count = state_transfer::unpack(broker, sessions);
    tracing::info!(count, "sessions of an earlier process are served on");
    // What the store has may be more, or older.
    broker.has_new.notify_one();
    // Nobody looked while there was no process.
    broker.look_soon(broker.clock.now().boot);
}

/// Keeps the service manager's store up to date, if there is one.
pub async fn keep_stored(broker: Arc<Broker>) {
    let mut number = 0;
    while inherited_fds::is_supervised() {
        broker.has_new.notified().await;
        tokio::time::sleep(TOGETHER).await;
        number += 1;
        store(&broker, number);
    }
}

/// Puts all sessions into the service manager's store, if there is one.
pub fn store(broker: &Broker, number: u64) {
    if !inherited_fds::is_supervised() {
        return;
    }
    let Some(sessions) = pack(broker, HandoffTarget::Store) else {
        return;
    };
    if let Err(error) = inherited_fds::store(number, &sessions) {
        tracing::warn!(%error, "the sessions cannot be stored, and will be fetched anew after a restart");
    }
}

/// All sessions, to be handed over.
pub fn pack(broker: &Broker, heir: HandoffTarget) -> Option<OwnedFd> {
    let packed = state_transfer::pack(broker, heir);
    packed
        .inspect_err(|error| tracing::warn!(%error, "the sessions cannot be handed over, and will be fetched anew"))
        .ok()
}
