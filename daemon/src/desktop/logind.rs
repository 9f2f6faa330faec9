//! Ends sessions when the user's screen is locked and before the machine sleeps. A logind inhibitor delays the sleep until
//! the upstream has confirmed the revocations, or 4 s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use zbus::message::Type;
use zbus::names::{MemberName, OwnedUniqueName};
use zbus::zvariant::{OwnedFd, OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, Message, MessageStream};

use crate::model::EndCause;
use crate::platform::users;
use crate::revocation::RevocationService;

const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
const LOGIND: &str = "org.freedesktop.login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const PATH: &str = "/org/freedesktop/login1";

/// How long logind may take to reply.
const REPLY_LIMIT: Duration = Duration::from_secs(5);
/// The pause before reconnecting after logind or the bus has gone.
const RECONNECT_PAUSE: Duration = Duration::from_secs(2);
/// The pause after a failed connection.
const FAILURE_PAUSE: Duration = Duration::from_secs(60);

/// The arguments of the `PropertiesChanged` signal.
type PropertiesChanged = (String, HashMap<String, OwnedValue>, Vec<String>);

struct Listener {
    revocation: Arc<RevocationService>,
    bus: Connection,
    /// Whether a profile is revoked before the machine sleeps.
    delays_sleep: bool,
}

pub(super) async fn follow(revocation: Arc<RevocationService>, delays_sleep: bool) {
    let mut was_logged = false;

    loop {
        match listen(&revocation, delays_sleep, &mut was_logged).await {
            Ok(()) => tokio::time::sleep(RECONNECT_PAUSE).await,
            Err(error) => {
                if !was_logged {
                    tracing::warn!(%error, "cannot detect screen locks and sleeps: logind does not reply on the system bus");
                }
                was_logged = true;
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }
}

/// Returns when the bus or this logind has gone.
async fn listen(
    revocation: &Arc<RevocationService>,
    delays_sleep: bool,
    was_logged: &mut bool,
) -> zbus::Result<()> {
    let bus = zbus::connection::Builder::system()?
        .method_timeout(REPLY_LIMIT)
        .build()
        .await?;
    let mut signals = subscribe(&bus).await?;

    let listener = Listener {
        revocation: Arc::clone(revocation),
        bus,
        delays_sleep,
    };

    let mut inhibitor = listener.inhibit_sleep().await?;
    tracing::info!("screen locks and sleeps are detected");
    *was_logged = false;

    while let Some(signal) = signals.next().await {
        let signal = signal?;
        let header = signal.header();

        match header.member().map(MemberName::as_str) {
            Some("NameOwnerChanged") => break,
            Some("PrepareForSleep") => match signal.body().deserialize::<bool>() {
                Ok(true) => {
                    listener.on_sleep().await;
                    inhibitor = None;
                }
                Ok(false) => inhibitor = listener.inhibit_sleep().await?,
                Err(error) => tracing::warn!(%error, "invalid PrepareForSleep signal from logind"),
            },
            _ => listener.on_session_signal(&signal).await,
        }
    }

    drop(inhibitor);

    Ok(())
}

/// Every process on the bus can send signals, so only those of logind itself are received.
async fn subscribe(
    bus: &Connection,
) -> zbus::Result<impl futures_util::Stream<Item = zbus::Result<Message>> + Unpin + use<>> {
    let owner = bus
        .call_method(Some(BUS), BUS_PATH, Some(BUS), "GetNameOwner", &LOGIND)
        .await?;
    let logind: OwnedUniqueName = owner.body().deserialize()?;

    let sleep = signal(MANAGER, "PrepareForSleep")?.sender(logind.clone())?;
    let lock = signal(SESSION, "Lock")?.sender(logind.clone())?;
    // A desktop that locks by itself sets a property.
    let locked_hint = signal(PROPERTIES, "PropertiesChanged")?
        .sender(logind)?
        .arg(0, SESSION)?;
    let owner_changed = signal(BUS, "NameOwnerChanged")?
        .sender(BUS)?
        .arg(0, LOGIND)?;

    let mut streams = Vec::new();
    for rule in [sleep, lock, locked_hint, owner_changed] {
        let stream = MessageStream::for_match_rule(rule.build(), bus, None).await?;
        streams.push(Box::pin(stream));
    }

    Ok(futures_util::stream::select_all(streams))
}

fn signal(
    interface: &'static str,
    member: &'static str,
) -> zbus::Result<zbus::match_rule::Builder<'static>> {
    MatchRule::builder()
        .msg_type(Type::Signal)
        .interface(interface)?
        .member(member)
}

impl Listener {
    async fn on_sleep(&self) {
        let session_ids = self
            .revocation
            .revoke_on(EndCause::MachineSlept, |on| on.sleep)
            .await;

        self.revocation.outbox.wait_until_tried(&session_ids).await;
    }

    async fn on_session_signal(&self, signal: &Message) {
        if is_lock(signal) && self.is_of_this_user(signal).await {
            self.revocation
                .revoke_on(EndCause::ScreenLocked, |on| on.lock)
                .await;
        }
    }

    /// The machine sleeps once the returned descriptor is closed, or after logind's limit.
    async fn inhibit_sleep(&self) -> zbus::Result<Option<OwnedFd>> {
        if !self.delays_sleep {
            return Ok(None);
        }

        let arguments = (
            "sleep",
            "rolekeeper",
            "revokes sessions before the machine sleeps",
            "delay",
        );

        let reply = self
            .bus
            .call_method(Some(LOGIND), PATH, Some(MANAGER), "Inhibit", &arguments)
            .await?;

        reply.body().deserialize().map(Some)
    }

    /// Whether a login session belongs to the user of this daemon.
    async fn is_of_this_user(&self, signal: &Message) -> bool {
        let header = signal.header();
        let Some(path) = header.path() else {
            return false;
        };

        let arguments = (SESSION, "User");
        let reply = self
            .bus
            .call_method(Some(LOGIND), path, Some(PROPERTIES), "Get", &arguments)
            .await;
        let user = reply.and_then(|reply| reply.body().deserialize::<OwnedValue>());
        let user = user.and_then(|user| Ok(<(u32, OwnedObjectPath)>::try_from(user)?));

        user.is_ok_and(|(uid, _)| uid == users::effective_uid())
    }
}

fn is_lock(signal: &Message) -> bool {
    let header = signal.header();
    if header.member().is_some_and(|member| member == "Lock") {
        return true;
    }

    let Ok((interface, changed, _)) = signal.body().deserialize::<PropertiesChanged>() else {
        return false;
    };

    let locked = changed
        .get("LockedHint")
        .and_then(|hint| hint.downcast_ref::<bool>().ok());

    interface == SESSION && locked == Some(true)
}
