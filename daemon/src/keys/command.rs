//! A token that a program prints, such as a password manager's: started without a shell, with a deadline, and with no more
//! read of it than a token has.

use std::process::Stdio;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Why;
use crate::clock::Boot;
use crate::process::keep_in_memory;

/// How long it may take: a person may be asked for a finger.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// The most that is read, in bytes: a token, and white space around it.
const CAP: u64 = 17 * 1024;

/// What was printed, for as long as it is good.
#[derive(Debug)]
pub(super) struct Kept {
    token: SecretString,
    until: Boot,
}

impl Kept {
    pub(super) fn new(token: &SecretString, now: Boot, keep: Duration) -> Option<Self> {
        let kept = (!keep.is_zero()).then(|| Self { token: token.clone(), until: now.plus(keep) });
        kept.inspect(|kept| keep_in_memory(&kept.token))
    }

    pub(super) fn at(&self, now: Boot) -> Option<SecretString> {
        (now < self.until).then(|| SecretString::from(self.token.expose_secret()))
    }
}

/// What it says on standard error is not read: it may repeat what it was asked for.
pub(super) async fn run(words: &[String]) -> Result<SecretString, Why> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| Why::NotStarted(std::io::ErrorKind::NotFound.into()))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    // So that what it starts can be ended with it.
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn().map_err(Why::NotStarted)?;
    let read = timeout(DEADLINE, read(&mut child)).await;
    if !matches!(read, Ok(Ok(_))) {
        end(&mut child);
    }
    read.unwrap_or(Err(Why::TooSlow))
}

async fn read(child: &mut Child) -> Result<SecretString, Why> {
    let mut printed = Zeroizing::new(Vec::with_capacity(usize::try_from(CAP).unwrap_or_default() + 1));
    if let Some(out) = child.stdout.take() {
        out.take(CAP + 1).read_to_end(&mut printed).await.map_err(Why::Unread)?;
    }
    if printed.len() as u64 > CAP {
        return Err(Why::TooLong);
    }
    let status = child.wait().await.map_err(Why::Unread)?;
    if !status.success() {
        return Err(Why::Ended(status.to_string()));
    }
    super::text(std::mem::take(&mut *printed)).ok_or(Why::NotAToken("it is not UTF-8 text"))
}

/// It, and whatever it started that is still in its group.
fn end(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?)) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.start_kill();
}
