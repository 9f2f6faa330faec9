//! Binding the socket: in a folder closed to others, with a mode that is set before it has a name, and never in the
//! place of one that is alive.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, OwnedFd};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use interprocess::local_socket::tokio::Listener;
use interprocess::local_socket::{ConnectOptions, ListenerOptions};
use rolekeeper::connect;
use rolekeeper::protocol::Failure;
use thiserror::Error;

use crate::platform::private_file::create_folder;

/// The listening socket. Dropping it removes a socket of ours, so that clients see at once that nobody is there.
#[derive(Debug)]
pub struct BoundSocket {
    pub listener: Listener,
    pub path: PathBuf,
    /// Of a socket of ours: who holds the lock may remove what is left of another.
    own: Option<Own>,
}

/// What another process needs to serve a socket that listens already.
#[cfg(unix)]
#[derive(Debug)]
pub struct SocketDescriptors {
    pub descriptor: OwnedFd,
    /// Of a socket that rolekeeperd made, and removes at its end. Without it the socket is the service manager's.
    pub lock: Option<OwnedFd>,
}

#[derive(Debug)]
struct Own {
    lock: File,
    /// Device and number of the socket's file: another one at its path is not ours.
    file: Option<(u64, u64)>,
}

#[derive(Debug, Error)]
pub enum BindError {
    #[error("{}", .0.message)]
    Folder(Failure),
    #[error("{path}: {error}", path = .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("another rolekeeperd is serving {path}", path = .0.display())]
    Running(PathBuf),
    #[error("another program is listening at {path}", path = .0.display())]
    Foreign(PathBuf),
    #[error("{path} is not a socket", path = .0.display())]
    NotASocket(PathBuf),
}

impl BindError {
    pub fn hint(&self) -> String {
        match self {
            Self::Folder(failure) => failure.hint.clone(),
            Self::Running(_) => {
                "rolekeeper status; stop that daemon first, or name another path with --socket"
                    .into()
            }
            Self::Io { .. } | Self::Foreign(_) | Self::NotASocket(_) => {
                "another path with --socket".into()
            }
        }
    }
}

/// Binds `path`. What a daemon that was killed left behind is replaced; a live socket never is.
pub fn bind(path: &Path) -> Result<BoundSocket, BindError> {
    let folder = connect::folder_of(path);
    create_folder(folder).map_err(|error| BindError::Io {
        path: folder.into(),
        error,
    })?;
    connect::check_folder(path).map_err(BindError::Folder)?;
    let lock = lock(path)?;
    bind_locked(path, lock)
}

fn bind_locked(path: &Path, lock: File) -> Result<BoundSocket, BindError> {
    let io_error = |error| BindError::Io {
        path: path.into(),
        error,
    };
    remove_stale(path)?;
    let options = ListenerOptions::new()
        .name(connect::name(path).map_err(io_error)?)
        .reclaim_name(false);
    #[cfg(unix)]
    let options = interprocess::os::unix::local_socket::ListenerOptionsExt::mode(options, 0o600);
    let listener = options.create_tokio().map_err(io_error)?;
    tell_senders(&listener).map_err(io_error)?;
    Ok(BoundSocket {
        listener,
        path: path.into(),
        own: Some(Own {
            lock,
            file: socket_file(path),
        }),
    })
}

/// The kernel is to say who sends what, from the first byte of each connection on: they are as the listening socket is.
fn tell_senders(listener: &Listener) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let Listener::UdSocket(listener) = listener;
        rustix::net::sockopt::set_socket_passcred(listener.as_fd(), true)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = listener;
    Ok(())
}

