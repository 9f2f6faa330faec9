//! What the keyring library does not offer: whether an entry is locked, and a prompt with an answer.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use zbus::message::Type;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, MessageStream};

use super::{SERVICE, TokenErrorKind};

const CALL_LIMIT: Duration = Duration::from_secs(5);
const BUS: &str = "org.freedesktop.secrets";
const PATH: &str = "/org/freedesktop/secrets";
const INTERFACE: &str = "org.freedesktop.Secret.Service";
const PROMPT: &str = "org.freedesktop.Secret.Prompt";
const SERVICE_UNKNOWN: &str = "org.freedesktop.DBus.Error.ServiceUnknown";

pub(super) struct LockedEntry {
    session: Connection,
    items: Vec<OwnedObjectPath>,
}

/// The entry of this name, if it exists and is locked.
pub(super) async fn find_locked(name: &str) -> Result<Option<LockedEntry>, TokenErrorKind> {
    match search(name).await {
        Ok((session, unlocked, items)) if unlocked.is_empty() && !items.is_empty() => {
            Ok(Some(LockedEntry { session, items }))
        }
        Ok(_) => Ok(None),
        Err(zbus::Error::MethodError(name, _, _)) if name.as_str() != SERVICE_UNKNOWN => Err(
            TokenErrorKind::Keyring(format!("its service responded {name}")),
        ),
        Err(_no_service) => Err(TokenErrorKind::NoKeyringService),
    }
}

/// The unlocked and the locked items.
async fn search(
    name: &str,
) -> zbus::Result<(Connection, Vec<OwnedObjectPath>, Vec<OwnedObjectPath>)> {
    let session = zbus::connection::Builder::session()?
        .method_timeout(CALL_LIMIT)
        .build()
        .await?;
    let attributes = HashMap::from([("service", SERVICE), ("username", name)]);
    let reply = session
        .call_method(Some(BUS), PATH, Some(INTERFACE), "SearchItems", &attributes)
        .await?;
    let (unlocked, locked) = reply.body().deserialize()?;

    Ok((session, unlocked, locked))
}

impl LockedEntry {
    /// Opens the service's prompt, and waits for the answer: whether the entry is unlocked now. The prompt is never closed from
    /// here: gnome-keyring crashes on that.
    pub(super) async fn prompt(self) -> Result<bool, String> {
        self.try_prompt()
            .await
            .map_err(|error| crate::text::one_line(&error.to_string()))
    }

    async fn try_prompt(&self) -> zbus::Result<bool> {
        let unlock = self
            .session
            .call_method(Some(BUS), PATH, Some(INTERFACE), "Unlock", &(&self.items))
            .await?;
        let (_, prompt) = unlock
            .body()
            .deserialize::<(Vec<OwnedObjectPath>, OwnedObjectPath)>()?;
        // No prompt is needed.
        if prompt.as_str() == "/" {
            return Ok(true);
        }

        let completed = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(BUS)?
            .path(prompt.as_ref())?
            .interface(PROMPT)?
            .member("Completed")?
            .build();
        let owner_changed = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")?
            .member("NameOwnerChanged")?
            .arg(0, BUS)?
            .build();
        let mut completed = MessageStream::for_match_rule(completed, &self.session, None).await?;
        let mut exited = MessageStream::for_match_rule(owner_changed, &self.session, None).await?;
        self.session
            .call_method(Some(BUS), &prompt, Some(PROMPT), "Prompt", &(""))
            .await?;

        tokio::select! {
            answer = completed.next() => match answer {
                Some(answer) => {
                    let (is_dismissed, _) = answer?.body().deserialize::<(bool, OwnedValue)>()?;
                    Ok(!is_dismissed)
                }
                None => Ok(false),
            },
            _ = exited.next() => Err(zbus::Error::Failure("its service has exited".into())),
        }
    }
}
