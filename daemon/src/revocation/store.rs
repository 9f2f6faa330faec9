//! What must survive this process: which profiles are held, which sessions are valid at the upstream, and which of them
//! it has still to revoke. It holds no secret. A thread writes the file, in one piece and at once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::oneshot;

use super::outbox::PendingRevocation;
use crate::cache::CacheEntry;
use crate::clock::{BootTime, Now};
use crate::model::{EndCause, SessionEnded};
use crate::platform::private_file::{self, FileErrorKind, PrivateFileError};
use crate::sync::{Arc, Mutex, lock};
use crate::upstream::UpstreamError;
use crate::upstream::backoff::BackoffState;

/// The most that is read of the file, in bytes.
const MAX_SIZE: u64 = 64 * 1024 * 1024;

#[derive(Debug)]
pub struct RevocationStore {
    state: Arc<Mutex<State>>,
    /// Wakes the writer thread. Absent in tests, and an error if nothing can be stored.
    writer: Result<Option<Sender<WriteRequest>>, String>,
}

/// The sender is dropped once the state is written.
type WriteRequest = Option<oneshot::Sender<Result<(), String>>>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// By the name of the profile.
    #[serde(default)]
    holds: BTreeMap<String, StoredHold>,
    /// By the id of the session.
    #[serde(default)]
    pending: BTreeMap<Box<str>, PendingRevocation>,
    /// Sessions that the upstream has issued, until they expire. A logout revokes those that no daemon holds any more.
    #[serde(default, alias = "left")]
    issued: BTreeMap<Box<str>, PendingRevocation>,
    /// Sessions whose revocation the upstream has confirmed, until they would have expired.
    #[serde(default)]
    confirmed: BTreeMap<Box<str>, Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredHold {
    /// The upstream's location and the role. A hold of another role is not restored.
    role: String,
    cause: EndCause,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    session_id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    reason: Option<String>,
    noticed_at: Timestamp,
}

/// Why the file of an earlier daemon cannot be used. The daemon does not start without it, because it would serve
/// profiles that a person has revoked.
#[derive(Debug, Error)]
pub enum RevocationStoreError {
    #[error("cannot read which profiles are held after a revocation: {0}")]
    Unreadable(#[from] PrivateFileError),
    #[error("{path}: invalid revocation state: {error}", path = .path.display())]
    Invalid {
        path: PathBuf,
        error: serde_json::Error,
    },
}

impl RevocationStoreError {
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Unreadable(error) => error.hint(),
            Self::Invalid { path, .. } => format!(
                "inspect {path} and move it away; the daemon then starts with no profile held",
                path = path.display()
            ),
        }
    }
}

impl RevocationStore {
    /// For tests: what is stored is lost with this value.
    pub(crate) fn in_memory() -> Self {
        Self {
            state: Arc::default(),
            writer: Ok(None),
        }
    }

    /// Nothing can be stored, for this reason.
    pub(crate) fn not_stored(reason: &str) -> Self {
        Self {
            state: Arc::default(),
            writer: Err(reason.into()),
        }
    }

    /// Reads the file of an earlier daemon, if there is one, and starts the writer thread. It writes only while `may_write`
    /// succeeds.
    pub(crate) fn open(
        path: &Path,
        may_write: impl Fn() -> io::Result<()> + Send + 'static,
    ) -> Result<Self, RevocationStoreError> {
        let state = match private_file::read_within(path, MAX_SIZE) {
            Ok(text) => {
                serde_json::from_str(&text).map_err(|error| RevocationStoreError::Invalid {
                    path: path.into(),
                    error,
                })?
            }
            Err(PrivateFileError {
                kind: FileErrorKind::Missing,
                ..
            }) => State::default(),
            Err(error) => return Err(error.into()),
        };

        let state = Arc::new(Mutex::new(state));
        let (writer, requests) = mpsc::channel();
        let shared = Arc::clone(&state);
        let named = path.to_owned();
        let path = path.to_owned();
        let write = move || may_write().and_then(|()| write(&shared, &path));
        thread::spawn(move || write_changes(&requests, write, &named));

        Ok(Self {
            state,
            writer: Ok(Some(writer)),
        })
    }

    /// Why the profile was held when the last daemon ended, if it was.
    pub(crate) fn hold_of(&self, entry: &CacheEntry) -> Option<SessionEnded> {
        let state = lock(&self.state);
        let hold = state.holds.get(entry.profile.name.as_str())?;

        (hold.role == entry.role_at_upstream()).then(|| hold.into())
    }

