//! What must not be forgotten when this process ends: which profiles are held, and which sessions the upstream is still
//! to revoke. No secret is in it. A thread of its own writes the file, in one piece and at once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use jiff::Timestamp;
use rolekeeper::protocol::SessionEnded;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::cache::CacheEntry;
use crate::clock::{BootTime, Now};
use crate::platform::private_file::{self, FileErrorKind, PrivateFileError};
use crate::refresh::policy::{Backoff, BackoffState};
use crate::sync::{Arc, Mutex, lock};
use crate::upstream::UpstreamError;

/// The most that is read of the file, in bytes.
const CAP: u64 = 64 * 1024 * 1024;

#[derive(Debug)]
pub struct RevocationStore {
    book: Arc<Mutex<Snapshot>>,
    /// Where there is a file.
    queue: Option<Sender<Option<oneshot::Sender<()>>>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Snapshot {
    #[serde(default)]
    holds: BTreeMap<String, Hold>,
    #[serde(default)]
    withdrawals: BTreeMap<Box<str>, PendingRevocation>,
    /// What the upstream has confirmed, until it would have expired: nobody needs to tell it again.
    #[serde(default)]
    settled: BTreeMap<Box<str>, Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Hold {
    /// The upstream's place and the role.
    role: String,
    ending: SessionEnded,
}

/// A session that an upstream is to revoke.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PendingRevocation {
    /// Of the upstream, with whose principal's token it is revoked if that is still configured.
    pub identity: String,
    /// The upstream's.
    pub place: String,
    #[serde(default)]
    pub profile: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
    /// No later than this it ends by itself.
    pub expires_at: Timestamp,
    #[serde(skip)]
    health: Backoff,
    #[serde(skip)]
    is_under_way: bool,
}

impl PendingRevocation {
    /// Of a session of this profile.
    pub(crate) fn of(entry: &CacheEntry, reason: &str, expires_at: Timestamp) -> Self {
        Self {
            identity: entry.upstream.client.identity(),
            place: entry.upstream.client.place(),
            profile: Some(entry.profile.name.to_string()),
            reason: Some(reason.into()),
            expires_at,
            health: Backoff::default(),
            is_under_way: false,
        }
    }
}

/// FileErrorKind what an earlier daemon wrote cannot be used. To go on without it would give out what somebody has revoked.
#[derive(Debug, Error)]
pub enum RevocationStoreError {
    #[error("which profiles are held after a revocation cannot be read: {0}")]
    Unreadable(#[from] PrivateFileError),
    #[error("which profiles are held after a revocation cannot be understood: {path}: {error}", path = .path.display())]
    Nonsense {
        path: PathBuf,
        error: serde_json::Error,
    },
}

impl RevocationStoreError {
    pub fn hint(&self) -> String {
        match self {
            Self::Unreadable(error) => error.hint(),
            Self::Nonsense { path, .. } => {
                format!(
                    "look into {}, and move it away to start with nothing held",
                    path.display()
                )
            }
        }
    }
}

impl RevocationStore {
    pub fn in_memory() -> Self {
        Self {
            book: Arc::default(),
            queue: None,
        }
    }

    /// Reads what an earlier daemon wrote.
    pub fn open(path: &Path) -> Result<Self, RevocationStoreError> {
        let book = match private_file::read_within(path, CAP) {
            Ok(text) => {
                serde_json::from_str(&text).map_err(|error| RevocationStoreError::Nonsense {
                    path: path.into(),
                    error,
                })?
            }
            Err(PrivateFileError {
                why: FileErrorKind::Missing,
                ..
            }) => Snapshot::default(),
            Err(error) => return Err(error.into()),
        };
        let book = Arc::new(Mutex::new(book));
        let (queue, notes) = mpsc::channel();
        let (path, shared) = (path.to_owned(), Arc::clone(&book));
        thread::spawn(move || keep(&notes, &shared, &path));
        Ok(Self {
            book,
            queue: Some(queue),
        })
    }

    /// FileErrorKind a profile is held, if it was when the last daemon ended.
    pub(crate) fn hold_of(&self, entry: &CacheEntry) -> Option<SessionEnded> {
        let book = lock(&self.book);
        let hold = book
            .holds
            .get(entry.profile.name.as_str())
            .filter(|hold| hold.role == entry.role_there())?;
        Some(hold.ending.clone())
    }

    /// Notes whether a profile is held, and why: as it is now, in whatever order that is noted.
    pub(crate) fn note(&self, entry: &CacheEntry) {
        let mut book = lock(&self.book);
        let name = entry.profile.name.as_str();
        match entry.state.hold() {
            Some(hold) => {
                let hold = Hold {
                    role: entry.role_there(),
                    ending: SessionEnded::clone(&hold),
                };
                book.holds.insert(name.into(), hold);
            }
            None => drop(book.holds.remove(name)),
        }
        drop(book);
        self.changed();
    }

    pub(crate) fn add(&self, session_id: &str, withdrawal: PendingRevocation) {
        let mut book = lock(&self.book);
        if !book.settled.contains_key(session_id) {
            book.withdrawals
                .entry(session_id.into())
                .or_insert(withdrawal);
        }
        drop(book);
        self.changed();
    }

    /// The upstream has confirmed that a session is over.
    pub(crate) fn settle(&self, session_id: &str, upstream_time: Timestamp) {
        let mut book = lock(&self.book);
        if let Some((id, withdrawal)) = book.withdrawals.remove_entry(session_id) {
            book.settled
                .retain(|_, expires_at| *expires_at > upstream_time);
            book.settled.insert(id, withdrawal.expires_at);
        }
        drop(book);
        self.changed();
    }

