//! What logind tells: the user's screen is locked, the machine goes to sleep. Going to sleep is put off, for less time than
//! logind allows, until the upstream has been told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rolekeeper::protocol::Cause;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream};
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant};

use crate::broker::Broker;
use crate::process;

const LOGIND: &str = "org.freedesktop.login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const PATH: &str = "/org/freedesktop/login1";

/// Until the bus is tried again where it cannot be had.
const PAUSE: Duration = Duration::from_secs(60);

pub(super) async fn follow(broker: Arc<Broker>) {
    let mut was_told = false;
    loop {
        let ended = listen(&broker, &mut was_told).await;
        if !std::mem::replace(&mut was_told, true) {
            let error = ended.err().map(tracing::field::display);
            tracing::warn!(error, "locks and sleeps are not noticed: logind does not answer on the system's D-Bus");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Until the bus goes away.
async fn listen(broker: &Arc<Broker>, was_told: &mut bool) -> zbus::Result<()> {
    let bus = Connection::system().await?;
    let signals = |interface: &'static str, member: &'static str| {
        let rule = MatchRule::builder().msg_type(Type::Signal).sender(LOGIND).interface(interface).member(member);
        let bus = &bus;
        async move { MessageStream::for_match_rule(rule.build()?, bus, None).await }
    };
    // A desktop that locks by itself says so in a property.
    let changes = signals(PROPERTIES, "PropertiesChanged").await?;
    let (sleeps, locks) = (signals(MANAGER, "PrepareForSleep").await?, signals(SESSION, "Lock").await?);
    let mut signals = futures_util::stream::select_all([sleeps, locks, changes].map(Box::pin));
    let mut delay = put_off_sleep(broker, &bus).await?;
    tracing::info!("locks and sleeps are noticed");
    *was_told = false;
    while let Some(signal) = signals.next().await {
        let signal = signal?;
        match signal.header().member().map(zbus::names::MemberName::as_str) {
            Some("PrepareForSleep") => {
                if signal.body().deserialize::<bool>()? {
                    let ended = broker.revoke_on(Cause::Slept, |on| on.sleep);
                    broker.await_withdrawals(&ended).await;
                    delay = None;
                } else {
                    delay = put_off_sleep(broker, &bus).await?;
                }
            }
            _ if is_lock(&signal) && is_mine(&bus, &signal).await => {
                broker.revoke_on(Cause::Locked, |on| on.lock);
            }
            _ => {}
        }
    }
    drop(delay);
    Ok(())
}

/// The machine sleeps only once what is returned here is dropped, or a few seconds later.
async fn put_off_sleep(broker: &Broker, bus: &Connection) -> zbus::Result<Option<OwnedFd>> {
    if !broker.cache.slots().iter().any(|slot| slot.profile.revoke_on.sleep) {
        return Ok(None);
    }
    let how = ("sleep", "rolekeeper", "sessions are revoked before the machine sleeps", "delay");
    bus.call_method(Some(LOGIND), PATH, Some(MANAGER), "Inhibit", &how).await?.body().deserialize().map(Some)
}

fn is_lock(signal: &Message) -> bool {
    if signal.header().member().is_some_and(|member| member.as_str() == "Lock") {
        return true;
    }
    type Changed = (String, std::collections::HashMap<String, OwnedVariant>, Vec<String>);
    signal.body().deserialize::<Changed>().is_ok_and(|(interface, changed, _)| {
        let hint = changed.get("LockedHint").and_then(|hint| hint.downcast_ref::<bool>().ok());
        interface == SESSION && hint == Some(true)
    })
}

/// Whether it is a login of the user whom this daemon serves.
async fn is_mine(bus: &Connection, signal: &Message) -> bool {
    let header = signal.header();
    let Some(path) = header.path() else { return false };
    let user = bus.call_method(Some(LOGIND), path, Some(PROPERTIES), "Get", &(SESSION, "User")).await;
    let user = user.and_then(|reply| reply.body().deserialize::<OwnedVariant>());
    let user = user.and_then(<(u32, OwnedObjectPath)>::try_from);
    user.is_ok_and(|(uid, _)| uid == process::user())
}
