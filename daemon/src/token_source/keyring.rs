//! The system's own store: Secret Service, Keychain or Credential Manager. It is opened for each read, because a daemon
//! outlives the services of a desktop; and a person who was asked to unlock it is not asked again by the next refresh.

use std::sync::Arc;
use std::time::Duration;

use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::TokenErrorKind;
use crate::sync::lock;

/// The attribute `service` of every entry of ours; `username` is the entry's name.
const SERVICE: &str = "rolekeeper";
/// How long a person's answer to a prompt is waited for, at each request. The prompt stays.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether a person has been asked to unlock it, and what became of that.
#[derive(Debug, Default)]
pub(super) struct Asked(std::sync::Mutex<Option<Answer>>);

#[derive(Debug, Clone, Copy)]
enum Answer {
    Dismissed,
    /// The prompt is still there, and whoever asks again would be queued behind it.
    NotYet,
}

impl Asked {
    pub(super) fn ask_again(&self) {
        lock(&self.0).take();
    }
}

pub(super) async fn read(
    name: &str,
    turn: Arc<Mutex<()>>,
    asked: &Asked,
) -> Result<SecretString, TokenErrorKind> {
    let read = |entry: Entry| {
        super::text(entry.get_secret()?).ok_or_else(|| Error::BadEncoding(Vec::new()))
    };
    with_entry(name, turn, asked, read).await
}

pub(super) async fn write(
    name: &str,
    token: SecretString,
    turn: Arc<Mutex<()>>,
    asked: &Asked,
) -> Result<(), TokenErrorKind> {
    with_entry(name, turn, asked, move |entry| {
        entry.set_secret(token.expose_secret().as_bytes())
    })
    .await
}

/// Works on an entry that is unlocked, in a thread of its own: the library waits.
async fn with_entry<T: Send + 'static>(
    name: &str,
    turn: Arc<Mutex<()>>,
    asked: &Asked,
    work: impl FnOnce(Entry) -> Result<T, Error> + Send + 'static,
) -> Result<T, TokenErrorKind> {
    let turn: OwnedMutexGuard<()> = timeout(PATIENCE, turn.lock_owned())
        .await
        .map_err(|_| TokenErrorKind::Waiting)?;
    unlock(name, asked).await?;
    let name = name.to_owned();
    let working = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        entry(&name).and_then(work).map_err(why)
    });
    match timeout(PATIENCE, working).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_crashed)) => Err(TokenErrorKind::Keyring("it failed unexpectedly".into())),
        Err(_elapsed) => Err(TokenErrorKind::Keyring(format!(
            "no answer within {} s",
            PATIENCE.as_secs()
        ))),
    }
}

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

/// Some of the library's errors have the secret in them: none is shown as it is.
fn why(error: Error) -> TokenErrorKind {
    match error {
        Error::NoEntry => TokenErrorKind::NoEntry,
        Error::NoStorageAccess(_) => TokenErrorKind::Locked,
        Error::PlatformFailure(cause) => {
            TokenErrorKind::Keyring(crate::one_line(&cause.to_string()))
        }
        Error::BadEncoding(_) => TokenErrorKind::NotAToken("it is not UTF-8 text"),
        Error::Ambiguous(_) => {
            TokenErrorKind::Keyring("there are several entries of this name".into())
        }
        _ => TokenErrorKind::Keyring("it does not take such an entry".into()),
    }
}

/// Sees that the entry is unlocked, if there is one, and asks a person once if it is not. The library would ask at every
/// read, and wait for the answer for ever.
#[cfg(target_os = "linux")]
async fn unlock(name: &str, asked: &Asked) -> Result<(), TokenErrorKind> {
    let answer = match secret_service::is_locked(name).await? {
        None => {
            asked.ask_again();
            return Ok(());
        }
        Some(locked) => {
            let before = *lock(&asked.0);
            match before {
                Some(answer) => answer,
                None => match timeout(PATIENCE, locked.prompt()).await {
                    Ok(Ok(true)) => return Ok(()),
                    Ok(Ok(false)) => Answer::Dismissed,
                    Ok(Err(error)) => return Err(TokenErrorKind::Keyring(error)),
                    Err(_elapsed) => Answer::NotYet,
                },
            }
        }
    };
    lock(&asked.0).replace(answer);
    Err(match answer {
        Answer::Dismissed => TokenErrorKind::Locked,
        Answer::NotYet => TokenErrorKind::Waiting,
    })
}

