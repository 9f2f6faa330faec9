//! Files that only the user may read: the configuration, tokens, and what encrypts them. What others can read is refused, and so is
//! whatever is not a file: a pipe would hang whoever reads it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use thiserror::Error;

/// The most that is read, in bytes.
const CAP: u64 = 1024 * 1024;

#[derive(Debug, Error)]
#[error("{path} {why}", path = .path.display())]
pub struct PrivateFileError {
    pub path: PathBuf,
    pub why: FileErrorKind,
}

#[derive(Debug, Error)]
pub enum FileErrorKind {
    #[error("does not exist")]
    Missing,
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("is not a file")]
    NotAFile,
    #[error("belongs to user {owner}, not to you (user {me})")]
    NotYours { owner: u32, me: u32 },
    #[error("can be read or written by others (mode {mode:04o})")]
    OpenToOthers { mode: u32 },
    #[error("is longer than {most} bytes")]
    TooLong { most: u64 },
    #[error("is not UTF-8 text")]
    NotText,
}

impl PrivateFileError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let path = self.path.display();
        match &self.why {
            FileErrorKind::OpenToOthers { .. } => format!("chmod 600 {path}"),
            FileErrorKind::NotYours { .. } => {
                format!("copy it to a file of your own, or chown it: {path}")
            }
            FileErrorKind::Unreadable(error)
                if error.kind() == io::ErrorKind::PermissionDenied
                    && crate::sandbox::is_confined() =>
            {
                format!(
                    "restart rolekeeperd, which may read only what was configured when it was started; else ls -l {path}"
                )
            }
            FileErrorKind::Unreadable(_) => format!("see who owns it and its mode: ls -l {path}"),
            FileErrorKind::Missing
            | FileErrorKind::NotAFile
            | FileErrorKind::TooLong { .. }
            | FileErrorKind::NotText => {
                format!("see that the right file is at {path}")
            }
        }
    }
}

/// The text of a file that belongs to this user or to root, and that nobody else may read or write.
pub fn read(path: &Path) -> Result<String, PrivateFileError> {
    read_within(path, CAP)
}

/// The same for a file that may have this many bytes.
pub fn read_within(path: &Path, most: u64) -> Result<String, PrivateFileError> {
    text(path, bytes(path, most)?)
}

/// The same for what is not text.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, PrivateFileError> {
    bytes(path, CAP)
}

/// What others may not do. The access list of a file that the service manager made for this service alone shows as a group
/// that may read it.
fn forbidden(path: &Path) -> u32 {
    let credentials = rolekeeper::connect::variable("CREDENTIALS_DIRECTORY");
    if credentials.is_some_and(|folder| path.starts_with(folder)) {
        0o037
    } else {
        0o077
    }
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, PrivateFileError> {
    String::from_utf8(bytes).map_err(|_| PrivateFileError {
        path: path.to_owned(),
        why: FileErrorKind::NotText,
    })
}

fn bytes(path: &Path, most: u64) -> Result<Vec<u8>, PrivateFileError> {
    let fail = |why| PrivateFileError {
        path: path.to_owned(),
        why,
    };
    let file = open(path).map_err(|error| {
        let is_missing = matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        );
        fail(if is_missing {
            FileErrorKind::Missing
        } else {
            FileErrorKind::Unreadable(error)
        })
    })?;
    let meta = file
        .metadata()
        .map_err(|error| fail(FileErrorKind::Unreadable(error)))?;
    if !meta.is_file() {
        return Err(fail(FileErrorKind::NotAFile));
    }
    check_owner(&meta, forbidden(path)).map_err(fail)?;
    let mut bytes =
        Vec::with_capacity(usize::try_from(meta.len().min(most)).unwrap_or_default() + 1);
    let length = file
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(FileErrorKind::Unreadable(error)))?;
    if length as u64 > most {
        Err(fail(FileErrorKind::TooLong { most }))
    } else {
        Ok(bytes)
    }
}

