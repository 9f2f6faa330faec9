//! The system's own store: Secret Service, Keychain or Credential Manager. It is opened for each read, because a daemon
//! outlives the services of a desktop; and a person who has dismissed its prompt is not asked again by the next refresh.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::Why;

/// The attribute `service` of every entry of ours; `username` is the entry's name.
const SERVICE: &str = "rolekeeper";
/// How long a person's answer to a prompt is waited for, at each request. The prompt stays.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether a person has been asked to unlock it, and did not.
#[derive(Debug, Default)]
pub(super) struct Asked(AtomicBool);

impl Asked {
    pub(super) fn ask_again(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

pub(super) async fn read(name: &str, turn: Arc<Mutex<()>>, asked: &Arc<Asked>) -> Result<SecretString, Why> {
    let read = |entry: Entry| super::text(entry.get_secret()?).ok_or_else(|| Error::BadEncoding(Vec::new()));
    with_entry(name, turn, asked, read).await
}

pub(super) async fn write(
    name: &str,
    token: SecretString,
    turn: Arc<Mutex<()>>,
    asked: &Arc<Asked>,
) -> Result<(), Why> {
    with_entry(name, turn, asked, move |entry| entry.set_secret(token.expose_secret().as_bytes())).await
}

/// Works on an entry in a thread of its own, which may wait for a person for as long as that takes; nobody else asks
/// meanwhile.
async fn with_entry<T: Send + 'static>(
    name: &str,
    turn: Arc<Mutex<()>>,
    asked: &Arc<Asked>,
    work: impl FnOnce(Entry) -> Result<T, Error> + Send + 'static,
) -> Result<T, Why> {
    let turn: OwnedMutexGuard<()> = timeout(PATIENCE, turn.lock_owned()).await.map_err(|_| Why::Waiting)?;
    let is_locked = is_locked(name).await?;
    if is_locked && asked.0.load(Ordering::Relaxed) {
        return Err(Why::Locked);
    }
    let (name, asked) = (name.to_owned(), Arc::clone(asked));
    let working = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let outcome = entry(&name).and_then(work).map_err(why);
        asked.0.store(matches!(outcome, Err(Why::Locked)), Ordering::Relaxed);
        outcome
    });
    match timeout(PATIENCE, working).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_crashed)) => Err(Why::Keyring("it failed unexpectedly".into())),
        Err(_elapsed) => Err(Why::Waiting),
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
fn why(error: Error) -> Why {
    match error {
        Error::NoEntry => Why::NoEntry,
        Error::NoStorageAccess(_) => Why::Locked,
        Error::PlatformFailure(cause) => Why::Keyring(crate::one_line(&cause.to_string())),
        Error::BadEncoding(_) => Why::NotAToken("it is not UTF-8 text"),
        Error::Ambiguous(_) => Why::Keyring("there are several entries of this name".into()),
        _ => Why::Keyring("it does not take such an entry".into()),
    }
}

/// Whether reading it would ask a person. That there is no service is found out here, too.
#[cfg(target_os = "linux")]
async fn is_locked(name: &str) -> Result<bool, Why> {
    use std::collections::HashMap;
    use zbus::zvariant::OwnedObjectPath;

    const ANSWER: Duration = Duration::from_secs(5);
    let (bus, path, interface) =
        ("org.freedesktop.secrets", "/org/freedesktop/secrets", "org.freedesktop.Secret.Service");
    let attributes = HashMap::from([("service", SERVICE), ("username", name)]);
    let found = async {
        let session = zbus::connection::Builder::session()?.method_timeout(ANSWER).build().await?;
        let reply = session.call_method(Some(bus), path, Some(interface), "SearchItems", &attributes).await?;
        reply.body().deserialize::<(Vec<OwnedObjectPath>, Vec<OwnedObjectPath>)>()
    };
    match found.await {
        Ok((unlocked, locked)) => Ok(unlocked.is_empty() && !locked.is_empty()),
        Err(zbus::Error::MethodError(name, _, _)) if name.as_str() != "org.freedesktop.DBus.Error.ServiceUnknown" => {
            Err(Why::Keyring(format!("its service answered {name}")))
        }
        Err(_no_service) => Err(Why::NoKeyring),
    }
}

/// Elsewhere the store is never asked behind a person's back: it opens with the login.
#[cfg(not(target_os = "linux"))]
async fn is_locked(_name: &str) -> Result<bool, Why> {
    Ok(false)
}
