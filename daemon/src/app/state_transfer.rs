//! Passes sessions from one process to the next without touching a disk: they are written once into a sealed memory file,
//! and read by the process that inherits its descriptor. What does not fit today's configuration, or was written before
//! the machine was restarted, is left out.

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

use super::daemon::Daemon;
use crate::cache::CacheEntry;
use crate::cache::session::{ListPresence, Session, SupersededSession};
use crate::clock::{BootTime, Estimate, Now, millis};
use crate::config::LONGEST_SESSION;
use crate::model::MARGIN;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{IssuedSession, Login, SLACK};

const VERSION: u32 = 1;
/// The most that is read, in bytes.
const MAX_SIZE: u64 = 256 * 1024 * 1024;
const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::GROW)
    .union(SealFlags::SHRINK)
    .union(SealFlags::SEAL);

/// Upper bounds of the JSON of each item, in bytes, without the secrets.
const BASE_SIZE: usize = 4096;
const UPSTREAM_SIZE: usize = 512;
const SESSION_SIZE: usize = 2048;
const OTHER_SIZE: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Snapshot<S> {
    version: u32,
    /// Boot times are comparable within one boot only.
    boot_id: String,
    /// The newest of several snapshots is used.
    made_at: BootTime,
    /// The server clocks, by the upstream's identity.
    clocks: BTreeMap<String, Estimate>,
    sessions: Vec<PackedSession<S>>,
    /// The generations that revocations incremented, by profile and role.
    generations: BTreeMap<String, u64>,
    /// By profile and role.
    superseded: BTreeMap<String, Vec<PackedSuperseded>>,
    /// The passphrases of encrypted tokens, by their ids.
    passphrases: BTreeMap<String, S>,
    /// The sessions that passed MFA, by the upstream's identity.
    mfa_sessions: BTreeMap<String, S>,
}

/// Which process reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandoffTarget {
    /// The process that replaces this one.
    Successor,
    /// A process that the service manager starts, even after this daemon has ended. It gets no passphrase, because the
    /// user entered that for one daemon.
    Store,
}

#[derive(Serialize, Deserialize)]
struct PackedSession<S> {
    profile: String,
    /// [`CacheEntry::session_identity`]
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
    list_presence: ListPresence,
}

#[derive(Serialize, Deserialize)]
struct PackedSuperseded {
    session_id: Box<str>,
    principal: String,
    ends_at: BootTime,
    expires_at: Timestamp,
}

/// The state of all profiles, in a sealed memory file.
pub fn pack(daemon: &Daemon, target: HandoffTarget) -> io::Result<OwnedFd> {
    let now = daemon.clock.now();
    let sessions: Vec<_> = daemon
        .cache
        .entries()
        .iter()
        .filter_map(|entry| Some((entry, entry.session()?)))
        .collect();
    let passphrases = passphrases(daemon, target);
    let mfa_sessions = mfa_sessions(daemon);
    let snapshot = Snapshot {
        version: VERSION,
        boot_id: boot_id()?,
        made_at: now.boot,
        clocks: clocks(daemon),
        sessions: sessions
            .iter()
            .map(|(entry, session)| PackedSession::of(entry, session, &now))
            .collect(),
        generations: generations(daemon),
        superseded: superseded(daemon),
        passphrases: exposed(&passphrases),
        mfa_sessions: exposed(&mfa_sessions),
    };

    // It never grows, so that no copy of a secret is left behind.
    let mut text = Zeroizing::new(Vec::with_capacity(max_size(daemon, &snapshot)));
    serde_json::to_writer(&mut *text, &snapshot)?;

    sealed_memory(&text)
}

fn exposed(secrets: &BTreeMap<String, SecretString>) -> BTreeMap<String, &str> {
    let exposed = secrets
        .iter()
        .map(|(key, secret)| (key.clone(), secret.expose_secret()));
    exposed.collect()
}

fn sealed_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create(
        "rolekeeper-sessions",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    let mut file = File::from(memory);
    file.write_all(bytes)?;
    rustix::fs::fcntl_add_seals(&file, SEALS)?;

    Ok(file.into())
}

/// JSON escapes printable ASCII to at most twice its length, and any text to at most six times.
fn max_size(daemon: &Daemon, snapshot: &Snapshot<&str>) -> usize {
    let upstreams = daemon.upstreams.iter().count();
    let others =
        snapshot.generations.len() + snapshot.superseded.values().map(Vec::len).sum::<usize>();
    let sessions: usize = snapshot
        .sessions
        .iter()
        .map(|session| {
            let secrets = session.session_token.len() + session.secret_access_key.len();
            SESSION_SIZE + 2 * secrets
        })
        .sum();
    let secrets: usize = snapshot
        .passphrases
        .iter()
        .chain(&snapshot.mfa_sessions)
        .map(|(key, secret)| 6 * (key.len() + secret.len()))
        .sum();

    BASE_SIZE + UPSTREAM_SIZE * upstreams + OTHER_SIZE * others + sessions + secrets
}

