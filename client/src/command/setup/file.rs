//! One file of somebody else's that is read, kept a copy of, and put anew. It is never written through: a new file takes
//! its place in one step, or it stays as it was. What is not a regular file is left alone.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rolekeeper::protocol::{Code, Failure};

/// A configuration that is longer is none.
const LONGEST: u64 = 16 << 20;
/// How many copies of a file there may be beside it.
const MOST_BACKUPS: u32 = 1000;

/// A file as it was found.
#[derive(Debug)]
pub(super) struct Original {
    /// Where it is: behind the links that lead to it.
    pub(super) path: PathBuf,
    /// None where there is none.
    pub(super) bytes: Option<Vec<u8>>,
    /// Whether a link leads to it.
    pub(super) is_linked: bool,
    meta: Option<Metadata>,
}

impl Original {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let path = std::path::absolute(path).map_err(|error| failed(path, "read", &error))?;
        let is_linked = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self {
                    path,
                    bytes: None,
                    is_linked: false,
                    meta: None,
                });
            }
            Err(error) => return Err(failed(&path, "read", &error)),
            Ok(meta) => meta.is_symlink(),
        };
        let target = path
            .canonicalize()
            .map_err(|error| failed(&path, "followed to a file", &error))?;
        let meta = fs::metadata(&target).map_err(|error| failed(&target, "read", &error))?;
        if !meta.is_file() {
            return Err(odd(&target, "is not a regular file"));
        }
        if names(&meta) > 1 {
            return Err(odd(
                &target,
                "is one of several names of a file (hard links), which a new file would part",
            ));
        }
        if meta.len() > LONGEST {
            return Err(odd(&target, "is too long for a configuration"));
        }
        let bytes = fs::read(&target).map_err(|error| failed(&target, "read", &error))?;
        Ok(Self {
            path: target,
            bytes: Some(bytes),
            is_linked,
            meta: Some(meta),
        })
    }

    /// What it holds, which is nothing where it is not.
    pub(super) fn content(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }

    /// The copies that were kept of it, the newest first.
    pub(super) fn backups(&self) -> Vec<Vec<u8>> {
        let mut found: Vec<_> = (1..=MOST_BACKUPS)
            .map_while(|number| self.backup(number))
            .flatten()
            .collect();
        found.reverse();
        found
    }

    /// What a copy holds. None behind the last copy; nothing in what has a copy's name and is none.
    fn backup(&self, number: u32) -> Option<Option<Vec<u8>>> {
        let path = self.backup_path(number);
        let meta = fs::symlink_metadata(&path).ok()?;
        Some(if meta.is_file() && meta.len() <= LONGEST {
            fs::read(&path).ok()
        } else {
            None
        })
    }

    fn backup_path(&self, number: u32) -> PathBuf {
        beside(
            &self.path,
            &if number == 1 {
                ".rolekeeper-backup".into()
            } else {
                format!(".rolekeeper-backup-{number}")
            },
        )
    }

    /// Puts these bytes in its place, with its owner and mode, or with this mode where it is new. Returns the copy that
    /// was kept of it.
    pub(super) fn replace(
        &self,
        bytes: &[u8],
        new_mode: u32,
        keep: bool,
    ) -> Result<Option<PathBuf>, Failure> {
        self.still_as_read()?;
        let copy = match &self.bytes {
            Some(before) if keep => Some(self.keep(before)?),
            _ => None,
        };
        if self.bytes.is_none() {
            make_folder(&self.path)?;
        }
        let (new, file) = self.new_file()?;
        let written = self
            .fill(file, bytes, new_mode)
            .and_then(|()| fs::rename(&new, &self.path));
        written.map_err(|error| {
            // Nothing but what this made.
            let _ = fs::remove_file(&new);
            failed(&self.path, "written", &error)
        })?;
        Ok(copy)
    }

    pub(super) fn remove(&self) -> Result<(), Failure> {
        self.still_as_read()?;
        fs::remove_file(&self.path).map_err(|error| failed(&self.path, "removed", &error))
    }

    /// Another program may have written since.
    fn still_as_read(&self) -> Result<(), Failure> {
        let now = match fs::read(&self.path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&self.path, "read", &error)),
        };
        if now == self.bytes {
            return Ok(());
        }
        Err(Failure::new(
            Code::Unexpected,
            format!(
                "{} was changed by another program just now",
                self.path.display()
            ),
            "run the command again",
        ))
    }

    /// A copy beside it. One that is there already is enough if it is the same, and stays if it is not.
    fn keep(&self, before: &[u8]) -> Result<PathBuf, Failure> {
        for number in 1..=MOST_BACKUPS {
            let path = self.backup_path(number);
            match self.backup(number) {
                Some(Some(kept)) if kept == before => return Ok(path),
                Some(_) => continue,
                None => {}
            }
            let copy = private(OpenOptions::new().write(true).create_new(true)).open(&path);
            let copy = copy.map_err(|error| failed(&path, "written", &error))?;
            return match self.fill(copy, before, 0o600) {
                Ok(()) => Ok(path),
                Err(error) => {
                    let _ = fs::remove_file(&path);
                    Err(failed(&path, "written", &error))
                }
            };
        }
        Err(odd(
            &self.path,
            "has too many copies beside it (*.rolekeeper-backup-*)",
        ))
    }

    /// A file in the same folder, so that it can take the place of this one in one step.
    fn new_file(&self) -> Result<(PathBuf, File), Failure> {
        let mut last = io::Error::from(ErrorKind::AlreadyExists);
        for number in 0..100 {
            let path = beside(
                &self.path,
                &format!(".rolekeeper-new-{}-{number}", std::process::id()),
            );
            match private(OpenOptions::new().write(true).create_new(true)).open(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(failed(&self.path, "written", &error)),
            }
        }
        Err(failed(&self.path, "written", &last))
    }

    fn fill(&self, mut file: File, bytes: &[u8], new_mode: u32) -> io::Result<()> {
        file.write_all(bytes)?;
        like(&file, self.meta.as_ref(), new_mode)?;
        file.sync_all()
    }
}

