//! Binds the socket: in a private folder, with a mode that is set before the socket has a name. It replaces a stale socket,
//! and never a live one.

use std::fs::File;
use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, OwnedFd};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use interprocess::local_socket::{ConnectOptions, Listener, ListenerOptions};
use rolekeeper::connect;
use rolekeeper::protocol::Failure;
use rolekeeper::socket_owner;
use thiserror::Error;

use crate::platform::lock_file::{self, Holder, LockError, is_at};
use crate::platform::private_file::create_folder;
use crate::platform::removal::FolderWatch;

/// For a daemon that ends, which gives the lock back within milliseconds of its last answer.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// The most connections that wait to be accepted. A process that connects and closes as fast as it can keeps the queue full,
/// and everybody waits behind it. The next ones wait in connect(2), where each process has one place.
const BACKLOG: i32 = 16;

/// The listening socket. Its drop removes the socket's file, if the daemon created it, so that clients fail at once.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    pub(super) listener: UnixListener,
    pub(crate) path: PathBuf,
    /// Present if the daemon created the socket. The holder of the lock may remove a stale socket.
    created: Option<CreatedSocket>,
}

/// A listening socket that passes to another process.
#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct SocketDescriptors {
    pub(crate) descriptor: OwnedFd,
    /// Present if rolekeeperd created the socket, and so removes it. A service manager's socket has no lock.
    pub(crate) lock: Option<OwnedFd>,
}

#[derive(Debug)]
struct CreatedSocket {
    lock: File,
    /// The device and inode of the socket's file. Another file at its path stays.
    file: Option<(u64, u64)>,
}

#[derive(Debug)]
pub(crate) struct SocketWatch {
    /// Absent if the folder cannot be watched, for example because it was removed already.
    folder: Option<FolderWatch>,
    path: PathBuf,
    /// The device and inode.
    file: (u64, u64),
}

#[derive(Debug, Error)]
pub enum BindError {
    #[error("{}", .0.message)]
    Folder(Failure),
    #[error("{path}: {error}", path = .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("another rolekeeperd is serving {path}", path = .path.display())]
    Running { path: PathBuf, process: Option<u32> },
    #[error("another program is listening at {path}", path = .0.display())]
    Foreign(PathBuf),
    #[error("{path} is not a socket", path = .0.display())]
    NotASocket(PathBuf),
}

impl BindError {
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Folder(failure) => failure.hint.clone(),
            Self::Running { process, .. } => match process {
                Some(process) => {
                    format!("use that daemon, or run kill {process} and then the command again")
                }
                None => "use that daemon".into(),
            },
            Self::Io { .. } | Self::Foreign(_) | Self::NotASocket(_) => {
                "set another path with --socket".into()
            }
        }
    }
}

/// Binds `path`. The stale socket of a killed daemon is replaced.
///
/// # Errors
/// When the folder is not private, or another process listens at the path.
pub(crate) fn bind(path: &Path) -> Result<BoundSocket, BindError> {
    let folder = connect::folder_of(path);
    create_folder(folder).map_err(|error| io_error(folder, error))?;
    socket_owner::check_folder(path).map_err(BindError::Folder)?;

    let lock = lock(path)?;
    bind_locked(path, lock)
}

fn bind_locked(path: &Path, lock: File) -> Result<BoundSocket, BindError> {
    remove_stale(path)?;
    let listener = listen(path).map_err(|error| io_error(path, error))?;

    Ok(BoundSocket {
        listener,
        path: path.into(),
        created: Some(CreatedSocket {
            lock,
            file: socket_file(path),
        }),
    })
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let options = ListenerOptions::new()
        .name(connect::name(path)?)
        .reclaim_name(false);
    #[cfg(unix)]
    let options = interprocess::os::unix::local_socket::ListenerOptionsExt::mode(options, 0o600);

    let Listener::UdSocket(listener) = options.create_sync()?;
    let listener = listener.as_fd().try_clone_to_owned()?.into();
    // Not for a socket of the service manager, which has set this itself: clients would see this user as the listener.
    rustix::net::listen(&listener, BACKLOG)?;
    prepare(&listener)?;
    Ok(listener)
}

fn io_error(path: &Path, error: io::Error) -> BindError {
    BindError::Io {
        path: path.into(),
        error,
    }
}

/// Also a socket of the service manager, which has other options.
fn prepare(listener: &UnixListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;

    // The kernel adds the sender's credentials to every message. Connections inherit this option, so it holds from their
    // first byte on.
    #[cfg(target_os = "linux")]
    rustix::net::sockopt::set_socket_passcred(listener, true)?;

    Ok(())
}

/// Takes over a listening socket of an earlier process, or of the service manager, which also removes it.
#[cfg(unix)]
pub(crate) fn adopt(socket: SocketDescriptors) -> Result<BoundSocket, BindError> {
    let listener = UnixListener::from(socket.descriptor);
    let path = path_of(&listener).map_err(passed_in_error)?;
    let created = socket.lock.map(|lock| CreatedSocket {
        lock: lock.into(),
        file: socket_file(&path),
    });

    match created {
        // The lock's file was removed. Another daemon may have made one of its own, and the socket.
        Some(CreatedSocket { lock, .. }) if !is_at(&lock, &lock_path(&path)) => bind(&path),
        // The socket's file was removed, so clients cannot connect.
        Some(CreatedSocket { lock, file: None }) => bind_locked(&path, lock),
        created => {
            prepare(&listener).map_err(passed_in_error)?;

            Ok(BoundSocket {
                listener,
                path,
                created,
            })
        }
    }
}