/// Puts a file with this text in the place of the one that is there, at once: whoever reads it sees the one or the other.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    // What an interrupted one left, or a link to somewhere else.
    let _ = std::fs::remove_file(&fresh);
    let mut file = writable().create_new(true).open(&fresh)?;
    file.write_all(text).and_then(|()| file.sync_all())?;
    std::fs::rename(&fresh, path)
}

/// A file of the daemon's in the user's state folder: one for each socket, so that two daemons do not write the same.
pub fn of_socket(folder: &Path, what: &str, socket: &Path, kind: &str) -> PathBuf {
    let socket = percent_encoding::percent_encode(socket.as_os_str().as_encoded_bytes(), PLAIN);
    folder.join(format!(
        "{what}{}.{kind}",
        socket.to_string().replace('/', "-")
    ))
}

/// What a file's name may have of the path of a socket; a slash is written as a dash.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'_');

/// A folder that only the user may enter, with those that it lies in. One that is there stays as it is.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Opens a file for writing that only the user reads, and makes it if it is not there.
pub fn writable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Without waiting: opening a pipe for reading would wait for its writer.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map(File::from)
    .map_err(Into::into)
}

#[cfg(unix)]
fn check_owner(meta: &std::fs::Metadata, forbidden: u32) -> Result<(), FileErrorKind> {
    use std::os::unix::fs::MetadataExt;
    let (owner, me) = (meta.uid(), rustix::process::geteuid().as_raw());
    if owner != me && owner != 0 {
        return Err(FileErrorKind::NotYours { owner, me });
    }
    let mode = meta.mode() & 0o7777;
    if mode & forbidden != 0 {
        Err(FileErrorKind::OpenToOthers { mode })
    } else {
        Ok(())
    }
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// A profile folder's access list keeps others out there.
#[cfg(not(unix))]
fn check_owner(_meta: &std::fs::Metadata, _forbidden: u32) -> Result<(), FileErrorKind> {
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
    fn each_socket_has_a_file_of_its_own() {
        let folder = Path::new("/state");
        let names = ["/run/a/socket", "/run/a-socket", "/run/a%2Dsocket"]
            .map(|socket| of_socket(folder, "revocations", Path::new(socket), "json"));
        assert_eq!(names[0], folder.join("revocations-run-a-socket.json"));
        assert!(
            names[0] != names[1] && names[1] != names[2] && names[0] != names[2],
            "{names:?}"
        );
        assert!(names.iter().all(|name| name.parent() == Some(folder)));
    }

    #[test]
    fn only_files_closed_to_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o400] {
            assert_eq!(read(&with_mode(dir.path(), mode)).unwrap(), "text");
        }
        for mode in [0o604, 0o640, 0o620, 0o602, 0o644, 0o660] {
            let error = read(&with_mode(dir.path(), mode)).unwrap_err();
            assert!(
                matches!(error.why, FileErrorKind::OpenToOthers { mode: found } if found == mode)
            );
            assert!(error.hint().starts_with("chmod 600 "));
        }
    }

    #[test]
    fn folders_pipes_binaries_and_missing_files_are_refused_without_waiting() {
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
            read(&pipe).unwrap_err().why,
            FileErrorKind::NotAFile
        ));
        assert!(matches!(
            read(dir.path()).unwrap_err().why,
            FileErrorKind::NotAFile
        ));
        assert!(matches!(
            read(&dir.path().join("none")).unwrap_err().why,
            FileErrorKind::Missing
        ));
        let binary = with_mode(dir.path(), 0o600);
        std::fs::write(&binary, [0xff, 0xfe]).unwrap();
        assert!(matches!(
            read(&binary).unwrap_err().why,
            FileErrorKind::NotText
        ));
        std::fs::write(&binary, vec![b'x'; CAP as usize + 1]).unwrap();
        assert!(matches!(
            read(&binary).unwrap_err().why,
            FileErrorKind::TooLong { .. }
        ));
    }
}
