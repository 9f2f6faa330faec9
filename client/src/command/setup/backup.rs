//! The copy of a file as it was before setup changed it for the first time. Later changes do not replace it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rolekeeper::places;
use rolekeeper::protocol::{Code, Failure};
use serde::{Serialize, Serializer};
use tempfile::NamedTempFile;

use super::file::{create_folder, sync_folder};

#[derive(Debug)]
pub(super) struct Backup {
    pub(super) path: PathBuf,
    /// It is from an earlier change.
    pub(super) exists: bool,
}

impl Serialize for Backup {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.path.display())
    }
}

/// The folder or file that makes a folder a working copy, whose files may be published.
const REPOSITORIES: [&str; 6] = [".git", ".hg", ".jj", ".svn", ".bzr", ".fslckout"];

impl Backup {
    /// It is beside the file. In a working copy, it is in the state folder instead.
    pub(super) fn of(file: &Path) -> Result<Self, Failure> {
        let path = if is_in_repository(file) {
            let name = file.display().to_string().replace(['/', '\\', ':'], "%");
            folder(file)?.join(name)
        } else {
            let mut path = file.as_os_str().to_owned();
            path.push(".rolekeeper-backup");
            path.into()
        };
        let exists = fs::symlink_metadata(&path).is_ok();

        Ok(Self { path, exists })
    }

    /// Writes the copy unless there is one. Returns its path if it is new.
    pub(super) fn write(
        &self,
        copy: impl FnOnce(&Path) -> io::Result<NamedTempFile>,
    ) -> io::Result<Option<&Path>> {
        if self.exists {
            return Ok(None);
        }

        let folder = self.path.parent().unwrap_or(&self.path);
        create_folder(folder)?;
        if is_in_repository(&self.path) && folder.ends_with(FOLDER) {
            fs::write(folder.join(".gitignore"), "*\n")?;
        }

        match copy(folder)?.persist_noclobber(&self.path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error.error),
        }

        sync_folder(folder)?;

        Ok(Some(&self.path))
    }
}

const FOLDER: &str = "setup-backups";

fn folder(file: &Path) -> Result<PathBuf, Failure> {
    let state = places::state_folder().ok_or_else(|| {
        let message = format!(
            "no folder for a backup of {}: it is in a repository, and this user has no state folder",
            file.display()
        );
        Failure::new(Code::Configuration, message, "set HOME")
    })?;

    Ok(state.join(FOLDER))
}

fn is_in_repository(file: &Path) -> bool {
    let has_repository = |folder: &Path| REPOSITORIES.iter().any(|name| folder.join(name).exists());
    file.ancestors().skip(1).any(has_repository)
}
