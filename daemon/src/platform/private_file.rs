//! Files that only the user can read: the configuration, tokens, keys and state. A file that other users can read is rejected,
//! and so is anything but a regular file: reading a pipe could block.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rolekeeper::shell::quoted_path;
use thiserror::Error;

/// The longest file, in bytes, unless the caller sets another limit.
const MAX_LENGTH: u64 = 1024 * 1024;

#[derive(Debug, Error)]
#[error("{path} {kind}", path = .path.display())]
pub struct PrivateFileError {
    pub(crate) path: PathBuf,
    pub(crate) kind: FileErrorKind,
}

#[derive(Debug, Error)]
pub(crate) enum FileErrorKind {
    #[error("does not exist")]
    Missing,
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("is not a regular file")]
    NotAFile,
    #[error("belongs to user {owner}, not to user {me}")]
    WrongOwner { owner: u32, me: u32 },
    #[error("can be read or written by other users (mode {mode:04o})")]
    OpenToOthers { mode: u32 },
    #[error("is longer than {most} bytes")]
    TooLong { most: u64 },
    #[error("is not UTF-8 text")]
    NotText,
}

impl PrivateFileError {
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.kind, FileErrorKind::Missing)
    }

    /// What the user can do, as an imperative. It never changes a file that is not the user's own.
    pub(crate) fn hint(&self) -> String {
        let path = self.path.display();
        match &self.kind {
            FileErrorKind::OpenToOthers { .. } if is_own(&self.path) => {
                format!("run chmod 600 {}", quoted_path(&self.path))
            }
            FileErrorKind::OpenToOthers { .. } | FileErrorKind::WrongOwner { .. } => {
                "use a file that belongs to you, with mode 600".into()
            }
            FileErrorKind::Unreadable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                unreadable_hint(&self.path)
            }
            FileErrorKind::Unreadable(_) => format!("make {path} a file that can be read"),
            FileErrorKind::Missing => format!("create {path} with mode 600"),
            FileErrorKind::NotAFile => format!("put a regular file with mode 600 at {path}"),
            FileErrorKind::TooLong { most } => format!("shorten {path} to {most} bytes"),
            FileErrorKind::NotText => format!("save {path} as UTF-8 text"),
        }
    }
}

/// For a file that must not be read: by its mode, or because it was not in the configuration when the sandbox was set up.
fn unreadable_hint(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(meta) if is_of_this_user(&meta) && !has_mode(&meta, 0o400) => {
            format!("run chmod 600 {}", quoted_path(path))
        }
        Ok(_) => "restart rolekeeperd, if the path is new in the configuration; \
             else use a file that belongs to you"
            .into(),
        Err(_) => format!(
            "make the folders of {} accessible to this user, or use a file in another folder",
            path.display()
        ),
    }
}

/// What to do if a file cannot be written. It never changes a folder that is not the user's own.
pub(crate) fn write_hint(path: &Path, error: &io::Error) -> String {
    let folder = path.parent().unwrap_or(path);
    match (error.kind(), std::fs::metadata(folder)) {
        (io::ErrorKind::PermissionDenied, Ok(meta))
            if is_of_this_user(&meta) && !has_mode(&meta, 0o300) =>
        {
            format!("run chmod u+wx {}", quoted_path(folder))
        }
        (io::ErrorKind::PermissionDenied, _) => {
            "restart rolekeeperd, if the path is new in the configuration; \
             else use a path in a folder of your own"
                .into()
        }
        _ => format!(
            "make room in {}, or use a path in another folder",
            folder.display()
        ),
    }
}

fn is_own(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| is_of_this_user(&meta))
}

/// The text of a file that belongs to this user or to root, and that no other user can read or write.
pub(crate) fn read(path: &Path) -> Result<String, PrivateFileError> {
    read_within(path, MAX_LENGTH)
}

/// The same for a file of up to `most` bytes.
pub(crate) fn read_within(path: &Path, most: u64) -> Result<String, PrivateFileError> {
    text(path, bytes(path, most)?)
}

/// The same for a file that need not be text.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, PrivateFileError> {
    bytes(path, MAX_LENGTH)
}

/// The mode bits that a file must not have. systemd gives its service a credential by an access list, which shows in the
/// mode as a group that can read.
fn forbidden_mode(path: &Path) -> u32 {
    let credentials = rolekeeper::connect::variable("CREDENTIALS_DIRECTORY");
    if credentials.is_some_and(|folder| path.starts_with(folder)) {
        0o037
    } else {
        0o077
    }
}

/// The text of a file that other users may read, but not write.
pub(crate) fn read_shown(path: &Path) -> Result<String, PrivateFileError> {
    let bytes = try_bytes(path, MAX_LENGTH, 0o022);
    text(path, bytes.map_err(|kind| error(path, kind))?)
}

