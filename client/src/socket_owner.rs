//! Who can create the daemon's socket, and who listens at it: a client sends nothing to another user.

#[cfg(unix)]
use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(unix)]
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use interprocess::local_socket::Stream;

#[cfg(unix)]
use crate::connect::folder_of;
#[cfg(unix)]
use crate::places;
#[cfg(unix)]
use crate::protocol::Code;
use crate::protocol::Failure;
#[cfg(unix)]
use crate::shell::quoted_path;

/// Checks that only this user or root can create a socket in its folder. The folder must belong to this user and have mode
/// 700, or be one of a system-wide daemon ([`is_of_machine`]). A missing folder passes.
///
/// # Errors
/// [`Code::NotAllowed`] if another user could have created the socket.
#[cfg(unix)]
pub fn check_folder(socket: &Path) -> Result<(), Failure> {
    let folder = folder_of(socket);
    let meta = match std::fs::symlink_metadata(folder) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(unsafe_folder(
                folder,
                &format!("cannot be read: {error}"),
                OTHER_PATH,
            ));
        }
    };

    let me = rustix::process::geteuid().as_raw();
    if !meta.is_dir() {
        return Err(unsafe_folder(folder, "is not a folder", OTHER_PATH));
    }

    if is_of_machine(socket) {
        return Ok(());
    }

    if meta.uid() != me {
        let reason = format!("belongs to user {}, not to you (user {me})", meta.uid());
        return Err(unsafe_folder(folder, &reason, OTHER_PATH));
    }

    if meta.mode() & 0o077 != 0 {
        let reason = format!("is open to others (mode {:04o})", meta.mode() & 0o7777);
        // Another folder may be shared on purpose.
        let hint = match places::is_default_folder(folder) {
            true => &format!("run chmod 700 {}", quoted_path(folder)),
            false => OTHER_PATH,
        };
        return Err(unsafe_folder(folder, &reason, hint));
    }

    Ok(())
}

#[cfg(unix)]
fn unsafe_folder(folder: &Path, reason: &str, hint: &str) -> Failure {
    let message = format!("the socket's folder {} {reason}", folder.display());
    Failure::new(Code::NotAllowed, message, hint)
}

/// The socket of a system-wide daemon, which serves several users.
pub const OF_MACHINE: &str = "/run/rolekeeper/socket";

/// Whether the socket belongs to a system-wide daemon: its folder is root's, and other users can enter but not write it.
/// For root only [`OF_MACHINE`] does, because its own folders may have such a mode by mistake.
pub fn is_of_machine(socket: &Path) -> bool {
    #[cfg(unix)]
    {
        let is_roots = |folder: std::fs::Metadata| {
            folder.is_dir()
                && folder.uid() == 0
                && folder.mode() & 0o022 == 0
                && folder.mode() & 0o055 != 0
        };
        let is_meant = socket == Path::new(OF_MACHINE) || !rustix::process::geteuid().is_root();
        is_meant && std::fs::symlink_metadata(folder_of(socket)).is_ok_and(is_roots)
    }

    #[cfg(not(unix))]
    {
        let _ = socket;
        false
    }
}

/// What to do about a folder that cannot have the socket.
pub const OTHER_PATH: &str =
    "set ROLEKEEPER_SOCKET or --socket to a path in a folder of your own with mode 700";

/// Checks that the process that listens at the socket is this user's or root's. At the socket of a system-wide daemon, it
/// may also be that of the socket's owner. Under socket activation, it is the service manager.
///
/// # Errors
/// [`Code::NotAllowed`] if it is another user's.
#[cfg(unix)]
pub fn check_listener(stream: &Stream, socket: &Path) -> Result<(), Failure> {
    let me = rustix::process::geteuid().as_raw();
    let shown = socket.display();
    let Stream::UdSocket(connection) = stream;
    let listener = peer_user(connection.as_fd()).map_err(|error| {
        Failure::new(
            Code::NotAllowed,
            format!("cannot find out who listens at the socket {shown}: {error}"),
            "restart rolekeeperd, and run the command again",
        )
    })?;

    let is_owner = || {
        socket
            .symlink_metadata()
            .is_ok_and(|meta| meta.uid() == listener)
    };
    if listener == me || listener == 0 || (is_of_machine(socket) && is_owner()) {
        return Ok(());
    }

    Err(Failure::new(
        Code::NotAllowed,
        format!(
            "the program that listens at the socket {shown} belongs to user {listener}, not to you (user {me})"
        ),
        format!("remove {shown}, or set ROLEKEEPER_SOCKET or --socket to your own daemon's socket"),
    ))
}

/// The user of the process that called `listen`. The number of that process does not matter: it is 0 if the process is in
/// another PID namespace.
#[cfg(unix)]
fn peer_user(socket: BorrowedFd<'_>) -> nix::Result<u32> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
        getsockopt(&socket, PeerCredentials).map(|peer| peer.uid())
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        nix::unistd::getpeereid(socket).map(|(user, _)| user.as_raw())
    }
}

/// Named pipes have no folder. The access list of the pipe protects it.
#[cfg(not(unix))]
pub fn check_folder(_socket: &Path) -> Result<(), Failure> {
    Ok(())
}

/// A named pipe shows no owner. Its access list decides who can create it.
#[cfg(not(unix))]
pub fn check_listener(_stream: &Stream, _socket: &Path) -> Result<(), Failure> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::open;

    #[test]
    fn folder_open_to_others_is_rejected() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        for (mode, refused) in [(0o755, true), (0o710, true), (0o701, true), (0o700, false)] {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check_folder(&socket).is_err(), refused, "{mode:o}");
        }
        assert!(open(&socket).unwrap().is_none());
        assert!(open(&dir.path().join("missing/socket")).unwrap().is_none());
    }

    #[test]
    fn symlink_to_a_private_folder_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
        assert_eq!(
            check_folder(&dir.path().join("link/socket"))
                .unwrap_err()
                .code,
            Code::NotAllowed
        );
    }
}
