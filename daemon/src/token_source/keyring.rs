//! A token in the system's keyring: Secret Service, Keychain or Credential Manager. Each use opens the keyring anew, because
//! the daemon runs longer than the services of a desktop session. The daemon prompts to unlock it once, until the user runs
//! `rolekeeper unlock` or `rolekeeper login`.

#[cfg(target_os = "linux")]
mod secret_service;

use std::sync::Arc;
use std::time::Duration;

use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{NOT_UTF8, TokenErrorKind};
use crate::sync::lock;

/// The attribute `service` of our entries. `username` is the entry's name.
const SERVICE: &str = "rolekeeper";

/// How long a request waits for the keyring, and for the answer to its prompt. The prompt stays open.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// The state of the prompt to unlock the keyring.
#[derive(Debug, Default)]
pub(super) struct UnlockPrompt(std::sync::Mutex<Option<Unanswered>>);

#[derive(Debug, Clone, Copy)]
enum Unanswered {
    Dismissed,
    /// The service would queue another prompt behind it.
    StillOpen,
}

impl UnlockPrompt {
    /// Allows another prompt.
    pub(super) fn reset(&self) {
        lock(&self.0).take();
    }
}

pub(super) async fn read(
    name: &str,
    turn: Arc<Mutex<()>>,
    prompt: &UnlockPrompt,
) -> Result<SecretString, TokenErrorKind> {
    let secret = with_entry(name, turn, prompt, |entry| {
        entry.get_secret().map(Zeroizing::new)
    });
    super::from_utf8(&secret.await?)
}

pub(super) async fn write(
    name: &str,
    token: SecretString,
    turn: Arc<Mutex<()>>,
    prompt: &UnlockPrompt,
) -> Result<(), TokenErrorKind> {
    with_entry(name, turn, prompt, move |entry| {
        entry.set_secret(token.expose_secret().as_bytes())
    })
    .await
}

/// Runs work on an unlocked entry, in a thread of its own: the library blocks.
async fn with_entry<T: Send + 'static>(
    name: &str,
    turn: Arc<Mutex<()>>,
    prompt: &UnlockPrompt,
    work: impl FnOnce(Entry) -> Result<T, Error> + Send + 'static,
) -> Result<T, TokenErrorKind> {
    let turn: OwnedMutexGuard<()> = timeout(TIME_LIMIT, turn.lock_owned())
        .await
        .map_err(|_elapsed| TokenErrorKind::KeyringPromptOpen)?;
    unlock(name, prompt).await?;

    let name = name.to_owned();
    let working = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        entry(&name).and_then(work).map_err(error_kind)
    });

    match timeout(TIME_LIMIT, working).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_panicked)) => Err(TokenErrorKind::Keyring("internal error".into())),
        Err(_elapsed) => Err(TokenErrorKind::Keyring(format!(
            "no response within {} s",
            TIME_LIMIT.as_secs()
        ))),
    }
}

// The stores are crates of one system each.

#[cfg(not(any(target_os = "macos", windows)))]
fn entry(name: &str) -> Result<Entry, Error> {
    zbus_secret_service_keyring_store::Store::new()?.build(SERVICE, name, None)
}

#[cfg(target_os = "macos")]
fn entry(name: &str) -> Result<Entry, Error> {
    apple_native_keyring_store::keychain::Store::new()?.build(SERVICE, name, None)
}

#[cfg(windows)]
fn entry(name: &str) -> Result<Entry, Error> {
    windows_native_keyring_store::Store::new()?.build(SERVICE, name, None)
}

/// Some of the library's errors contain the secret, so no error is printed as it is.
fn error_kind(error: Error) -> TokenErrorKind {
    match error {
        Error::NoEntry => TokenErrorKind::NoKeyringEntry,
        Error::NoStorageAccess(_) => TokenErrorKind::KeyringLocked,
        Error::PlatformFailure(cause) => {
            TokenErrorKind::Keyring(crate::text::one_line(&cause.to_string()))
        }
        Error::BadEncoding(_) => TokenErrorKind::InvalidToken(NOT_UTF8),
        Error::Ambiguous(_) => {
            TokenErrorKind::Keyring("there are several entries of this name".into())
        }
        _ => TokenErrorKind::Keyring("it does not support this entry".into()),
    }
}

/// Prompts once to unlock an entry that is locked. The library would prompt at every read, and wait without limit.
#[cfg(target_os = "linux")]
async fn unlock(name: &str, prompt: &UnlockPrompt) -> Result<(), TokenErrorKind> {
    let Some(locked) = secret_service::find_locked(name).await? else {
        prompt.reset();
        return Ok(());
    };

    let before = *lock(&prompt.0);
    let unanswered = match before {
        Some(unanswered) => unanswered,
        None => match timeout(TIME_LIMIT, locked.prompt()).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => Unanswered::Dismissed,
            Ok(Err(error)) => return Err(TokenErrorKind::Keyring(error)),
            Err(_elapsed) => Unanswered::StillOpen,
        },
    };

    lock(&prompt.0).replace(unanswered);
    Err(match unanswered {
        Unanswered::Dismissed => TokenErrorKind::KeyringLocked,
        Unanswered::StillOpen => TokenErrorKind::KeyringPromptOpen,
    })
}

/// Elsewhere the login unlocks the keyring.
#[cfg(not(target_os = "linux"))]
async fn unlock(_name: &str, _prompt: &UnlockPrompt) -> Result<(), TokenErrorKind> {
    Ok(())
}
