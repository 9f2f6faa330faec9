//! A lock that one process holds at a time, with a note in the file of who that is. The kernel releases it when the process
//! exits. The file stays: without it, two processes could each lock a file of their own.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::private_file::writable;

/// The interval between two attempts.
const PAUSE: Duration = Duration::from_millis(5);
/// The most that is read of a note, in bytes.
const MAX_NOTE: u64 = 4096;

/// The process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) host: String,
    /// The id of the host's boot. Process ids of another boot mean nothing here.
    pub(crate) boot: String,
    pub(crate) process: u32,
    pub(crate) socket: PathBuf,
}

#[derive(Debug)]
pub(crate) enum LockError {
    /// The holder is unknown for a moment, until it has written its note.
    Held(Option<Holder>),
    Io(io::Error),
}

impl Holder {
    /// This process, which serves at the socket.
    pub(crate) fn this(socket: &Path) -> Self {
        Self {
            host: host(),
            boot: boot(),
            process: std::process::id(),
            socket: socket.into(),
        }
    }

    pub(crate) fn is_of_this_boot(&self) -> bool {
        self.host == host() && self.boot == boot()
    }
}

/// Locks the file. A lock that is held is waited for, because its holder may be about to end: for as long as `patience`
/// unless `is_final` says that its holder will not end.
pub(crate) fn lock(
    path: &Path,
    holder: &Holder,
    patience: Duration,
    is_final: impl Fn(&Holder) -> bool,
) -> Result<File, LockError> {
    let mut waited = Duration::ZERO;

    loop {
        let mut file = open(path).map_err(LockError::Io)?;
        match file.try_lock() {
            // It was removed, or made anew, meanwhile.
            Ok(()) if !is_at(&file, path) => {}
            Ok(()) => {
                write_note(&mut file, holder).map_err(LockError::Io)?;
                return Ok(file);
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }

        let other = read_note(&mut file);
        if other.as_ref().is_some_and(&is_final) || waited >= patience {
            return Err(LockError::Held(other));
        }
        std::thread::sleep(PAUSE);
        waited += PAUSE;
    }
}

/// A link to another file is not followed.
fn open(path: &Path) -> io::Result<File> {
    let mut options = writable();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW);
    options.open(path)
}

/// Whether this is the file at the path.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let here = file.metadata().map(id);
        let there = std::fs::symlink_metadata(path).map(id);
        here.is_ok_and(|here| there.is_ok_and(|there| here == there))
    }

    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

/// A full disk takes the note, and not the lock.
fn write_note(file: &mut File, holder: &Holder) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;

    let note = serde_json::to_vec(holder)?;
    if let Err(error) = file.write_all(&note) {
        tracing::warn!(%error, "cannot write who holds a lock");
    }

    Ok(())
}

fn read_note(file: &mut File) -> Option<Holder> {
    let mut note = Vec::new();
    file.rewind().ok()?;
    file.take(MAX_NOTE).read_to_end(&mut note).ok()?;
    serde_json::from_slice(&note).ok()
}

fn host() -> String {
    #[cfg(unix)]
    return rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    #[cfg(not(unix))]
    String::new()
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> Holder {
        Holder::this(Path::new("/run/socket"))
    }

    #[test]
    fn second_holder_learns_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = lock(&path, &holder(), Duration::ZERO, |_| false).unwrap();
        let second = lock(&path, &holder(), Duration::from_secs(60), |_| true);
        assert!(
            matches!(&second, Err(LockError::Held(Some(other))) if *other == holder()),
            "{second:?}"
        );
        assert!(holder().is_of_this_boot());

        drop(first);
        lock(&path, &holder(), Duration::ZERO, |_| false).unwrap();
    }

    #[test]
    fn lock_that_is_given_back_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = lock(&path, &holder(), Duration::ZERO, |_| false).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                drop(first);
            });
            lock(&path, &holder(), Duration::from_secs(60), |_| false).unwrap();
        });
    }

    #[test]
    fn removed_file_is_not_the_one_at_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = lock(&path, &holder(), Duration::ZERO, |_| false).unwrap();
        assert!(is_at(&first, &path));
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&first, &path));
        lock(&path, &holder(), Duration::ZERO, |_| false).unwrap();
    }
}