fn clocks(daemon: &Daemon) -> BTreeMap<String, Estimate> {
    let mut clocks = BTreeMap::new();
    for upstream in daemon.upstreams.iter() {
        let estimate = upstream.client.server_clock().estimate();
        clocks.insert(upstream.client.identity(), estimate);
    }

    clocks
}

fn passphrases(daemon: &Daemon, target: HandoffTarget) -> BTreeMap<String, SecretString> {
    if target == HandoffTarget::Store {
        return BTreeMap::new();
    }

    daemon
        .upstreams
        .iter()
        .filter_map(|upstream| upstream.client.login())
        .map(Login::token_source)
        .filter_map(|source| Some((source.passphrase_id()?, source.passphrase()?)))
        .collect()
}

fn mfa_sessions(daemon: &Daemon) -> BTreeMap<String, SecretString> {
    let of_upstream = |upstream: &Arc<UpstreamHandle>| {
        let session = upstream.client.mfa()?.session()?;
        Some((upstream.client.identity(), session))
    };

    daemon.upstreams.iter().filter_map(of_upstream).collect()
}

fn generations(daemon: &Daemon) -> BTreeMap<String, u64> {
    let mut generations = BTreeMap::new();
    for entry in daemon.cache.entries() {
        let generation = entry.state.snapshot().generation.number();
        if generation > 0 {
            generations.insert(profile_and_role(entry), generation);
        }
    }

    generations
}

fn superseded(daemon: &Daemon) -> BTreeMap<String, Vec<PackedSuperseded>> {
    let mut all = BTreeMap::new();
    for entry in daemon.cache.entries() {
        let superseded = entry.state.superseded();
        if !superseded.is_empty() {
            let packed = superseded
                .iter()
                .map(|session| PackedSuperseded::of(session));
            all.insert(profile_and_role(entry), packed.collect());
        }
    }

    all
}

fn profile_and_role(entry: &CacheEntry) -> String {
    format!("{} {}", entry.profile.name, entry.role_at_upstream())
}

impl PackedSuperseded {
    fn of(session: &SupersededSession) -> Self {
        Self {
            session_id: session.session_id.clone(),
            principal: session.principal.to_string(),
            ends_at: session.ends_at,
            expires_at: session.expires_at,
        }
    }
}

impl From<PackedSuperseded> for SupersededSession {
    fn from(packed: PackedSuperseded) -> Self {
        Self {
            session_id: packed.session_id,
            principal: packed.principal.into(),
            ends_at: packed.ends_at,
            expires_at: packed.expires_at,
        }
    }
}

impl<'a> PackedSession<&'a str> {
    fn of(entry: &CacheEntry, session: &'a Session, now: &Now) -> Self {
        let issued = &session.issued;

        Self {
            profile: entry.profile.name.to_string(),
            identity: entry.session_identity(),
            session_id: issued.session_id.to_string(),
            principal: issued.principal.to_string(),
            access_key_id: issued.access_key_id.to_string(),
            secret_access_key: issued.secret_access_key.expose_secret(),
            session_token: issued.session_token.expose_secret(),
            issued_at: issued.issued_at,
            expires_at: issued.expires_at,
            obtained_at: session.obtained_at,
            received_at: session.received_at,
            refresh_left_ms: millis(session.refresh_left),
            use_left_ms: millis(entry.use_left(now)),
            list_presence: session.list_presence.clone(),
        }
    }
}

/// Continues with the newest state of earlier processes. Returns the number of sessions that are served.
pub fn unpack(daemon: &Daemon, inherited: Vec<OwnedFd>) -> usize {
    let snapshots = inherited.into_iter().filter_map(read_or_warn);
    let Some(mut newest) = snapshots.max_by_key(|snapshot| snapshot.made_at) else {
        return 0;
    };

    restore_upstreams(daemon, &mut newest);
    for entry in daemon.cache.entries() {
        restore_generation(daemon, entry, &mut newest);
    }

    let now = daemon.clock.now();
    newest
        .sessions
        .into_iter()
        .filter_map(|packed| restore_session(daemon, packed, &now))
        .count()
}

fn restore_upstreams(daemon: &Daemon, snapshot: &mut Snapshot<SecretString>) {
    for upstream in daemon.upstreams.iter() {
        if let Some(estimate) = snapshot.clocks.remove(&upstream.client.identity()) {
            upstream.client.server_clock().restore(estimate);
        }

        if let Some(source) = upstream.client.login().map(Login::token_source)
            && let Some(id) = source.passphrase_id()
            && let Some(passphrase) = snapshot.passphrases.remove(&id)
        {
            source.set_passphrase(passphrase);
        }

        if let Some(mfa) = upstream.client.mfa()
            && let Some(session) = snapshot.mfa_sessions.remove(&upstream.client.identity())
        {
            mfa.restore(&session);
        }
    }
}

