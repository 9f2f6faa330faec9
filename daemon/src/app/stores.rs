//! The state files of the daemon, in the user's state folder. One daemon at a time owns them, by a lock.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rolekeeper::shell::quoted_path;
use rolekeeper::{connect, places};
use thiserror::Error;

use crate::config::AlsoTo;
use crate::journal::Journal;
use crate::login::RotationStates;
use crate::platform::lock_file::{self, Holder, LockError, is_at};
use crate::platform::private_file::create_folder;
use crate::revocation::store::{RevocationStore, RevocationStoreError};
use crate::sync::lock;

/// For a daemon that ends: a little more than it may take to write its state.
const LOCK_PATIENCE: Duration = Duration::from_secs(6);

/// What is stored for later daemons.
#[derive(Debug)]
pub struct Stores {
    pub journal: Journal,
    pub revocations: RevocationStore,
    pub rotations: RotationStates,
}

/// The state folder, which belongs to this daemon as long as this value lives.
#[derive(Debug)]
pub(super) struct StateFolder {
    pub(super) path: PathBuf,
    holder: Holder,
    lock: Arc<Mutex<StateLock>>,
}

/// The lock, or why there is none.
type StateLock = Result<File, String>;

/// Another daemon has the state folder.
#[derive(Debug, Error)]
#[error("another rolekeeperd{} uses the state in {path}", described(.holder.as_ref()), path = .path.display())]
pub struct StateInUse {
    path: PathBuf,
    holder: Option<Holder>,
}

fn described(holder: Option<&Holder>) -> String {
    match holder {
        Some(holder) => format!(
            " (process {} on {}, socket {})",
            holder.process,
            holder.host,
            holder.socket.display()
        ),
        None => String::new(),
    }
}

impl StateInUse {
    /// Whether the other daemon has this socket.
    pub(super) fn is_of_socket(&self, socket: &Path) -> bool {
        let holder = self.holder.as_ref();
        holder.is_some_and(|holder| holder.socket == socket)
    }

    pub(super) fn hint(&self) -> String {
        let other_folder = "set XDG_STATE_HOME to another folder for a second daemon";

        match &self.holder {
            Some(holder) if connect::is_listening(&holder.socket) => format!(
                "run export ROLEKEEPER_SOCKET={} to use that daemon (without --socket), or {other_folder}",
                quoted_path(&holder.socket)
            ),
            Some(holder) if holder.is_of_this_boot() => format!(
                "run kill {} where that daemon runs, or {other_folder}",
                holder.process
            ),
            _ => other_folder.into(),
        }
    }
}

impl StateFolder {
    /// Takes the folder for a daemon of this socket. An earlier process of this daemon passes its lock on. `listens` says
    /// whether this process, or the service manager for it, listens at the socket already.
    pub(super) fn take(
        path: PathBuf,
        socket: &Path,
        inherited: Option<OwnedFd>,
        listens: bool,
    ) -> Result<Self, StateInUse> {
        let inherited = inherited.map(File::from);
        let lock = match inherited.filter(|lock| is_at(lock, &lock_path(&path))) {
            Some(lock) => Ok(lock),
            None => take_lock(&path, socket, listens)?,
        };

        if let Err(reason) = &lock {
            tracing::warn!(
                path = %path.display(), reason,
                "cannot lock the state folder: nothing is stored there"
            );
        }

        Ok(Self {
            path,
            holder: Holder::this(socket),
            lock: Arc::new(Mutex::new(lock)),
        })
    }

    /// Locks the folder again if its lock was removed.
    pub(super) fn keep(&self) -> Result<(), StateInUse> {
        if self.may_write()().is_err() {
            *lock(&self.lock) = take_lock(&self.path, &self.holder.socket, true)?;
        }

        Ok(())
    }

    /// Whether the folder is still this daemon's, at the time of a call. A lock that was removed is made anew, unless
    /// another daemon has done so.
    fn may_write(&self) -> impl Fn() -> io::Result<()> + Send + 'static {
        let shared = Arc::clone(&self.lock);
        let path = lock_path(&self.path);
        let holder = self.holder.clone();

        move || {
            let mut lock = lock(&shared);
            match &*lock {
                Ok(held) if is_at(held, &path) => return Ok(()),
                Ok(_) => {}
                Err(reason) => return Err(io::Error::other(reason.clone())),
            }

            let again = lock_file::lock(&path, &holder, Duration::ZERO, |_| true);
            *lock = Ok(again.map_err(|error| match error {
                LockError::Held(_) => io::Error::other("another daemon uses the folder now"),
                LockError::Io(error) => error,
            })?);
            Ok(())
        }
    }

    /// Why nothing is stored in the folder.
    pub(super) fn problem(&self) -> Option<String> {
        lock(&self.lock).as_ref().err().cloned()
    }

    /// Duplicates the lock for the next process.
    pub(super) fn try_clone_lock(&self) -> io::Result<Option<OwnedFd>> {
        let lock = lock(&self.lock);
        let lock = lock.as_ref().ok().map(File::try_clone).transpose()?;
        Ok(lock.map(OwnedFd::from))
    }
}

fn lock_path(folder: &Path) -> PathBuf {
    folder.join(places::STATE_LOCK)
}

/// A folder that cannot be locked, for example a read-only one, is read and not written.
fn take_lock(folder: &Path, socket: &Path, listens: bool) -> Result<StateLock, StateInUse> {
    let is_own = |holder: &Holder| listens && holder.socket == socket;
    let is_serving = |holder: &Holder| !is_own(holder) && connect::is_listening(&holder.socket);

    let locked = create_folder(folder).map_err(LockError::Io).and_then(|()| {
        let holder = Holder::this(socket);
        lock_file::lock(&lock_path(folder), &holder, LOCK_PATIENCE, is_serving)
    });

    match locked {
        Ok(lock) => Ok(Ok(lock)),
        Err(LockError::Held(holder)) => Err(StateInUse {
            path: folder.into(),
            holder,
        }),
        Err(LockError::Io(error)) => Ok(Err(format!("the folder cannot be locked: {error}"))),
    }
}

impl Stores {
    /// Nothing survives this process.
    pub fn in_memory() -> Self {
        Self {
            journal: Journal::in_memory(),
            revocations: RevocationStore::in_memory(),
            rotations: RotationStates::at(None),
        }
    }

    /// In `folder`, if there is one. The daemon does not start if the revocations of an earlier one cannot be read. A
    /// journal that cannot be written is kept in memory.
    pub(super) fn open(
        folder: Option<&StateFolder>,
        also_to: &[AlsoTo],
    ) -> Result<Self, RevocationStoreError> {
        let Some(folder) = folder else {
            tracing::warn!(
                "this user has no state folder: the journal and holds are lost when this daemon ends"
            );
            return Ok(Self {
                revocations: RevocationStore::not_stored("a state folder: this user has none"),
                ..Self::in_memory()
            });
        };

        let path = &folder.path;
        let revocations = path.join("revocations.json");

        Ok(Self {
            journal: open_journal(folder, also_to),
            revocations: RevocationStore::open(&revocations, folder.may_write())?,
            rotations: RotationStates::at(Some(path.join("credentials.json"))),
        })
    }
}

fn open_journal(folder: &StateFolder, also_to: &[AlsoTo]) -> Journal {
    let path = folder.path.join("journal.jsonl");
    let opened = folder.may_write()().and_then(|()| Journal::open(&path, also_to));

    opened.unwrap_or_else(|error| {
        tracing::warn!(
            path = %path.display(), %error,
            "cannot write the journal: it is lost when this daemon ends"
        );
        Journal::in_memory()
    })
}
