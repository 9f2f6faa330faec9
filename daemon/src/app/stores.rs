//! The state files of the daemon, in the user's state folder. One daemon at a time owns them, by a lock.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
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
    /// Absent where no file can be locked or created.
    lock: Option<File>,
}

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
    /// Takes the folder for a daemon that serves at the socket. An earlier process of this daemon passes its lock on.
    pub(super) fn take(
        path: PathBuf,
        socket: &Path,
        inherited: Option<OwnedFd>,
    ) -> Result<Self, StateInUse> {
        let lock_path = path.join(places::STATE_LOCK);
        let inherited = inherited.map(File::from);

        let lock = match inherited.filter(|lock| is_at(lock, &lock_path)) {
            Some(lock) => Some(lock),
            None => Self::lock(&path, &lock_path, socket)?,
        };

        Ok(Self { path, lock })
    }

    fn lock(folder: &Path, path: &Path, socket: &Path) -> Result<Option<File>, StateInUse> {
        // At this daemon's own socket, it listens itself.
        let is_serving =
            |holder: &Holder| holder.socket != socket && connect::is_listening(&holder.socket);
        let locked = create_folder(folder)
            .map_err(LockError::Io)
            .and_then(|()| lock_file::lock(path, &Holder::this(socket), LOCK_PATIENCE, is_serving));

        match locked {
            Ok(lock) => Ok(Some(lock)),
            Err(LockError::Held(holder)) => Err(StateInUse {
                path: folder.into(),
                holder,
            }),
            Err(LockError::Io(error)) => {
                tracing::warn!(
                    path = %path.display(), %error,
                    "cannot lock the state folder: what is stored there may be lost"
                );
                Ok(None)
            }
        }
    }

    /// Duplicates the lock for the next process.
    pub(super) fn try_clone_lock(&self) -> io::Result<Option<OwnedFd>> {
        let lock = self.lock.as_ref().map(File::try_clone).transpose()?;
        Ok(lock.map(OwnedFd::from))
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
        let Some(StateFolder { path, .. }) = folder else {
            tracing::warn!(
                "this user has no state folder: the journal and holds are lost when this daemon ends"
            );
            return Ok(Self::in_memory());
        };

        Ok(Self {
            journal: open_journal(&path.join("journal.jsonl"), also_to),
            revocations: RevocationStore::open(&path.join("revocations.json"))?,
            rotations: RotationStates::at(Some(path.join("credentials.json"))),
        })
    }
}

fn open_journal(path: &Path, also_to: &[AlsoTo]) -> Journal {
    Journal::open(path, also_to).unwrap_or_else(|error| {
        tracing::warn!(
            path = %path.display(), %error,
            "cannot write the journal: it is lost when this daemon ends"
        );
        Journal::in_memory()
    })
}
