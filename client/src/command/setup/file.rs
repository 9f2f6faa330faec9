//! Files that setup changes itself. A new file takes the place of the old one by an atomic rename, with the same owner, mode
//! and attributes, and only if the old one still has the content that was read.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rolekeeper::places;
use rolekeeper::protocol::{Code, Failure};
use rolekeeper::trust;
use serde::Serialize;
use tempfile::NamedTempFile;

use super::backup::Backup;
#[cfg(unix)]
use super::replaceable;

/// A file as it was read.
#[derive(Debug)]
pub(super) struct Original {
    /// Its path with all links resolved.
    pub(super) path: PathBuf,
    /// None if there is no file.
    pub(super) content: Option<Vec<u8>>,
}

/// A change of a file.
#[derive(Debug, Serialize)]
pub(super) struct Edit {
    pub(super) file: String,
    /// The copy of the file as it was before the first change.
    pub(super) backup: Option<Backup>,
    /// The lines of setup that change.
    pub(super) removed: Vec<String>,
    pub(super) added: Vec<String>,
    #[serde(skip)]
    pub(super) original: Original,
    /// None removes the file.
    #[serde(skip)]
    pub(super) content: Option<Vec<u8>>,
    #[serde(skip)]
    #[cfg_attr(not(unix), expect(dead_code, reason = "other systems have no modes"))]
    pub(super) new_mode: u32,
}

/// Why a change was not made.
#[derive(Debug)]
pub(super) enum ApplyError {
    /// Another program has changed the file since it was read.
    Changed(Failure),
    Failed(Failure),
}

/// The same within this module, without the path.
enum WriteError {
    Changed,
    Io(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Original {
    /// Reads a file that is going to be changed. Refuses one that a rename cannot replace, or that others decide on.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        check_path(path)?;
        read(path).map_err(|error| failed(path, &error))
    }

    /// Reads a file that another change depends on.
    pub(super) fn read_only(path: &Path) -> Result<Self, Failure> {
        let content = fs::read(path).map_err(|error| {
            let message = format!("cannot read {}: {error}", path.display());
            let hint = format!(
                "make {} readable, and run the command again",
                path.display()
            );
            Failure::new(Code::Configuration, message, hint)
        })?;

        Ok(Self {
            path: path.to_owned(),
            content: Some(content),
        })
    }

    pub(super) fn text(&self) -> Result<&str, Failure> {
        let content = self.content.as_deref().unwrap_or_default();
        str::from_utf8(content).map_err(|error| {
            let before = content.iter().take(error.valid_up_to());
            let line = before.filter(|&&byte| byte == b'\n').count() + 1;
            let path = self.path.display();
            Failure::new(
                Code::Configuration,
                format!("{path} is not valid: line {line} is not UTF-8"),
                format!("save {path} as UTF-8, and run the command again"),
            )
        })
    }

    /// Changes a configuration file, and leaves a backup of the first state.
    pub(super) fn edit(
        self,
        content: Vec<u8>,
        removed: Vec<String>,
        added: Vec<String>,
    ) -> Result<Edit, Failure> {
        let backup = match &self.content {
            Some(_) => Some(Backup::of(&self.path)?),
            None => None,
        };

        Ok(Edit {
            file: self.path.display().to_string(),
            backup,
            removed,
            added,
            original: self,
            content: Some(content),
            new_mode: 0o600,
        })
    }

    fn check_unchanged(&self) -> Result<(), WriteError> {
        if self.has_content(&self.path)? {
            return Ok(());
        }
        Err(WriteError::Changed)
    }

    /// Whether this file has the content that was read.
    fn has_content(&self, path: &Path) -> io::Result<bool> {
        let content = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            content => Some(content?),
        };

        Ok(content == self.content)
    }
}

/// Refuses a path on which another user can put a link to a file of this user. The kernel refuses some of these links only
/// (`protected_symlinks`).
pub(super) fn check_path(path: &Path) -> Result<(), Failure> {
    trust::check_file(path).map_err(|reason| {
        Failure::new(
            Code::NotAllowed,
            format!("cannot change {}: {reason}", path.display()),
            "name a file with --file in a folder that only you and root can write",
        )
    })
}

