//! What must not be forgotten when this process ends: which profiles are held, and which sessions the upstream is still
//! to revoke. No secret is in it. A thread of its own writes the file, in one piece and at once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use jiff::Timestamp;
use rolekeeper::protocol::Ending;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::cache::Slot;
use crate::clock::{Boot, Now};
use crate::private_file;
use crate::refresh::{Failing, Health};
use crate::sync::{Arc, Mutex, lock};
use crate::upstream::UpstreamError;

#[derive(Debug)]
pub struct Ledger {
    book: Arc<Mutex<Book>>,
    /// Where there is a file.
    queue: Option<Sender<Option<oneshot::Sender<()>>>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    #[serde(default)]
    holds: BTreeMap<String, Hold>,
    #[serde(default)]
    withdrawals: BTreeMap<Box<str>, Withdrawal>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Hold {
    identity: String,
    ending: Ending,
}

/// A session that an upstream is to revoke.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Of the upstream.
    pub identity: String,
    #[serde(default)]
    pub profile: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
    /// No later than this it ends by itself.
    pub expires_at: Timestamp,
    #[serde(skip)]
    health: Health,
    #[serde(skip)]
    is_under_way: bool,
}

impl Withdrawal {
    pub fn new(identity: String, profile: Option<String>, reason: Option<String>, expires_at: Timestamp) -> Self {
        Self { identity, profile, reason, expires_at, health: Health::default(), is_under_way: false }
    }
}

impl Ledger {
    pub fn in_memory() -> Self {
        Self { book: Arc::default(), queue: None }
    }

    /// Reads what an earlier daemon wrote. What cannot be understood is kept beside it, for people.
    pub fn open(path: &Path) -> io::Result<Self> {
        let book = match private_file::read(path) {
            Ok(text) => serde_json::from_str(&text).or_else(|error| {
                let aside = path.with_extension("unreadable");
                tracing::error!(path = %path.display(), %error, aside = %aside.display(), "it cannot be understood: nothing is held");
                std::fs::rename(path, aside).map(|()| Book::default())
            })?,
            Err(error) if matches!(error.why, private_file::Why::Missing) => Book::default(),
            Err(error) => return Err(io::Error::other(error)),
        };
        let book = Arc::new(Mutex::new(book));
        let (queue, notes) = mpsc::channel();
        let (path, shared) = (path.to_owned(), Arc::clone(&book));
        thread::spawn(move || keep(&notes, &shared, &path));
        Ok(Self { book, queue: Some(queue) })
    }

    /// Why a profile is held, if it was when the last daemon ended.
    pub(crate) fn hold_of(&self, slot: &Slot) -> Option<Ending> {
        let book = lock(&self.book);
        let hold = book.holds.get(slot.profile.name.as_str()).filter(|hold| hold.identity == slot.identity())?;
        Some(hold.ending.clone())
    }

    pub(crate) fn hold(&self, slot: &Slot, ending: &Ending) {
        let hold = Hold { identity: slot.identity(), ending: ending.clone() };
        lock(&self.book).holds.insert(slot.profile.name.to_string(), hold);
        self.changed();
    }

    pub(crate) fn release(&self, slot: &Slot) {
        lock(&self.book).holds.remove(slot.profile.name.as_str());
        self.changed();
    }

    pub(crate) fn add(&self, session_id: &str, withdrawal: Withdrawal) {
        lock(&self.book).withdrawals.entry(session_id.into()).or_insert(withdrawal);
        self.changed();
    }

    /// The upstream has confirmed that a session is over, or it is over by itself.
    pub(crate) fn settle(&self, session_id: &str) {
        lock(&self.book).withdrawals.remove(session_id);
        self.changed();
    }

    pub(crate) fn failed(&self, session_id: &str, error: UpstreamError, now: Boot) {
        if let Some(withdrawal) = lock(&self.book).withdrawals.get_mut(session_id) {
            withdrawal.health.failed(error, now, fastrand::f64());
            withdrawal.is_under_way = false;
        }
    }

    /// Whether a session is still to be revoked, and why the last try failed.
    pub(crate) fn pending(&self, session_id: &str) -> Option<Option<Failing>> {
        lock(&self.book).withdrawals.get(session_id).map(|withdrawal| withdrawal.health.failing().cloned())
    }

    /// Takes up what is to be tried now. What has expired by itself is struck out.
    pub(crate) fn take_due(&self, now: &Now) -> Vec<(Box<str>, Withdrawal)> {
        let mut book = lock(&self.book);
        let before = book.withdrawals.len();
        book.withdrawals.retain(|_, withdrawal| withdrawal.expires_at > now.wall);
        let has_expired = book.withdrawals.len() < before;
        let is_due = |withdrawal: &Withdrawal| !withdrawal.is_under_way && withdrawal.health.permit(now.boot).is_ok();
        let due = book.withdrawals.iter_mut().filter(|(_, withdrawal)| is_due(withdrawal));
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
    pub(crate) fn next_try(&self) -> Option<Boot> {
        let book = lock(&self.book);
        let waiting = book.withdrawals.values().filter(|withdrawal| !withdrawal.is_under_way);
        waiting.map(|withdrawal| withdrawal.health.failing().map_or(Boot::ZERO, |failing| failing.next_try)).min()
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
            // The thread ends with the ledger, not before.
            let _ = queue.send(None);
        }
    }
}

/// The thread: changes that come together are written once.
fn keep(notes: &Receiver<Option<oneshot::Sender<()>>>, book: &Mutex<Book>, path: &Path) {
    let mut is_failing = false;
    while let Ok(first) = notes.recv() {
        let mut waiting: Vec<_> = first.into_iter().collect();
        waiting.extend(notes.try_iter().flatten());
        let text = serde_json::to_vec_pretty(&*lock(book));
        let written = text.map_err(io::Error::other).and_then(|text| private_file::replace(path, &text));
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

/// Where it is, in the user's state folder.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("revocations.json")
}