fn restore_generation(daemon: &Daemon, entry: &CacheEntry, snapshot: &mut Snapshot<SecretString>) {
    let key = profile_and_role(entry);
    let generation = snapshot.generations.remove(&key).unwrap_or(0);
    let packed = snapshot.superseded.remove(&key).unwrap_or_default();

    // A held profile has no session, and a session that this machine has revoked is not monitored.
    let store = &daemon.services.revocation.store;
    let superseded = packed
        .into_iter()
        .filter(|session| entry.state.hold().is_none() && !store.is_revoked(&session.session_id))
        .map(|session| Arc::new(session.into()))
        .collect();

    entry.state.restore(generation, superseded);
}

/// Returns nothing if the session cannot be used any more.
fn restore_session(daemon: &Daemon, packed: PackedSession<SecretString>, now: &Now) -> Option<()> {
    let entry = daemon.cache.find(&packed.profile)?;
    // A held profile has no session.
    let generation = entry.state.start_fetch().ok()?;
    if packed.identity != entry.session_identity() {
        return None;
    }

    let use_left = Duration::from_millis(packed.use_left_ms);
    let session = Session {
        obtained_at: packed.obtained_at,
        received_at: packed.received_at,
        refresh_left: Duration::from_millis(packed.refresh_left_ms),
        generation,
        list_presence: packed.list_presence,
        issued: IssuedSession {
            session_id: packed.session_id.into(),
            principal: packed.principal.into(),
            access_key_id: packed.access_key_id.into(),
            secret_access_key: packed.secret_access_key,
            session_token: packed.session_token,
            issued_at: packed.issued_at,
            expires_at: packed.expires_at,
        },
    };

    let services = &daemon.services;
    if !is_usable(entry, &session, now) || services.revocation.store.is_revoked(session.id()) {
        return None;
    }

    entry.mark_used(now, use_left);
    services
        .refresh
        .install_session(entry, session)
        .then_some(())
}

fn is_usable(entry: &CacheEntry, session: &Session, now: &Now) -> bool {
    let server_clock = entry.upstream.client.server_clock();

    session.obtained_at <= session.received_at
        && session.received_at <= now.boot
        && session.issued.life() <= LONGEST_SESSION + SLACK
        && session.left(now.boot, server_clock) > MARGIN
}

fn read_or_warn(memory: OwnedFd) -> Option<Snapshot<SecretString>> {
    match read(memory) {
        Ok(snapshot) => Some(snapshot),
        Err(error) => {
            tracing::warn!(%error, "cannot use the state of an earlier process");
            None
        }
    }
}

fn read(memory: OwnedFd) -> io::Result<Snapshot<SecretString>> {
    if !rustix::fs::fcntl_get_seals(&memory)?.contains(SEALS) {
        return Err(invalid("it is not sealed"));
    }

    let mut file = File::from(memory);
    let length = file.metadata()?.len();
    if length > MAX_SIZE {
        return Err(invalid("it is too long"));
    }

    file.rewind()?;
    let capacity = usize::try_from(length).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(capacity));
    file.read_to_end(&mut text)?;

    // The parser's error is left out: it could contain a part of a secret.
    let snapshot: Snapshot<SecretString> =
        serde_json::from_slice(&text).map_err(|_| invalid("it has an unknown format"))?;
    if snapshot.version != VERSION {
        return Err(invalid("it is of another version"));
    }

    if snapshot.boot_id != boot_id()? {
        return Err(invalid("the machine was restarted since"));
    }

    Ok(snapshot)
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

fn boot_id() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;

    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::policy::Policy;
    use crate::app::stores::Stores;
    use crate::clock::Clock;
    use crate::config::{DEFAULT_CHECK, Endpoint, HttpTransport, TokenLocation};
    use crate::model::UpstreamId;
    use crate::token_source::TokenSource;
    use crate::upstream::bycloud::ByCloud;
    use crate::upstream::handle::UpstreamHandle;

    fn daemon() -> Daemon {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let location = TokenLocation::Age {
            file: "/token.age".into(),
            identity: None,
        };
        let client = ByCloud::new(
            Endpoint::parse("https://iam.example.test").unwrap(),
            HttpTransport::default(),
            TokenSource::new("u".into(), location),
        )
        .unwrap();
        let upstream = UpstreamHandle::new(
            "u".into(),
            UpstreamId::new(0),
            Box::new(client),
            DEFAULT_CHECK,
        );

        Daemon::new(
            Policy::of(0),
            Vec::new(),
            vec![upstream],
            Stores::in_memory(),
            Clock::System,
        )
    }

    fn token_source(daemon: &Daemon) -> &TokenSource {
        let upstream = daemon.upstreams.iter().next().unwrap();
        upstream.client.login().unwrap().token_source()
    }

    #[tokio::test]
    async fn passphrase_is_passed_to_the_successor_but_not_stored() {
        let before = daemon();
        token_source(&before).set_passphrase("\"canary\"".to_owned().into());

        for (target, want) in [
            (HandoffTarget::Successor, Some("\"canary\"")),
            (HandoffTarget::Store, None),
        ] {
            let after = daemon();
            unpack(&after, vec![pack(&before, target).unwrap()]);

            let passphrase = token_source(&after).passphrase();
            let passphrase = passphrase.as_ref().map(ExposeSecret::expose_secret);
            assert_eq!(passphrase, want, "{target:?}");
        }
    }
}