/// A socket that listens already: an earlier process's, or the service manager's, which also removes it.
#[cfg(unix)]
pub fn adopt(socket: SocketDescriptors) -> Result<BoundSocket, BindError> {
    use interprocess::os::unix::uds_local_socket::tokio::Listener as Uds;

    let unknown = |error| BindError::Io {
        path: "the socket that was passed in".into(),
        error,
    };
    let listener = UnixListener::from(socket.descriptor);
    let address = listener.local_addr().map_err(unknown)?;
    let path = address
        .as_pathname()
        .ok_or_else(|| unknown(io::Error::other("it has no path")))?
        .to_path_buf();
    let own = socket.lock.map(|lock| Own {
        lock: lock.into(),
        file: socket_file(&path),
    });
    match own {
        // Somebody has removed it, and nobody can reach it any more.
        Some(Own { lock, file: None }) => {
            create_folder(connect::folder_of(&path)).map_err(unknown)?;
            bind_locked(&path, lock)
        }
        own => {
            let listener = Uds::try_from(OwnedFd::from(listener))
                .map_err(unknown)?
                .into();
            tell_senders(&listener).map_err(unknown)?;
            Ok(BoundSocket {
                listener,
                path,
                own,
            })
        }
    }
}

impl BoundSocket {
    /// Another hold on the socket, for the process that comes next; this one leaves it where it is.
    #[cfg(unix)]
    pub fn leave_open(&mut self) -> io::Result<SocketDescriptors> {
        let Listener::UdSocket(listener) = &self.listener;
        let descriptor = listener.as_fd().try_clone_to_owned()?;
        Ok(SocketDescriptors {
            descriptor,
            lock: self.own.take().map(|own| own.lock.into()),
        })
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let is_there = self
            .own
            .as_ref()
            .is_some_and(|own| own.file.is_some() && own.file == socket_file(&self.path));
        if !is_there {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket could not be removed");
        }
    }
}

/// Which file is the socket at this path, if one is there.
#[cfg(unix)]
fn socket_file(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    let meta = std::fs::symlink_metadata(path)
        .ok()
        .filter(|meta| meta.file_type().is_socket())?;
    Some((meta.dev(), meta.ino()))
}

/// The kernel releases it when its holder dies, however that happens. The file stays: removing it would let two
/// daemons hold two locks.
fn lock(path: &Path) -> Result<File, BindError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let path_of_lock = PathBuf::from(name);
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path_of_lock).map_err(|error| BindError::Io {
        path: path_of_lock.clone(),
        error,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BindError::Running(path.into())),
        Err(TryLockError::Error(error)) => Err(BindError::Io {
            path: path_of_lock,
            error,
        }),
    }
}

#[cfg(unix)]
fn remove_stale(path: &Path) -> Result<(), BindError> {
    use interprocess::local_socket::traits::Stream as _;
    use std::os::unix::fs::FileTypeExt;

    let io_error = |error| BindError::Io {
        path: path.into(),
        error,
    };
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(error)),
    };
    if !meta.file_type().is_socket() {
        return Err(BindError::NotASocket(path.into()));
    }
    // Not one of ours, or its lock would be held; but it may be some other program's, and alive.
    let options = ConnectOptions::new().name(connect::name(path).map_err(io_error)?);
    match interprocess::local_socket::Stream::from_options(&options) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "replacing a socket that was left behind");
            std::fs::remove_file(path).map_err(io_error)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error(error)),
        Ok(_alive) => Err(BindError::Foreign(path.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path)
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    }

    #[tokio::test]
    async fn the_folder_and_the_socket_are_private_and_the_socket_goes_with_the_door() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/run/socket");
        let door = bind(&path).unwrap();
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        drop(door);
        assert!(!path.exists());
    }

    fn private_dir() -> tempfile::TempDir {
        tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .unwrap()
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced() {
        let dir = private_dir();
        let path = dir.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err());
        let _door = bind(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[tokio::test]
    async fn a_live_socket_is_never_replaced() {
        let dir = private_dir();
        let path = dir.path().join("socket");
        let foreign = UnixListener::bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(BindError::Foreign(_))));
        drop(foreign);
        let _door = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(BindError::Running(_))));
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[tokio::test]
    async fn what_is_not_a_socket_is_not_touched() {
        let dir = private_dir();
        let path = dir.path().join("socket");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_folder_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            bind(&dir.path().join("socket")),
            Err(BindError::Folder(_))
        ));
    }
}