    /// Stores whether the profile is held, as it is now.
    pub(crate) fn update_hold(&self, entry: &CacheEntry) {
        let name = entry.profile.name.as_str();
        let mut state = lock(&self.state);

        match entry.state.hold() {
            Some(ended) => {
                let hold = StoredHold::new(entry.role_at_upstream(), &ended);
                state.holds.insert(name.into(), hold);
            }
            None => {
                state.holds.remove(name);
            }
        }

        drop(state);
        self.write_soon();
    }

    /// Adds a revocation to be requested, unless it is known already.
    pub(super) fn add(&self, session_id: &str, pending: PendingRevocation) {
        let mut state = lock(&self.state);

        state.issued.remove(session_id);
        if !state.confirmed.contains_key(session_id) {
            state.pending.entry(session_id.into()).or_insert(pending);
        }

        drop(state);
        self.write_soon();
    }

    /// Remembers an issued session until it expires, and drops those that have expired.
    pub(super) fn add_issued(
        &self,
        session_id: &str,
        session: PendingRevocation,
        has_expired: impl Fn(&PendingRevocation) -> bool,
    ) {
        let mut state = lock(&self.state);
        if state.issued.contains_key(session_id) {
            return;
        }

        state.issued.retain(|_, session| !has_expired(session));
        state.issued.insert(session_id.into(), session);

        drop(state);
        self.write_soon();
    }

    /// The sessions of a profile that have not expired and are not to be revoked yet.
    pub(super) fn issued_of(&self, profile: &str) -> BTreeMap<Box<str>, PendingRevocation> {
        lock(&self.state)
            .issued
            .iter()
            .filter(|(_, session)| session.profile.as_deref() == Some(profile))
            .map(|(id, session)| (id.clone(), session.clone()))
            .collect()
    }

    /// The profile of each issued session that has not expired.
    pub(crate) fn profiles_of_issued(&self) -> BTreeMap<String, String> {
        lock(&self.state)
            .issued
            .iter()
            .filter_map(|(id, session)| Some((id.to_string(), session.profile.clone()?)))
            .collect()
    }

    /// The upstream has confirmed the revocation.
    pub(super) fn confirm(&self, session_id: &str, upstream_time: Timestamp) {
        let mut state = lock(&self.state);

        if let Some((id, pending)) = state.pending.remove_entry(session_id) {
            state
                .confirmed
                .retain(|_, expires_at| *expires_at > upstream_time);
            state.confirmed.insert(id, pending.expires_at);
        }

        drop(state);
        self.write_soon();
    }

    pub(super) fn record_failure(&self, session_id: &str, error: &UpstreamError, now: BootTime) {
        if let Some(pending) = lock(&self.state).pending.get_mut(session_id) {
            pending.record_failure(error, now);
        }
    }

    /// Whether this machine has revoked a session, confirmed or not.
    pub(crate) fn is_revoked(&self, session_id: &str) -> bool {
        let state = lock(&self.state);
        state.pending.contains_key(session_id) || state.confirmed.contains_key(session_id)
    }

    /// Whether the revocation of a session is pending, and how its last attempts failed.
    pub(super) fn pending(&self, session_id: &str) -> Option<Option<BackoffState>> {
        lock(&self.state)
            .pending
            .get(session_id)
            .map(PendingRevocation::backoff)
    }

    /// The sessions of a profile whose revocation is pending.
    pub(super) fn pending_of(&self, profile: &str) -> Vec<String> {
        lock(&self.state)
            .pending
            .iter()
            .filter(|(_, pending)| pending.profile.as_deref() == Some(profile))
            .map(|(id, _)| id.to_string())
            .collect()
    }

    /// Takes the revocations that are due, and marks them as under way. Drops those that were tried and have expired by
    /// the upstream's time, or by this machine's where that is unknown.
    pub(super) fn take_due(
        &self,
        now: &Now,
        upstream_time: impl Fn(&PendingRevocation) -> Option<Timestamp>,
    ) -> Vec<(Box<str>, PendingRevocation)> {
        let mut state = lock(&self.state);

        let count = state.pending.len();
        state.pending.retain(|_, pending| {
            let time = upstream_time(pending).unwrap_or(now.wall);
            !pending.was_tried() || pending.expires_at > time
        });

        let has_expired = state.pending.len() < count;

        let due = state
            .pending
            .iter_mut()
            .filter(|(_, pending)| pending.is_due(now.boot))
            .map(|(id, pending)| {
                pending.is_under_way = true;
                (id.clone(), pending.clone())
            })
            .collect();

        drop(state);
        if has_expired {
            self.write_soon();
        }

        due
    }