/// A path with something behind its name.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(more);
    path.with_file_name(name)
}

/// The folder of a new file, which only this user may enter if it has to be made.
fn make_folder(path: &Path) -> Result<(), Failure> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .map_err(|error| failed(folder, "made", &error))
}

/// Nobody else may read it while it is written.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Gives a file the owner and mode of another, or this mode.
#[cfg(unix)]
fn like(file: &File, other: Option<&Metadata>, new_mode: u32) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

    if let Some(other) = other {
        let mine = file.metadata()?;
        if (mine.uid(), mine.gid()) != (other.uid(), other.gid()) {
            fchown(file, Some(other.uid()), Some(other.gid()))?;
        }
    }
    let mode = other.map_or(new_mode, |other| other.mode() & 0o7777);
    file.set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(unix)]
fn names(meta: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(meta)
}

#[cfg(not(unix))]
fn names(_meta: &Metadata) -> u64 {
    1
}

#[cfg(not(unix))]
fn like(_file: &File, _other: Option<&Metadata>, _new_mode: u32) -> io::Result<()> {
    Ok(())
}

fn failed(path: &Path, done: &str, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::new(
        Code::Unexpected,
        format!("{path} cannot be {done}: {error}"),
        format!(
            "see to it that you may read and write {path} and its folder; nothing of it was changed"
        ),
    )
}

fn odd(path: &Path, why: &str) -> Failure {
    Failure::new(
        Code::Configuration,
        format!("{} {why}", path.display()),
        "name another file with --file, or change this one by hand",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn listed(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn every_write_keeps_a_copy_with_the_same_mode_and_no_copy_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(&path, "one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        for (text, copy) in [
            ("two", Some("config.rolekeeper-backup")),
            ("three", Some("config.rolekeeper-backup-2")),
            ("one", Some("config.rolekeeper-backup-3")),
            // As it was at first: that copy is there.
            ("four", Some("config.rolekeeper-backup")),
        ] {
            let original = Original::read(&path).unwrap();
            let kept = original.replace(text.as_bytes(), 0o600, true).unwrap();
            assert_eq!(kept, copy.map(|name| dir.path().join(name)));
            assert_eq!(fs::read(kept.unwrap()).unwrap(), original.bytes.unwrap());
        }
        let want = [
            "config",
            "config.rolekeeper-backup",
            "config.rolekeeper-backup-2",
            "config.rolekeeper-backup-3",
        ];
        assert_eq!(listed(dir.path()), want);
        for name in want {
            assert_eq!(
                fs::metadata(dir.path().join(name)).unwrap().mode() & 0o777,
                0o640,
                "{name}"
            );
        }
        assert_eq!(
            Original::read(&path).unwrap().backups(),
            [b"three".to_vec(), b"two".to_vec(), b"one".to_vec()]
        );
    }

    #[test]
    fn a_link_stays_one_and_what_is_no_regular_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "one").unwrap();
        symlink("real", &link).unwrap();
        Original::read(&link)
            .unwrap()
            .replace(b"two", 0o600, true)
            .unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            (fs::read_to_string(&real).unwrap(), listed(dir.path()).len()),
            ("two".into(), 3)
        );
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        for (name, why) in [
            ("dangling", "followed to a file"),
            ("", "is not a regular file"),
        ] {
            let failure = Original::read(&dir.path().join(name)).unwrap_err();
            assert!(failure.message.contains(why), "{failure}");
        }
        fs::hard_link(&real, dir.path().join("twin")).unwrap();
        assert!(
            Original::read(&real)
                .unwrap_err()
                .message
                .contains("hard links")
        );
        assert!(
            Original::read(Path::new("/dev/null"))
                .unwrap_err()
                .message
                .contains("is not a regular file")
        );
    }

    #[test]
    fn a_file_that_somebody_else_has_written_meanwhile_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let missing = Original::read(&path).unwrap();
        fs::write(&path, "one").unwrap();
        let one = Original::read(&path).unwrap();
        assert!(
            missing
                .replace(b"ours", 0o600, true)
                .unwrap_err()
                .message
                .contains("another program")
        );
        fs::write(&path, "two").unwrap();
        assert!(one.replace(b"ours", 0o600, true).is_err() && one.remove().is_err());
        assert_eq!(
            (fs::read_to_string(&path).unwrap(), listed(dir.path()).len()),
            ("two".into(), 1)
        );
    }

    #[test]
    fn a_new_file_is_private_and_so_is_its_new_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/config");
        assert_eq!(
            Original::read(&path)
                .unwrap()
                .replace(b"x", 0o600, true)
                .unwrap(),
            None
        );
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            fs::metadata(dir.path().join("a")).unwrap().mode() & 0o777,
            0o700
        );
    }
}