fn error(path: &Path, kind: FileErrorKind) -> PrivateFileError {
    PrivateFileError {
        path: path.to_owned(),
        kind,
    }
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, PrivateFileError> {
    String::from_utf8(bytes).map_err(|_| error(path, FileErrorKind::NotText))
}

fn bytes(path: &Path, most: u64) -> Result<Vec<u8>, PrivateFileError> {
    try_bytes(path, most, forbidden_mode(path)).map_err(|kind| error(path, kind))
}

fn try_bytes(path: &Path, most: u64, forbidden: u32) -> Result<Vec<u8>, FileErrorKind> {
    let file = open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FileErrorKind::Missing,
        _ => FileErrorKind::Unreadable(error),
    })?;

    let meta = file.metadata().map_err(FileErrorKind::Unreadable)?;
    if !meta.is_file() {
        return Err(FileErrorKind::NotAFile);
    }

    check_owner(&meta, forbidden)?;

    // With its capacity from the start: growing would leave copies behind.
    let expected = usize::try_from(meta.len().min(most)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(expected + 1);
    let length = file
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(FileErrorKind::Unreadable)?;
    if length as u64 > most {
        return Err(FileErrorKind::TooLong { most });
    }

    Ok(bytes)
}

/// Replaces a file atomically, and syncs the new one to disk first.
pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    // The rest of an interrupted replacement, or a link to another file.
    let _ = std::fs::remove_file(&new);

    let mut file = writable().create_new(true).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;

    std::fs::rename(&new, path)?;

    // A folder that cannot be synced has the new file all the same, unless the machine loses power now.
    if let Some(folder) = path.parent()
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }

    Ok(())
}

pub(crate) use rolekeeper::places::create_private as create_folder;

/// Options to open or create a file for writing. A new file can be read by the user alone.
pub(crate) fn writable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Without blocking: opening a pipe would wait for its writer.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    Ok(File::from(file))
}

/// Whether a file is this user's. It may be one that another user has made in its place.
pub(crate) fn check_own(meta: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to another user"));
        }
    }

    #[cfg(not(unix))]
    let _ = meta;
    Ok(())
}

#[cfg(unix)]
fn check_owner(meta: &Metadata, forbidden: u32) -> Result<(), FileErrorKind> {
    use std::os::unix::fs::MetadataExt;
    let owner = meta.uid();
    let me = rustix::process::geteuid().as_raw();
    if owner != me && owner != 0 {
        return Err(FileErrorKind::WrongOwner { owner, me });
    }

    let mode = meta.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(FileErrorKind::OpenToOthers { mode });
    }

    Ok(())
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(unix)]
fn is_of_this_user(meta: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    meta.uid() == rustix::process::geteuid().as_raw()
}

#[cfg(unix)]
fn has_mode(meta: &Metadata, bits: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    meta.mode() & bits == bits
}

#[cfg(not(unix))]
fn is_of_this_user(_meta: &Metadata) -> bool {
    false
}

#[cfg(not(unix))]
fn has_mode(_meta: &Metadata, _bits: u32) -> bool {
    true
}

/// On Windows the access list of the user's profile folder protects it.
#[cfg(not(unix))]
fn check_owner(_meta: &Metadata, _forbidden: u32) -> Result<(), FileErrorKind> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn with_mode(dir: &Path, mode: u32) -> PathBuf {
        let path = dir.join(format!("{mode:o}"));
        std::fs::write(&path, "text").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn file_open_to_others_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o400] {
            assert_eq!(read(&with_mode(dir.path(), mode)).unwrap(), "text");
        }
        for mode in [0o604, 0o640, 0o620, 0o602, 0o644, 0o660] {
            let error = read(&with_mode(dir.path(), mode)).unwrap_err();
            assert!(
                matches!(error.kind, FileErrorKind::OpenToOthers { mode: found } if found == mode)
            );
            assert!(error.hint().starts_with("run chmod 600 "));
        }
    }

    #[test]
    fn only_regular_text_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo")
            .arg("-m")
            .arg("600")
            .arg(&pipe)
            .status()
            .unwrap();
        assert!(made.success());
        assert!(matches!(
            read(&pipe).unwrap_err().kind,
            FileErrorKind::NotAFile
        ));
        assert!(matches!(
            read(dir.path()).unwrap_err().kind,
            FileErrorKind::NotAFile
        ));
        assert!(matches!(
            read(&dir.path().join("none")).unwrap_err().kind,
            FileErrorKind::Missing
        ));
        let binary = with_mode(dir.path(), 0o600);
        std::fs::write(&binary, [0xff, 0xfe]).unwrap();
        assert!(matches!(
            read(&binary).unwrap_err().kind,
            FileErrorKind::NotText
        ));
        std::fs::write(&binary, vec![b'x'; MAX_LENGTH as usize + 1]).unwrap();
        assert!(matches!(
            read(&binary).unwrap_err().kind,
            FileErrorKind::TooLong { .. }
        ));
    }
}
