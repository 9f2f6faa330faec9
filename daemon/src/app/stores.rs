//! The state files of the daemon, in the user's state folder.

use std::path::{Path, PathBuf};

use crate::config::AlsoTo;
use crate::journal::Journal;
use crate::login::RotationStates;
use crate::platform::private_file::of_socket;
use crate::revocation::store::{RevocationStore, RevocationStoreError};

/// What is stored for later daemons.
#[derive(Debug)]
pub struct Stores {
    pub journal: Journal,
    pub revocations: RevocationStore,
    pub rotations: RotationStates,
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
        folder: Option<PathBuf>,
        socket: &Path,
        also_to: &[AlsoTo],
    ) -> Result<Self, RevocationStoreError> {
        let Some(folder) = folder else {
            tracing::warn!("HOME is not set: the journal and holds are lost when this daemon ends");
            return Ok(Self::in_memory());
        };

        let revocations = of_socket(&folder, "revocations", socket, "json");
        let credentials = of_socket(&folder, "credentials", socket, "json");

        Ok(Self {
            journal: open_journal(&folder, socket, also_to),
            revocations: RevocationStore::open(&revocations)?,
            rotations: RotationStates::at(Some(credentials)),
        })
    }
}

fn open_journal(folder: &Path, socket: &Path, also_to: &[AlsoTo]) -> Journal {
    let path = of_socket(folder, "journal", socket, "jsonl");
    let opened = std::fs::create_dir_all(folder).and_then(|()| Journal::open(&path, also_to));

    opened.unwrap_or_else(|error| {
        tracing::warn!(
            path = %path.display(), %error,
            "cannot write the journal: it is lost when this daemon ends"
        );
        Journal::in_memory()
    })
}
