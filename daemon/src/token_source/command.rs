//! A token that a program prints, such as a password manager's: started without a shell, with a deadline, and with no more
//! read of it than a token has.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::TokenErrorKind;
use crate::clock::BootTime;
use crate::platform::sys::keep_in_memory;
use crate::sandbox::helper::command_runner::{CommandRunner, Outcome, Running, WELL};

/// How long it may take: a person may be asked for a finger.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// The most that is read, in bytes: a token, and white space around it.
const CAP: u64 = 17 * 1024;

/// What was printed, for as long as it is good.
#[derive(Debug)]
pub(super) struct Kept {
    token: SecretString,
    until: BootTime,
}

impl Kept {
    pub(super) fn new(token: &SecretString, now: BootTime, keep: Duration) -> Option<Self> {
        let kept = (!keep.is_zero()).then(|| Self {
            token: token.clone(),
            until: now.plus(keep),
        });
        kept.inspect(|kept| keep_in_memory(&kept.token))
    }

    pub(super) fn at(&self, now: BootTime) -> Option<SecretString> {
        (now < self.until).then(|| SecretString::from(self.token.expose_secret()))
    }
}

/// It is ended, with whatever it started, unless it ends well in time.
pub(super) async fn run(
    words: &[String],
    starter: Option<&CommandRunner>,
) -> Result<SecretString, TokenErrorKind> {
    let running = starter
        .ok_or(TokenErrorKind::NewProgram)?
        .run(words)
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected => TokenErrorKind::NoStarter(error),
            _ => TokenErrorKind::NotStarted(error),
        })?;
    timeout(DEADLINE, read(running))
        .await
        .unwrap_or(Err(TokenErrorKind::TooSlow))
}

async fn read(running: Running) -> Result<SecretString, TokenErrorKind> {
    let out = Receiver::from_owned_fd(running.out).map_err(TokenErrorKind::Unread)?;
    running
        .line
        .set_nonblocking(true)
        .map_err(TokenErrorKind::Unread)?;
    let mut line = UnixStream::from_std(running.line).map_err(TokenErrorKind::Unread)?;
    let mut printed = Zeroizing::new(Vec::with_capacity(
        usize::try_from(CAP).unwrap_or_default() + 1,
    ));
    out.take(CAP + 1)
        .read_to_end(&mut printed)
        .await
        .map_err(TokenErrorKind::Unread)?;
    if printed.len() as u64 > CAP {
        return Err(TokenErrorKind::TooLong);
    }
    let mut outcome = Vec::new();
    line.read_to_end(&mut outcome)
        .await
        .map_err(TokenErrorKind::Unread)?;
    match serde_json::from_slice(&outcome) {
        Ok(Outcome::Unknown) => return Err(TokenErrorKind::NewProgram),
        Ok(Outcome::NotStarted(error)) => {
            return Err(TokenErrorKind::NotStarted(io::Error::from_raw_os_error(
                error,
            )));
        }
        Ok(Outcome::Ended(0)) => {}
        Ok(Outcome::Ended(status)) => {
            return Err(TokenErrorKind::Ended(
                ExitStatus::from_raw(status).to_string(),
            ));
        }
        Err(error) => return Err(TokenErrorKind::NoStarter(error.into())),
    }
    let text = super::text(std::mem::take(&mut *printed))
        .ok_or(TokenErrorKind::NotAToken("it is not UTF-8 text"))?;
    line.write_all(&[WELL])
        .await
        .map_err(TokenErrorKind::Unread)?;
    Ok(text)
}
