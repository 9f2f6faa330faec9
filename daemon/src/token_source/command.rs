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
use crate::sandbox::helper::command_runner::{CommandRunner, Outcome, RunningCommand};

/// The program may ask a person, for a fingerprint say.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(30);

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
        lock_in_memory(&token);
        Some(Self {
            token,
            until: now.plus(ttl),
        })
    }

    pub(super) fn get(&self, now: BootTime) -> Option<SecretString> {
        (now < self.until).then(|| SecretString::from(self.token.expose_secret()))
    }
}

/// The program and what it has started are killed, unless the program exits with success in time.
pub(super) async fn run(
    command: &[String],
    runner: Option<&CommandRunner>,
) -> Result<SecretString, TokenErrorKind> {
    let runner = runner.ok_or(TokenErrorKind::CommandNotAllowed)?;
    let (stdout, running) = runner.run(command).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::NotConnected => TokenErrorKind::CommandRunnerExited,
        _ => TokenErrorKind::CommandNotStarted(error),
    })?;

    timeout(TIME_LIMIT, read(stdout, running))
        .await
        .unwrap_or(Err(TokenErrorKind::CommandTimedOut))
}

async fn read(stdout: OwnedFd, running: RunningCommand) -> Result<SecretString, TokenErrorKind> {
    let printed = read_output(stdout)
        .await
        .map_err(TokenErrorKind::CommandOutput)?;
    if printed.len() > SIZE_LIMIT {
        return Err(TokenErrorKind::CommandOutputTooLong);
    }

    match running.outcome().await {
        Some(Outcome::Exited(0)) => {}
        Some(Outcome::Exited(status)) => {
            return Err(TokenErrorKind::CommandFailed(ExitStatus::from_raw(*status)));
        }
        Some(Outcome::NotStarted(errno)) => {
            let error = io::Error::from_raw_os_error(*errno);
            return Err(TokenErrorKind::CommandNotStarted(error));
        }
        Some(Outcome::Allowed | Outcome::NotAllowed) => {
            return Err(TokenErrorKind::CommandNotAllowed);
        }
        None => return Err(TokenErrorKind::CommandRunnerExited),
    }

    let token = super::from_utf8(&printed)?;
    running.accept();

    Ok(token)
}

/// One byte more than the limit at the most.
async fn read_output(stdout: OwnedFd) -> io::Result<Zeroizing<Vec<u8>>> {
    let stdout = Receiver::from_owned_fd(stdout)?;
    // With its full capacity from the start: growing would leave a copy behind.
    let mut printed = Zeroizing::new(Vec::with_capacity(SIZE_LIMIT + 1));
    let limit = u64::try_from(SIZE_LIMIT).unwrap_or_default();
    stdout.take(limit + 1).read_to_end(&mut printed).await?;
    Ok(printed)
}