    /// Whether this machine has ended a session, whatever the upstream knows of it.
    pub(crate) fn is_ending(&self, session_id: &str) -> bool {
        let book = lock(&self.book);
        book.withdrawals.contains_key(session_id) || book.settled.contains_key(session_id)
    }

    pub(crate) fn failed(&self, session_id: &str, error: &UpstreamError, now: BootTime) {
        if let Some(withdrawal) = lock(&self.book).withdrawals.get_mut(session_id) {
            // Whatever it is, nobody waits for it to be mended.
            let error = UpstreamError::Unavailable {
                what: error.to_string(),
                retry_after: error.retry_after(),
            };
            withdrawal.health.failed(error, now, fastrand::f64());
            withdrawal.is_under_way = false;
        }
    }

    /// Whether a session is still to be revoked, and why the last try failed.
    pub(crate) fn pending(&self, session_id: &str) -> Option<Option<BackoffState>> {
        lock(&self.book)
            .withdrawals
            .get(session_id)
            .map(|withdrawal| withdrawal.health.failing().cloned())
    }

    /// The sessions of a profile that are still to be revoked.
    pub(crate) fn pending_of(&self, profile: &str) -> Vec<String> {
        let book = lock(&self.book);
        let of_profile = book
            .withdrawals
            .iter()
            .filter(|(_, each)| each.profile.as_deref() == Some(profile));
        of_profile.map(|(id, _)| id.to_string()).collect()
    }

    /// Takes up what is to be tried now. What has been tried and has expired by itself, by the upstream's time as far as
    /// that is known, is struck out.
    pub(crate) fn take_due(
        &self,
        now: &Now,
        upstream_time: impl Fn(&PendingRevocation) -> Option<Timestamp>,
    ) -> Vec<(Box<str>, PendingRevocation)> {
        let mut book = lock(&self.book);
        let before = book.withdrawals.len();
        book.withdrawals.retain(|_, withdrawal| {
            let was_tried = withdrawal.health.failing().is_some();
            !was_tried || withdrawal.expires_at > upstream_time(withdrawal).unwrap_or(now.wall)
        });
        let has_expired = book.withdrawals.len() < before;
        let is_due = |withdrawal: &PendingRevocation| {
            !withdrawal.is_under_way && withdrawal.health.permit(now.boot).is_ok()
        };
        let due = book
            .withdrawals
            .iter_mut()
            .filter(|(_, withdrawal)| is_due(withdrawal));
        let due = due.map(|(id, withdrawal)| {
            withdrawal.is_under_way = true;
            (id.clone(), withdrawal.clone())
        });
        let due = due.collect();
        drop(book);
        if has_expired {
            self.changed();
        }
        due
    }

    /// When something is to be tried next.
    pub(crate) fn next_try(&self) -> Option<BootTime> {
        let book = lock(&self.book);
        let waiting = book
            .withdrawals
            .values()
            .filter(|withdrawal| !withdrawal.is_under_way);
        waiting
            .map(|withdrawal| {
                withdrawal
                    .health
                    .failing()
                    .map_or(BootTime::ZERO, |failing| failing.next_try)
            })
            .min()
    }

    /// Waits until everything is written, as far as it can be.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if let Some(queue) = &self.queue
            && queue.send(Some(done)).is_ok()
        {
            let _ = wait.await;
        }
    }

    fn changed(&self) {
        if let Some(queue) = &self.queue {
            // The thread ends with the revocations, not before.
            let _ = queue.send(None);
        }
    }
}

/// The thread: changes that come together are written once.
fn keep(notes: &Receiver<Option<oneshot::Sender<()>>>, book: &Mutex<Snapshot>, path: &Path) {
    let mut is_failing = false;
    while let Ok(first) = notes.recv() {
        let mut waiting: Vec<_> = first.into_iter().collect();
        waiting.extend(notes.try_iter().flatten());
        let text = serde_json::to_vec_pretty(&*lock(book));
        let written = text
            .map_err(io::Error::other)
            .and_then(|text| private_file::replace(path, &text));
        if let Err(error) = &written
            && !is_failing
        {
            tracing::error!(path = %path.display(), %error, "what is held is forgotten when this daemon ends");
        }
        is_failing = written.is_err();
        for done in waiting {
            // Whoever waited may have given up.
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LeaseLimit;
    use crate::credentials::tests::{HOUR, broker, scripted};

    #[tokio::test(start_paused = true)]
    async fn what_is_to_be_revoked_is_read_again_however_much_it_is() {
        let (broker, _) = broker(LeaseLimit::Balanced, scripted([]));
        let entry = broker.cache.find("dev").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("revocations.json");
        let revocations = RevocationStore::open(&file).unwrap();
        let end = broker.clock.now().wall + HOUR;
        for number in 0..10_000 {
            revocations.add(
                &format!("s-{number}"),
                PendingRevocation::of(entry, "lost laptop", end),
            );
        }
        revocations.flush().await;
        assert!(std::fs::metadata(&file).unwrap().len() > 1024 * 1024);
        let again = RevocationStore::open(&file).unwrap();
        assert_eq!(again.pending_of("dev").len(), 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_upstream_has_confirmed_is_not_told_again() {
        let (broker, _) = broker(LeaseLimit::Balanced, scripted([]));
        let (entry, revocations) = (
            broker.cache.find("dev").unwrap(),
            RevocationStore::in_memory(),
        );
        let withdrawal =
            || PendingRevocation::of(entry, "lost laptop", broker.clock.now().wall + HOUR);
        revocations.add("s-1", withdrawal());
        assert!(revocations.pending("s-1").is_some());
        revocations.settle("s-1", broker.clock.now().wall);
        revocations.add("s-1", withdrawal());
        assert!(revocations.pending("s-1").is_none() && revocations.is_ending("s-1"));
    }
}