    /// When the next revocation is due.
    pub(super) fn next_attempt(&self) -> Option<BootTime> {
        lock(&self.state)
            .pending
            .values()
            .filter(|pending| !pending.is_under_way)
            .map(PendingRevocation::next_attempt)
            .min()
    }

    /// Waits until every change is written. Fails with the path and the reason if that is not possible.
    pub(crate) async fn flush(&self) -> Result<(), String> {
        let Some(writer) = self.writer.as_ref().map_err(Clone::clone)? else {
            return Ok(());
        };

        let (done, wait) = oneshot::channel();
        let _ = writer.send(Some(done));
        let ended = |_| Err("the thread that writes has ended".to_owned());
        wait.await.unwrap_or_else(ended)
    }

    fn write_soon(&self) {
        if let Ok(Some(writer)) = &self.writer {
            // The thread ends with the store, not before.
            let _ = writer.send(None);
        }
    }
}

impl StoredHold {
    fn new(role: String, ended: &SessionEnded) -> Self {
        Self {
            role,
            cause: ended.cause,
            session_id: ended.session_id.clone(),
            by: ended.by.clone(),
            at: ended.at,
            reason: ended.reason.clone(),
            noticed_at: ended.noticed_at,
        }
    }
}

impl From<&StoredHold> for SessionEnded {
    fn from(hold: &StoredHold) -> Self {
        Self {
            cause: hold.cause,
            session_id: hold.session_id.clone(),
            by: hold.by.clone(),
            at: hold.at,
            reason: hold.reason.clone(),
            noticed_at: hold.noticed_at,
        }
    }
}

/// The writer thread. Changes that come together are written once.
fn write_changes(
    requests: &Receiver<WriteRequest>,
    write: impl Fn() -> io::Result<()>,
    path: &Path,
) {
    let mut is_failing = false;

    while let Ok(first) = requests.recv() {
        let mut waiting: Vec<_> = first.into_iter().collect();
        waiting.extend(requests.try_iter().flatten());

        let written = write();
        if let Err(error) = &written
            && !is_failing
        {
            tracing::error!(
                path = %path.display(), %error,
                "cannot write the revocation state: holds, and sessions to revoke, are lost when this daemon ends"
            );
        }
        is_failing = written.is_err();

        let written = written.map_err(|error| format!("{}: {error}", path.display()));
        for done in waiting {
            let _ = done.send(written.clone());
        }
    }
}

fn write(state: &Mutex<State>, path: &Path) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(&*lock(state))?;

    private_file::replace(path, &text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LeaseLimit;
    use crate::test_support::{HOUR, TestDaemon, scripted};

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_pending_revocations_survive_a_restart() {
        let daemon = TestDaemon::new(LeaseLimit::Balanced, scripted([]));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("revocations.json");
        let store = RevocationStore::open(&file, || Ok(())).unwrap();
        let expires_at = daemon.clock.now().wall + HOUR;

        for number in 0..10_000 {
            let pending = PendingRevocation::new(daemon.entry(), "lost laptop", expires_at);
            store.add(&format!("s-{number}"), pending);
        }
        store.flush().await.unwrap();

        assert!(std::fs::metadata(&file).unwrap().len() > 1024 * 1024);
        let reopened = RevocationStore::open(&file, || Ok(())).unwrap();
        assert_eq!(reopened.pending_of("dev").len(), 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn confirmed_revocation_is_not_requested_again() {
        let daemon = TestDaemon::new(LeaseLimit::Balanced, scripted([]));
        let store = RevocationStore::in_memory();
        let now = daemon.clock.now().wall;
        let pending = || PendingRevocation::new(daemon.entry(), "lost laptop", now + HOUR);

        store.add("s-1", pending());
        assert!(store.pending("s-1").is_some());

        store.confirm("s-1", now);
        store.add("s-1", pending());
        assert!(store.pending("s-1").is_none());
        assert!(store.is_revoked("s-1"));
    }
}
