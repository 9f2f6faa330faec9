//! A token that a program prints, such as a password manager's. The command helper starts it without a shell. It has a time
//! limit, and its output a size limit.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::TokenErrorKind;
use crate::clock::BootTime;
use crate::platform::memory::lock_in_memory;
use crate::sandbox::helper::command_runner::{CommandPid, CommandRunner, Outcome, RunningCommand};

/// The program may ask a person, for a fingerprint say.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(30);

/// How long the end of the pipe is awaited once the program has exited.
const GRACE: Duration = Duration::from_millis(200);

/// The longest output, in bytes: a token with white space around it.
const SIZE_LIMIT: usize = 17 * 1024;

/// The token of an earlier run.
#[derive(Debug)]
pub(super) struct CachedToken {
    token: SecretString,
    until: BootTime,
}

impl CachedToken {
    /// None for a `ttl` of zero.
    pub(super) fn new(token: &SecretString, now: BootTime, ttl: Duration) -> Option<Self> {
        if ttl.is_zero() {
            return None;
        }
        let token = token.clone();
        lock_in_memory(token.expose_secret().as_bytes());
        Some(Self {
            token,
            until: now.plus(ttl),
        })
    }

    pub(super) fn get(&self, now: BootTime) -> Option<SecretString> {
        (now < self.until).then(|| SecretString::from(self.token.expose_secret()))
    }
}

/// The program and what it has started are killed, unless the program exits with success in time. `on_start` gets the handle
/// of its process.
pub(super) async fn run(
    command: &[String],
    runner: Option<&CommandRunner>,
    on_start: impl FnOnce(CommandPid),
) -> Result<SecretString, TokenErrorKind> {
    let runner = runner.ok_or(TokenErrorKind::CommandNotAllowed)?;
    let (stdout, running) = runner.run(command).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::NotConnected => TokenErrorKind::CommandRunnerExited,
        _ => TokenErrorKind::CommandNotStarted(error),
    })?;
    on_start(running.pid());

    timeout(TIME_LIMIT, read(stdout, running))
        .await
        .unwrap_or(Err(TokenErrorKind::CommandTimedOut))
}

async fn read(stdout: OwnedFd, running: RunningCommand) -> Result<SecretString, TokenErrorKind> {
    let mut output = Output::new(stdout).map_err(TokenErrorKind::CommandOutput)?;

    // A process that the command leaves behind may keep the pipe open. What the command has printed is in the pipe by then.
    let outcome = tokio::select! {
        read = output.read() => {
            read?;
            running.outcome().await
        }
        outcome = running.outcome() => {
            timeout(GRACE, output.read()).await.unwrap_or(Ok(()))?;
            outcome
        }
    };

    match outcome {
        Some(Outcome::Exited(0)) => {}
        Some(Outcome::Exited(status)) => {
            return Err(TokenErrorKind::CommandFailed(ExitStatus::from_raw(*status)));
        }
        Some(Outcome::NotStarted(errno)) => {
            let error = io::Error::from_raw_os_error(*errno);
            return Err(TokenErrorKind::CommandNotStarted(error));
        }
        Some(Outcome::Allowed | Outcome::NotAllowed | Outcome::Started(_)) => {
            return Err(TokenErrorKind::CommandNotAllowed);
        }
        None => return Err(TokenErrorKind::CommandRunnerExited),
    }

    let token = super::from_utf8(&output.printed)?;
    running.accept();

    Ok(token)
}

/// What the command has printed so far.
struct Output {
    stdout: Receiver,
    printed: Zeroizing<Vec<u8>>,
}

impl Output {
    fn new(stdout: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            stdout: Receiver::from_owned_fd(stdout)?,
            // With its full capacity from the start: growing would leave a copy behind.
            printed: Zeroizing::new(Vec::with_capacity(SIZE_LIMIT + 1)),
        })
    }

    /// Reads to the end of the pipe. If this is dropped before, what is read so far stays in `printed`.
    async fn read(&mut self) -> Result<(), TokenErrorKind> {
        while self.printed.len() <= SIZE_LIMIT {
            let read = self.stdout.read_buf(&mut *self.printed).await;
            if read.map_err(TokenErrorKind::CommandOutput)? == 0 {
                return Ok(());
            }
        }

        Err(TokenErrorKind::CommandOutputTooLong)
    }
}