#[cfg(unix)]
fn path_of(listener: &UnixListener) -> io::Result<PathBuf> {
    let address = listener.local_addr()?;
    let path = address.as_pathname();

    path.map(Path::to_path_buf)
        .ok_or_else(|| io::Error::other("it has no path"))
}

#[cfg(unix)]
fn passed_in_error(error: io::Error) -> BindError {
    io_error(Path::new("the socket that was passed in"), error)
}

impl BoundSocket {
    /// Duplicates the socket for the next process. The drop then leaves the socket's file.
    #[cfg(unix)]
    pub(crate) fn leave_open(&mut self) -> io::Result<SocketDescriptors> {
        let descriptor = self.listener.as_fd().try_clone_to_owned()?;

        Ok(SocketDescriptors {
            descriptor,
            lock: self.created.take().map(|created| created.lock.into()),
        })
    }
}

impl BoundSocket {
    /// Makes the socket anew after its file was removed. Fails if another daemon has done so.
    pub(crate) fn rebind(mut self) -> Result<Self, BindError> {
        let path = self.path.clone();
        // The file at the path is not this socket's.
        let created = self.created.take();
        drop(self);

        match created {
            Some(CreatedSocket { lock, .. }) if is_at(&lock, &lock_path(&path)) => {
                bind_locked(&path, lock)
            }
            _ => bind(&path),
        }
    }

    /// For a socket that the daemon has created: notices that clients cannot find it any more. Must be called within the
    /// runtime.
    pub(crate) fn watch(&self) -> Option<SocketWatch> {
        let file = self.created.as_ref()?.file?;
        let folder = FolderWatch::new(&self.path);
        if let Err(error) = &folder {
            tracing::warn!(%error, "cannot notice that the socket is removed");
        }

        Some(SocketWatch {
            folder: folder.ok(),
            path: self.path.clone(),
            file,
        })
    }
}

impl SocketWatch {
    /// Returns once another file, or none, is at the socket's path.
    pub(crate) async fn removed(&self) {
        while socket_file(&self.path) == Some(self.file) {
            match &self.folder {
                Some(folder) if folder.changed().await.is_ok() => {}
                _ => std::future::pending().await,
            }
        }
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let created = self.created.as_ref().and_then(|created| created.file);
        if created.is_none() || created != socket_file(&self.path) {
            return;
        }

        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// The device and inode of the socket at this path.
#[cfg(unix)]
fn socket_file(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    let meta = std::fs::symlink_metadata(path)
        .ok()
        .filter(|meta| meta.file_type().is_socket())?;

    Some((meta.dev(), meta.ino()))
}

/// A daemon that ends gives the lock back soon, and one that serves keeps it.
fn lock(path: &Path) -> Result<File, BindError> {
    let lock_path = lock_path(path);
    let holder = Holder::this(path);
    let is_serving = |_: &Holder| connect::is_listening(path);

    match lock_file::lock(&lock_path, &holder, LOCK_PATIENCE, is_serving) {
        Ok(file) => Ok(file),
        Err(LockError::Held(holder)) => Err(BindError::Running {
            path: path.into(),
            process: holder
                .filter(Holder::is_of_this_boot)
                .map(|holder| holder.process),
        }),
        Err(LockError::Io(error)) => Err(io_error(&lock_path, error)),
    }
}

fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

#[cfg(unix)]
fn remove_stale(path: &Path) -> Result<(), BindError> {
    use interprocess::local_socket::traits::Stream as _;
    use std::os::unix::fs::FileTypeExt;

    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(path, error)),
    };

    if !meta.file_type().is_socket() {
        return Err(BindError::NotASocket(path.into()));
    }

    // A live rolekeeperd would hold the lock, but another program may listen here.
    let name = connect::name(path).map_err(|error| io_error(path, error))?;
    let options = ConnectOptions::new().name(name);
    match interprocess::local_socket::Stream::from_options(&options) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "replacing a stale socket");
            std::fs::remove_file(path).map_err(|error| io_error(path, error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error(path, error)),
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
    async fn folder_and_socket_are_private_and_drop_removes_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/run/socket");
        let socket = bind(&path).unwrap();
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        drop(socket);
        assert!(!path.exists());
    }

    fn private_dir() -> tempfile::TempDir {
        tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .unwrap()
    }

    #[tokio::test]
    async fn stale_socket_is_replaced() {
        let dir = private_dir();
        let path = dir.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err());
        let _socket = bind(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[tokio::test]
    async fn live_socket_is_not_replaced() {
        let dir = private_dir();
        let path = dir.path().join("socket");
        let foreign = UnixListener::bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(BindError::Foreign(_))));
        drop(foreign);
        let _socket = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(BindError::Running { .. })));
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[tokio::test]
    async fn other_file_at_the_path_is_not_touched() {
        let dir = private_dir();
        let path = dir.path().join("socket");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn folder_that_others_can_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            bind(&dir.path().join("socket")),
            Err(BindError::Folder(_))
        ));
    }
}
