//! Sessions go from one process to the next without touching a disk: written once into memory that cannot be changed any
//! more (a sealed memfd), and read by whoever inherits its descriptor. What does not fit the configuration of today, or is
//! of an earlier boot of the machine, is left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{MemfdFlags, SealFlags};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::cache::CacheEntry;
use crate::cache::freshness::{ListPresence, MARGIN, Session, SupersededSession};
use crate::clock::{BootTime, Estimate, Now, millis};
use crate::config::LONGEST_SESSION;
use crate::credentials::Broker;
use crate::upstream::bycloud::ByCloud;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{IssuedSession, SLACK};

const VERSION: u32 = 1;
/// The most that is read, in bytes.
const CAP: u64 = 256 * 1024 * 1024;
const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::GROW)
    .union(SealFlags::SHRINK)
    .union(SealFlags::SEAL);

#[derive(Serialize, Deserialize)]
struct Snapshot<S> {
    version: u32,
    /// BootTime time counts from here.
    boot_id: String,
    /// The newest of several counts.
    made_at: BootTime,
    /// What time it is at upstreams, by their identity.
    clocks: BTreeMap<String, Estimate>,
    sessions: Vec<Kept<S>>,
    /// Those that a revocation has raised, by profile and role.
    #[serde(default)]
    generations: BTreeMap<String, u64>,
    /// What was replaced and may still be used, by profile and role.
    #[serde(default)]
    earlier: BTreeMap<String, Vec<Replaced>>,
    /// What opens encrypted tokens, by their upstreams and places.
    #[serde(default = "BTreeMap::new")]
    passphrases: BTreeMap<String, S>,
}

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandoffTarget {
    /// The process that is put in the place of this one.
    Successor,
    /// Whoever has the service manager's store, also once this daemon has ended. A person says a passphrase to one daemon.
    Store,
}

