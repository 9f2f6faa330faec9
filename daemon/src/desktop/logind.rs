//! What logind tells: the user's screen is locked, the machine goes to sleep. Going to sleep is put off, for less time than
//! logind allows, until the upstream has been told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rolekeeper::protocol::EndCause;
use zbus::message::Type;
use zbus::names::{MemberName, OwnedUniqueName};
use zbus::zvariant::{OwnedFd, OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, Message, MessageStream};

use crate::credentials::Broker;
use crate::platform::sys;

const BUS: &str = "org.freedesktop.DBus";
const LOGIND: &str = "org.freedesktop.login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const PATH: &str = "/org/freedesktop/login1";

/// How long an answer of logind's is waited for.
const ANSWER: Duration = Duration::from_secs(5);
/// Until a logind, or a bus, that has gone away is looked for again.
const RESTART: Duration = Duration::from_secs(2);
/// Until the bus is tried again where it cannot be had.
const PAUSE: Duration = Duration::from_secs(60);

pub(super) async fn follow(broker: Arc<Broker>) {
    let mut was_told = false;
    loop {
        match listen(&broker, &mut was_told).await {
            Ok(()) => tokio::time::sleep(RESTART).await,
            Err(error) => {
                if !std::mem::replace(&mut was_told, true) {
                    tracing::warn!(%error, "locks and sleeps are not noticed: logind does not answer on the system's D-Bus");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Until the bus, or the logind that is there now, goes away.
async fn listen(broker: &Arc<Broker>, was_told: &mut bool) -> zbus::Result<()> {
    let bus = zbus::connection::Builder::system()?
        .method_timeout(ANSWER)
        .build()
        .await?;
    // Anybody on the bus may say that the machine sleeps; only logind knows.
    let logind = bus
        .call_method(
            Some(BUS),
            "/org/freedesktop/DBus",
            Some(BUS),
            "GetNameOwner",
            &LOGIND,
        )
        .await?;
    let logind: OwnedUniqueName = logind.body().deserialize()?;
    let signals = |rule: MatchRule<'static>| {
        let bus = &bus;
        async move { MessageStream::for_match_rule(rule, bus, None).await }
    };
    let signal = |interface: &'static str, member: &'static str| {
        MatchRule::builder()
            .msg_type(Type::Signal)
            .interface(interface)?
            .member(member)
    };
    let by_logind = |interface, member| signal(interface, member)?.sender(logind.clone());
    // A desktop that locks by itself says so in a property.
    let changes = by_logind(PROPERTIES, "PropertiesChanged")?
        .arg(0, SESSION)?
        .build();
    let (sleeps, locks) = (
        by_logind(MANAGER, "PrepareForSleep")?.build(),
        by_logind(SESSION, "Lock")?.build(),
    );
    let owner = signal(BUS, "NameOwnerChanged")?
        .sender(BUS)?
        .arg(0, LOGIND)?
        .build();
    let all = [
        signals(sleeps).await?,
        signals(locks).await?,
        signals(changes).await?,
        signals(owner).await?,
    ];
    let mut signals = futures_util::stream::select_all(all.map(Box::pin));
    let mut delay = put_off_sleep(broker, &bus).await?;
    tracing::info!("locks and sleeps are noticed");
    *was_told = false;
    while let Some(signal) = signals.next().await {
        let signal = signal?;
        match signal.header().member().map(MemberName::as_str) {
            Some("PrepareForSleep") => match signal.body().deserialize::<bool>() {
                Ok(true) => {
                    let ended = broker.revoke_on(EndCause::Slept, |on| on.sleep).await;
                    broker.await_withdrawals(&ended).await;
                    delay = None;
                }
                Ok(false) => delay = put_off_sleep(broker, &bus).await?,
                Err(error) => {
                    tracing::warn!(%error, "logind says something else than whether the machine sleeps")
                }
            },
            Some("NameOwnerChanged") => break,
            _ if is_lock(&signal) && is_mine(&bus, &signal).await => {
                broker.revoke_on(EndCause::Locked, |on| on.lock).await;
            }
            _ => {}
        }
    }
    drop(delay);
    Ok(())
}

/// The machine sleeps only once what is returned here is dropped, or a few seconds later.
async fn put_off_sleep(broker: &Broker, bus: &Connection) -> zbus::Result<Option<OwnedFd>> {
    if !broker
        .cache
        .entries()
        .iter()
        .any(|entry| entry.profile.revoke_on.sleep)
    {
        return Ok(None);
    }
    let how = (
        "sleep",
        "rolekeeper",
        "sessions are revoked before the machine sleeps",
        "delay",
    );
    bus.call_method(Some(LOGIND), PATH, Some(MANAGER), "Inhibit", &how)
        .await?
        .body()
        .deserialize()
        .map(Some)
}

fn is_lock(signal: &Message) -> bool {
    if signal
        .header()
        .member()
        .is_some_and(|member| member.as_str() == "Lock")
    {
        return true;
    }
    type Changed = (
        String,
        std::collections::HashMap<String, OwnedValue>,
        Vec<String>,
    );
    signal
        .body()
        .deserialize::<Changed>()
        .is_ok_and(|(interface, changed, _)| {
            let hint = changed
                .get("LockedHint")
                .and_then(|hint| hint.downcast_ref::<bool>().ok());
            interface == SESSION && hint == Some(true)
        })
}

/// Whether it is a login of the user whom this daemon serves.
async fn is_mine(bus: &Connection, signal: &Message) -> bool {
    let header = signal.header();
    let Some(path) = header.path() else {
        return false;
    };
    let user = bus
        .call_method(
            Some(LOGIND),
            path,
            Some(PROPERTIES),
            "Get",
            &(SESSION, "User"),
        )
        .await;
    let user = user.and_then(|reply| reply.body().deserialize::<OwnedValue>());
    let user = user.and_then(|user| Ok(<(u32, OwnedObjectPath)>::try_from(user)?));
    user.is_ok_and(|(uid, _)| uid == sys::user())
}