fn read(path: &Path) -> io::Result<Original> {
    let path = std::path::absolute(path)?;
    if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        let content = None;
        return Ok(Original { path, content });
    }

    let path = path.canonicalize()?;
    let metadata = fs::metadata(&path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }

    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
        return Err(io::Error::other(
            "it has hard links, which a rename would separate",
        ));
    }

    let content = Some(read_at_rest(&path)?);

    Ok(Original { path, content })
}

/// The content of a file that no program is writing now, as far as its time of change tells: the AWS CLI empties its file
/// before it writes the new content.
fn read_at_rest(path: &Path) -> io::Result<Vec<u8>> {
    let start = Instant::now();
    while start.elapsed() < MAX_WAIT {
        let metadata = fs::metadata(path)?;
        let rest = match metadata.len() {
            0 => EMPTY_REST,
            _ => REST,
        };
        // A time in the future is one of another clock.
        if metadata.modified()?.elapsed().unwrap_or(rest) >= rest {
            break;
        }
        std::thread::sleep(REST);
    }

    fs::read(path)
}

/// How long a file has not changed before it is read.
const REST: Duration = Duration::from_millis(5);
/// The same for an empty one.
const EMPTY_REST: Duration = Duration::from_millis(200);
const MAX_WAIT: Duration = Duration::from_millis(300);

impl Edit {
    /// Refuses a file that a rename cannot replace, before anything is done.
    pub(super) fn check(&self) -> Result<(), Failure> {
        #[cfg(target_os = "linux")]
        if self.original.content.is_some() {
            replaceable::check_attributes(&self.original.path)?;
        }

        #[cfg(unix)]
        replaceable::check_folder(&self.original.path)?;

        Ok(())
    }

    pub(super) fn apply(&self) -> Result<(), ApplyError> {
        let path = &self.original.path;
        self.write().map_err(|error| match error {
            WriteError::Changed => {
                let error = io::Error::other("other programs change it all the time");
                ApplyError::Changed(failed(path, &error))
            }
            WriteError::Io(error) => ApplyError::Failed(failed(path, &error)),
        })
    }

    fn write(&self) -> Result<(), WriteError> {
        let Original { path, content: old } = &self.original;
        let folder = path.parent().unwrap_or(path);
        let Some(content) = &self.content else {
            self.original.check_unchanged()?;
            fs::remove_file(path)?;
            sync_folder(folder)?;
            return Ok(());
        };

        create_folder(folder)?;
        let new = self.temporary(folder, content)?;
        let backup = match (&self.backup, old) {
            (Some(backup), Some(old)) => backup.write(|folder| self.temporary(folder, old))?,
            _ => None,
        };

        let replaced = self
            .original
            .check_unchanged()
            .and_then(|()| self.replace(new));
        if let (Err(_), Some(backup)) = (&replaced, backup) {
            let _ = fs::remove_file(backup);
        }

        replaced?;
        sync_folder(folder)?;

        Ok(())
    }

    /// Puts the new file in the place of the original. If another program has changed it in the meantime, its change stays.
    fn replace(&self, new: NamedTempFile) -> Result<(), WriteError> {
        let path = &self.original.path;
        if self.original.content.is_none() {
            return match new.persist_noclobber(path) {
                Ok(_) => Ok(()),
                Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
                    Err(WriteError::Changed)
                }
                Err(error) => Err(error.error.into()),
            };
        }

        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            use rustix::io::Errno;

            let exchange = || renameat_with(CWD, new.path(), CWD, path, RenameFlags::EXCHANGE);
            match exchange() {
                Ok(()) if self.original.has_content(new.path())? => return Ok(()),
                Ok(()) => {
                    exchange().map_err(io::Error::from)?;
                    return Err(WriteError::Changed);
                }
                Err(Errno::NOENT) => return Err(WriteError::Changed),
                // This file system cannot exchange files.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }

        new.persist(path).map_err(|error| error.error)?;

        Ok(())
    }

    /// A file in this folder, with the owner, mode and attributes of the original.
    fn temporary(&self, folder: &Path, content: &[u8]) -> io::Result<NamedTempFile> {
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        #[cfg(unix)]
        self.set_attributes(file.as_file())?;
        file.as_file().sync_all()?;
        Ok(file)
    }