#[derive(Serialize, Deserialize)]
struct Replaced {
    session_id: Box<str>,
    principal: String,
    ends_at: BootTime,
    expires_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Kept<S> {
    profile: String,
    /// Whose session of which role it is.
    identity: String,
    session_id: String,
    principal: String,
    access_key_id: String,
    secret_access_key: S,
    session_token: S,
    issued_at: Timestamp,
    expires_at: Timestamp,
    obtained_at: BootTime,
    received_at: BootTime,
    refresh_left_ms: u64,
    use_left_ms: u64,
    #[serde(default)]
    sightings: ListPresence,
}

/// All sessions of a broker, in memory that nobody can change.
pub fn pack(broker: &Broker, heir: HandoffTarget) -> io::Result<OwnedFd> {
    let now = broker.clock.now();
    let held: Vec<_> = broker
        .cache
        .entries()
        .iter()
        .filter_map(|entry| Some((entry, entry.session()?)))
        .collect();
    let sessions = held
        .iter()
        .map(|(entry, session)| keep(entry, session, &now))
        .collect();
    let (generations, earlier) = standings(broker);
    let clock = |upstream: &UpstreamHandle| {
        (
            upstream.client.identity(),
            upstream.client.server_clock().estimate(),
        )
    };
    let clocks = broker
        .upstreams
        .values()
        .map(|upstream| clock(upstream))
        .collect();
    let others = generations.len() + earlier.values().map(Vec::len).sum::<usize>();
    let keys = broker
        .upstreams
        .values()
        .filter_map(|upstream| upstream.client.bycloud())
        .map(ByCloud::key);
    let said: Vec<_> = keys
        .filter(|_| heir == HandoffTarget::Successor)
        .filter_map(|key| Some((key.sealed_place()?, key.passphrase()?)))
        .collect();
    let snapshot = Snapshot {
        version: VERSION,
        boot_id: boot_id()?,
        made_at: now.boot,
        clocks,
        sessions,
        generations,
        earlier,
        passphrases: said
            .iter()
            .map(|(place, passphrase)| (place.clone(), passphrase.expose_secret()))
            .collect(),
    };
    // As large as it gets, so that no part of it is left behind where it grew out of: printable ASCII is escaped to twice
    // its length at the most.
    let length = |granted: &IssuedSession| {
        2 * (granted.session_token.expose_secret().len()
            + granted.secret_access_key.expose_secret().len())
    };
    let room = held
        .iter()
        .map(|(_, session)| 2048 + length(&session.granted))
        .sum::<usize>();
    let said_length = |(place, passphrase): &(String, SecretString)| {
        6 * (place.len() + passphrase.expose_secret().len())
    };
    let room = room + 1024 * others + said.iter().map(said_length).sum::<usize>();
    let mut text = Zeroizing::new(Vec::with_capacity(
        4096 + 512 * broker.upstreams.len() + room,
    ));
    serde_json::to_writer(&mut *text, &snapshot)?;
    let memory = rustix::fs::memfd_create(
        "rolekeeper-sessions",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    let mut file = File::from(memory);
    file.write_all(&text)?;
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

fn standings(broker: &Broker) -> (BTreeMap<String, u64>, BTreeMap<String, Vec<Replaced>>) {
    let (mut generations, mut earlier) = (BTreeMap::new(), BTreeMap::new());
    for entry in broker.cache.entries() {
        let generation = entry.state.view().generation.number();
        if generation > 0 {
            generations.insert(profile_and_role(entry), generation);
        }
        let replaced = entry.state.earlier();
        if !replaced.is_empty() {
            earlier.insert(
                profile_and_role(entry),
                replaced
                    .iter()
                    .map(|session| Replaced::of(session))
                    .collect(),
            );
        }
    }
    (generations, earlier)
}

fn profile_and_role(entry: &CacheEntry) -> String {
    format!("{} {}", entry.profile.name, entry.role_there())
}

impl Replaced {
    fn of(session: &SupersededSession) -> Self {
        Self {
            session_id: session.session_id.clone(),
            principal: session.principal.to_string(),
            ends_at: session.ends_at,
            expires_at: session.expires_at,
        }
    }
}

impl From<Replaced> for SupersededSession {
    fn from(
        Replaced {
            session_id,
            principal,
            ends_at,
            expires_at,
        }: Replaced,
    ) -> Self {
        Self {
            session_id,
            principal: principal.into(),
            ends_at,
            expires_at,
        }
    }
}

fn keep<'a>(entry: &CacheEntry, session: &'a Session, now: &Now) -> Kept<&'a str> {
    let granted = &session.granted;
    Kept {
        profile: entry.profile.name.to_string(),
        identity: entry.identity(),
        session_id: granted.session_id.to_string(),
        principal: granted.principal.to_string(),
        access_key_id: granted.access_key_id.to_string(),
        secret_access_key: granted.secret_access_key.expose_secret(),
        session_token: granted.session_token.expose_secret(),
        issued_at: granted.issued_at,
        expires_at: granted.expires_at,
        obtained_at: session.obtained_at,
        received_at: session.received_at,
        refresh_left_ms: millis(session.refresh_left),
        use_left_ms: millis(entry.use_left(now)),
        sightings: session.sightings.clone(),
    }
}

/// Takes over what earlier processes left. Says how many sessions that were.
pub fn unpack(broker: &Broker, inherited: Vec<OwnedFd>) -> usize {
    let snapshots = inherited.into_iter().filter_map(|memory| {
        read(memory)
            .inspect_err(
                |error| tracing::warn!(%error, "what an earlier process left cannot be used"),
            )
            .ok()
    });
    let Some(mut newest) = snapshots.max_by_key(|snapshot| snapshot.made_at) else {
        return 0;
    };
    for upstream in broker.upstreams.values() {
        if let Some(known) = newest.clocks.remove(&upstream.client.identity()) {
            upstream.client.server_clock().restore(known);
        }
        if let Some(key) = upstream.client.bycloud().map(ByCloud::key)
            && let Some(passphrase) = key
                .sealed_place()
                .and_then(|place| newest.passphrases.remove(&place))
        {
            key.opens_with(passphrase);
        }
    }
    for entry in broker.cache.entries() {
        let key = profile_and_role(entry);
        let generation = newest.generations.remove(&key).unwrap_or(0);
        let earlier = newest.earlier.remove(&key).unwrap_or_default();
        // What is held has none, and what this machine has ended itself is not to be found revoked.
        let is_over = |replaced: &Replaced| broker.revocations.is_ending(&replaced.session_id);
        let earlier = earlier
            .into_iter()
            .filter(|replaced| entry.state.hold().is_none() && !is_over(replaced));
        entry.state.go_on(
            generation,
            earlier.map(|replaced| Arc::new(replaced.into())).collect(),
        );
    }
    let now = broker.clock.now();
    newest
        .sessions
        .into_iter()
        .filter_map(|kept| take_over(broker, kept, &now))
        .count()
}

fn read(memory: OwnedFd) -> io::Result<Snapshot<SecretString>> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    if !rustix::fs::fcntl_get_seals(&memory)?.contains(SEALS) {
        return Err(invalid("it could still be changed"));
    }
    let mut file = File::from(memory);
    let length = file.metadata()?.len();
    if length > CAP {
        return Err(invalid("it is too long"));
    }
    file.rewind()?;
    let mut text = Zeroizing::new(Vec::with_capacity(
        usize::try_from(length).unwrap_or_default() + 1,
    ));
    file.read_to_end(&mut text)?;
    // Its errors might repeat what they stumbled upon.
    let snapshot: Snapshot<SecretString> = serde_json::from_slice(&text)
        .map_err(|_| invalid("it is not of a version that this program knows"))?;
    if snapshot.version != VERSION {
        return Err(invalid("it is of another version"));
    }
    if snapshot.boot_id != boot_id()? {
        return Err(invalid("the machine has been started anew since"));
    }
    Ok(snapshot)
}

