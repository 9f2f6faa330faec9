//! Files that setup changes itself. A new file takes the place of the old one by an atomic rename, with the same owner, mode
//! and attributes, and only if the old one still has the content that was read.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rolekeeper::protocol::{Code, Failure};
use serde::Serialize;
use tempfile::NamedTempFile;

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
    /// The copy of the file as it was.
    pub(super) backup: Option<String>,
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

impl Original {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        read(path).map_err(|error| failed(path, &error))
    }

    pub(super) fn text(&self) -> Result<&str, Failure> {
        let content = self.content.as_deref().unwrap_or_default();
        str::from_utf8(content).map_err(|error| failed(&self.path, &io::Error::other(error)))
    }

    /// Changes a configuration file, and leaves a backup beside it.
    pub(super) fn edit(self, content: Vec<u8>, removed: Vec<String>, added: Vec<String>) -> Edit {
        let file = self.path.display().to_string();
        Edit {
            backup: self
                .content
                .is_some()
                .then(|| format!("{file}.rolekeeper-backup")),
            file,
            removed,
            added,
            original: self,
            content: Some(content),
            new_mode: 0o600,
        }
    }

    fn check_unchanged(&self) -> io::Result<()> {
        let content = match fs::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            content => Some(content?),
        };
        if content == self.content {
            return Ok(());
        }
        Err(io::Error::other("another program has just changed it"))
    }
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

    let content = Some(fs::read(&path)?);

    Ok(Original { path, content })
}

impl Edit {
    pub(super) fn apply(&self) -> Result<(), Failure> {
        self.write()
            .map_err(|error| failed(&self.original.path, &error))
    }

    fn write(&self) -> io::Result<()> {
        let Original { path, content: old } = &self.original;
        let Some(content) = &self.content else {
            self.original.check_unchanged()?;
            return fs::remove_file(path);
        };

        create_folder(path.parent().unwrap_or(path))?;
        if let (Some(backup), Some(old)) = (&self.backup, old) {
            self.temporary(old)?.persist(backup)?;
        }

        let new = self.temporary(content)?;
        self.original.check_unchanged()?;
        new.persist(path)?;

        Ok(())
    }

    /// A file in the same folder, with the owner, mode and attributes of the original.
    fn temporary(&self, content: &[u8]) -> io::Result<NamedTempFile> {
        let path = &self.original.path;
        let mut file = NamedTempFile::new_in(path.parent().unwrap_or(path))?;
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
            return file.set_permissions(mode(self.new_mode));
        }

        let old = fs::metadata(&self.original.path)?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(file, Some(old.uid()), Some(old.gid()))?;
        }

        file.set_permissions(mode(old.mode() & 0o7777))?;
        #[cfg(target_os = "linux")]
        copy_extended_attributes(&self.original.path, file)?;

        Ok(())
    }
}

/// Copies the access control list and the attributes of the user. The system sets all others.
#[cfg(target_os = "linux")]
fn copy_extended_attributes(path: &Path, file: &fs::File) -> io::Result<()> {
    use rustix::fs::{XattrFlags, fsetxattr, getxattr, listxattr};

    const LONGEST: usize = 64 * 1024;
    let mut names = vec![0; LONGEST];
    let length = match listxattr(path, names.as_mut_slice()) {
        Err(rustix::io::Errno::NOTSUP) => 0,
        length => length?,
    };

    names.truncate(length);

    for name in names.split(|&byte| byte == 0) {
        if name.starts_with(b"user.") || name == b"system.posix_acl_access" {
            let mut value = vec![0; LONGEST];
            let length = getxattr(path, name, value.as_mut_slice())?;
            value.truncate(length);
            fsetxattr(file, name, &value, XattrFlags::empty())?;
        }
    }

    Ok(())
}

/// Only the user can enter a new folder.
fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
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

    fn change(path: &Path, content: &[u8]) -> Result<(), Failure> {
        let original = Original::read(path)?;
        original
            .edit(content.to_vec(), Vec::new(), Vec::new())
            .apply()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_change_keeps_mode_and_attributes_and_leaves_a_backup() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let backup = folder.path().join("config.rolekeeper-backup");
        fs::write(&path, "one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();

        change(&path, b"two").unwrap();
        change(&path, b"three").unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read(&backup).unwrap(), b"two");
        assert_eq!((mode(&path), mode(&backup)), (0o640, 0o640));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_change_keeps_the_access_control_list() {
        use rustix::fs::{XattrFlags, getxattr, setxattr};

        // Version 2: owner rw, user 1 rw, group -, mask rw, other -.
        let entry = |tag: u16, mode: u16, id: u32| {
            let mut bytes = tag.to_le_bytes().to_vec();
            bytes.extend(mode.to_le_bytes());
            bytes.extend(id.to_le_bytes());
            bytes
        };
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, mode, id) in [(1, 6, u32::MAX), (2, 6, 1), (4, 0, u32::MAX)] {
            list.extend(entry(tag, mode, id));
        }
        list.extend(entry(16, 6, u32::MAX));
        list.extend(entry(32, 0, u32::MAX));
        let name = "system.posix_acl_access";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        fs::write(&path, "one").unwrap();
        match setxattr(&path, name, &list, XattrFlags::empty()) {
            // This file system has no access control lists.
            Err(rustix::io::Errno::NOTSUP) => return,
            set => set.unwrap(),
        }

        change(&path, b"two").unwrap();

        let mut kept = vec![0; 1024];
        let length = getxattr(&path, name, kept.as_mut_slice()).unwrap();
        assert_eq!(kept[..length], list);
    }

    #[test]
    fn a_new_file_and_its_folder_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/config");
        change(&path, b"one").unwrap();
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
        change(&link, b"two").unwrap();
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
        for (path, reason) in [
            (path.as_path(), "hard links"),
            (folder.path(), "not a regular file"),
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
        let edit = || {
            Original::read(&path)
                .unwrap()
                .edit(b"ours".to_vec(), vec![], vec![])
        };

        let without_file = edit();
        fs::write(&path, "theirs").unwrap();
        let with_file = edit();
        assert!(without_file.apply().is_err());

        fs::write(&path, "changed").unwrap();
        let failure = with_file.apply().unwrap_err();
        assert!(failure.message.contains("another program"), "{failure}");
        assert_eq!(fs::read(&path).unwrap(), b"changed");
    }
}