    #[cfg(unix)]
    fn set_attributes(&self, file: &fs::File) -> io::Result<()> {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

        let mode = |mode| fs::Permissions::from_mode(mode);
        if self.original.content.is_none() {
            let folder = self.original.path.parent();
            if let Some(owner) = folder.and_then(owner_for_root) {
                fchown(file, Some(owner.0), Some(owner.1))?;
            }
            return file.set_permissions(mode(self.new_mode));
        }

        let old = fs::metadata(&self.original.path)?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(file, Some(old.uid()), Some(old.gid()))?;
        }

        #[cfg(target_os = "linux")]
        super::attributes::copy(&self.original.path, file)?;
        // After the access control list, whose removal may leave another mode.
        file.set_permissions(mode(old.mode() & 0o7777))?;

        Ok(())
    }
}

/// Makes a rename in this folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Only the user can enter a new folder.
pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    let missing: Vec<_> = folder
        .ancestors()
        .take_while(|folder| !folder.exists())
        .collect();

    places::create_private(folder)?;

    #[cfg(unix)]
    for folder in missing.into_iter().rev() {
        if let Some(owner) = folder.parent().and_then(owner_for_root) {
            std::os::unix::fs::chown(folder, Some(owner.0), Some(owner.1))?;
        }
    }

    Ok(())
}

/// The user and the group of the folder, if root is working in the folder of another user, as with `sudo -E`. New files and
/// folders there are for that user.
#[cfg(unix)]
fn owner_for_root(folder: &Path) -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;

    let metadata = fs::metadata(folder).ok()?;
    let owner = (metadata.uid(), metadata.gid());
    (rustix::process::geteuid().is_root() && owner.0 != 0).then_some(owner)
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot change {}: {error}", path.display());
    let hint = "check the file and its folder, and run the command again";
    Failure::new(Code::Unexpected, message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn edit(path: &Path, content: &[u8]) -> Edit {
        let original = Original::read(path).unwrap();
        original
            .edit(content.to_vec(), Vec::new(), Vec::new())
            .unwrap()
    }

    fn change(path: &Path, content: &[u8]) {
        edit(path, content).apply().unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_change_keeps_the_mode_and_the_backup_has_the_first_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let backup = folder.path().join("config.rolekeeper-backup");
        fs::write(&path, "one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();

        change(&path, b"two");
        change(&path, b"three");

        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read(&backup).unwrap(), b"one");
        assert_eq!((mode(&path), mode(&backup)), (0o640, 0o640));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_new_file_and_its_folder_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/config");
        change(&path, b"one");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&folder.path().join("a")), 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        let link = folder.path().join("link");
        fs::write(&target, "one").unwrap();
        symlink("target", &link).unwrap();
        change(&link, b"two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"two");
    }

    #[test]
    fn only_a_regular_file_with_one_name_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        fs::write(&path, "one").unwrap();
        fs::hard_link(&path, folder.path().join("twin")).unwrap();
        symlink("nowhere", folder.path().join("dangling")).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        for (path, reason) in [
            (path.as_path(), "hard links"),
            (&folder.path().join("folder"), "not a regular file"),
            (Path::new("/dev/null"), "not a regular file"),
            (&folder.path().join("dangling"), "No such file"),
        ] {
            let failure = Original::read(path).unwrap_err();
            assert!(failure.message.contains(reason), "{failure}");
        }
    }

    #[test]
    fn a_change_by_another_program_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let without_file = edit(&path, b"ours");
        fs::write(&path, "theirs").unwrap();
        let with_file = edit(&path, b"ours");
        assert!(matches!(without_file.apply(), Err(ApplyError::Changed(_))));

        fs::write(&path, "changed").unwrap();
        assert!(matches!(with_file.apply(), Err(ApplyError::Changed(_))));
        assert_eq!(fs::read(&path).unwrap(), b"changed");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        // The last comparison is that of the file which the exchange returned.
        let stale = edit(&path, b"ours");
        fs::write(&path, "later").unwrap();
        let new = stale.temporary(folder.path(), b"ours").unwrap();
        assert!(matches!(stale.replace(new), Err(WriteError::Changed)));
        assert_eq!(fs::read(&path).unwrap(), b"later");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