/// `None` if it is of no use any more.
fn take_over(broker: &Broker, kept: Kept<SecretString>, now: &Now) -> Option<()> {
    let entry = broker.cache.find(&kept.profile)?;
    // A profile that is held has no session.
    let generation = entry.state.begin().ok()?;
    let session = Session {
        obtained_at: kept.obtained_at,
        received_at: kept.received_at,
        refresh_left: Duration::from_millis(kept.refresh_left_ms),
        generation,
        sightings: kept.sightings,
        granted: IssuedSession {
            session_id: kept.session_id.into(),
            principal: kept.principal.into(),
            access_key_id: kept.access_key_id.into(),
            secret_access_key: kept.secret_access_key,
            session_token: kept.session_token,
            issued_at: kept.issued_at,
            expires_at: kept.expires_at,
        },
    };
    let is_usable = kept.identity == entry.identity()
        && !broker.revocations.is_ending(&session.granted.session_id)
        && session.obtained_at <= session.received_at
        && session.received_at <= now.boot
        && session.granted.life() <= LONGEST_SESSION + SLACK
        && session.left(now.boot, entry.upstream.client.server_clock()) > MARGIN;
    if !is_usable {
        return None;
    }
    entry.used(now, Duration::from_millis(kept.use_left_ms));
    broker.serve(entry, session).then_some(())
}

fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::policy::Policy;
    use crate::cache::Cache;
    use crate::clock::Clock;
    use crate::config::{DEFAULT_CHECK, Endpoint, HttpTransport, TokenLocation};
    use crate::credentials::Stores;
    use crate::model::UpstreamId;
    use crate::token_source::TokenSource;

    fn broker() -> Arc<Broker> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let source = TokenLocation::Age {
            file: "/token.age".into(),
            identity: None,
        };
        let endpoint = Endpoint::parse("https://iam.example.test").unwrap();
        let client = ByCloud::new(
            endpoint,
            HttpTransport::default(),
            TokenSource::new("u".into(), source),
        )
        .unwrap();
        let upstream = UpstreamHandle::new(
            "u".into(),
            UpstreamId::new(0),
            Box::new(client),
            DEFAULT_CHECK,
        );
        let upstreams = BTreeMap::from([("u".into(), upstream)]);
        Broker::new(
            Policy::of(0),
            Cache::new(Vec::new()),
            upstreams,
            Stores::in_memory(),
            Clock::System,
        )
    }

    fn said(broker: &Broker) -> Option<String> {
        let key = broker.upstreams["u"].client.bycloud().unwrap().key();
        key.passphrase()
            .map(|passphrase| passphrase.expose_secret().to_owned())
    }

    #[tokio::test]
    async fn a_passphrase_goes_to_the_process_that_comes_next_and_into_no_store() {
        let before = broker();
        before.upstreams["u"]
            .client
            .bycloud()
            .unwrap()
            .key()
            .opens_with("\"canary\"".to_owned().into());
        for (heir, want) in [
            (HandoffTarget::Successor, Some("\"canary\"")),
            (HandoffTarget::Store, None),
        ] {
            let after = broker();
            unpack(&after, vec![pack(&before, heir).unwrap()]);
            assert_eq!(said(&after).as_deref(), want, "{heir:?}");
        }
    }
}