/// Elsewhere the store opens with the login.
#[cfg(not(target_os = "linux"))]
async fn unlock(_name: &str, _asked: &Asked) -> Result<(), TokenErrorKind> {
    Ok(())
}

/// What the library does not tell: whether an entry is locked, and what a person answered.
#[cfg(target_os = "linux")]
mod secret_service {
    use std::collections::HashMap;
    use std::time::Duration;

    use futures_util::StreamExt;
    use zbus::message::Type;
    use zbus::zvariant::{OwnedObjectPath, OwnedValue};
    use zbus::{Connection, MatchRule, MessageStream};

    use super::{SERVICE, TokenErrorKind};

    const ANSWER: Duration = Duration::from_secs(5);
    const BUS: &str = "org.freedesktop.secrets";
    const PATH: &str = "/org/freedesktop/secrets";
    const INTERFACE: &str = "org.freedesktop.Secret.Service";
    const PROMPT: &str = "org.freedesktop.Secret.Prompt";
    const UNKNOWN: &str = "org.freedesktop.DBus.Error.ServiceUnknown";

    pub(super) struct Locked {
        session: Connection,
        items: Vec<OwnedObjectPath>,
    }

    /// The entry, if it is there and locked. That there is no service is found out here, too.
    pub(super) async fn is_locked(name: &str) -> Result<Option<Locked>, TokenErrorKind> {
        let attributes = HashMap::from([("service", SERVICE), ("username", name)]);
        let found = async {
            let session = zbus::connection::Builder::session()?
                .method_timeout(ANSWER)
                .build()
                .await?;
            let reply = session
                .call_method(Some(BUS), PATH, Some(INTERFACE), "SearchItems", &attributes)
                .await?;
            let found = reply
                .body()
                .deserialize::<(Vec<OwnedObjectPath>, Vec<OwnedObjectPath>)>()?;
            Ok((session, found))
        };
        match found.await {
            Ok((session, (unlocked, items))) if unlocked.is_empty() && !items.is_empty() => {
                Ok(Some(Locked { session, items }))
            }
            Ok(_) => Ok(None),
            Err(zbus::Error::MethodError(name, _, _)) if name.as_str() != UNKNOWN => Err(
                TokenErrorKind::Keyring(format!("its service answered {name}")),
            ),
            Err(_no_service) => Err(TokenErrorKind::NoKeyring),
        }
    }

    impl Locked {
        /// Shows the service's prompt, and waits for as long as nobody has answered it. Nobody may dismiss it from here:
        /// gnome-keyring does not survive that.
        pub(super) async fn prompt(self) -> Result<bool, String> {
            self.ask()
                .await
                .map_err(|error| crate::one_line(&error.to_string()))
        }

        async fn ask(&self) -> zbus::Result<bool> {
            let unlock = self
                .session
                .call_method(Some(BUS), PATH, Some(INTERFACE), "Unlock", &(&self.items))
                .await?;
            let (_, prompt) = unlock
                .body()
                .deserialize::<(Vec<OwnedObjectPath>, OwnedObjectPath)>()?;
            if prompt.as_str() == "/" {
                return Ok(true);
            }
            let rule = || MatchRule::builder().msg_type(Type::Signal);
            let completed = rule()
                .sender(BUS)?
                .path(prompt.as_ref())?
                .interface(PROMPT)?
                .member("Completed")?
                .build();
            let owner = rule()
                .sender("org.freedesktop.DBus")?
                .member("NameOwnerChanged")?
                .arg(0, BUS)?
                .build();
            let mut completed =
                MessageStream::for_match_rule(completed, &self.session, None).await?;
            let mut gone = MessageStream::for_match_rule(owner, &self.session, None).await?;
            self.session
                .call_method(Some(BUS), &prompt, Some(PROMPT), "Prompt", &(""))
                .await?;
            tokio::select! {
                answer = completed.next() => match answer {
                    Some(answer) => Ok(!answer?.body().deserialize::<(bool, OwnedValue)>()?.0),
                    None => Ok(false),
                },
                _ = gone.next() => Err(zbus::Error::Failure("its service went away".into())),
            }
        }
    }
}
