//! The process at the other end of a Unix socket, as the kernel recorded it when the connection was made.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The most groups of a process on Linux.
#[cfg(target_os = "linux")]
const MAX_GROUPS: usize = 65_536;

/// Room for the groups of almost every process. Room for all would cost each connection 256 KiB.
#[cfg(target_os = "linux")]
const USUAL_GROUPS: usize = 64;

/// The process, user and group that connected. The process is 0 in another PID namespace.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "rustix has no pid of 0")]
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let size = size_of::<libc::ucred>();
    let mut length = libc::socklen_t::try_from(size).map_err(io::Error::other)?;
    let to = std::ptr::from_mut(&mut credentials).cast();
    let (fd, level) = (socket.as_raw_fd(), libc::SOL_SOCKET);
    // SAFETY: `credentials` and `length` outlive the call, and `length` is the size of `credentials`.
    let outcome = unsafe { libc::getsockopt(fd, level, libc::SO_PEERCRED, to, &raw mut length) };

    if outcome != 0 || length as usize != size {
        return Err(io::Error::last_os_error());
    }
    Ok(credentials)
}

/// A pidfd of the process that connected. Unlike its pid, it never refers to a later process (Linux 6.5).
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "rustix has no SO_PEERPIDFD")]
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> Option<OwnedFd> {
    const SO_PEERPIDFD: i32 = 77;
    let mut raw = -1_i32;
    let mut length = libc::socklen_t::try_from(size_of::<i32>()).ok()?;
    let to = std::ptr::from_mut(&mut raw).cast();
    let (fd, level) = (socket.as_raw_fd(), libc::SOL_SOCKET);
    // SAFETY: `raw` and `length` outlive the call, and `length` is the size of `raw`.
    let outcome = unsafe { libc::getsockopt(fd, level, SO_PEERPIDFD, to, &raw mut length) };
    // SAFETY: the kernel has just opened it for this process.
    (outcome == 0 && raw >= 0).then(|| unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The supplementary groups of the process that connected (Linux 4.13).
#[cfg(target_os = "linux")]
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> Vec<u32> {
    let few = read_peer_groups(socket, USUAL_GROUPS);
    few.or_else(|| read_peer_groups(socket, MAX_GROUPS))
        .unwrap_or_default()
}

/// None if the process has more groups than `capacity`.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "rustix has no SO_PEERGROUPS")]
fn read_peer_groups(socket: BorrowedFd<'_>, capacity: usize) -> Option<Vec<u32>> {
    let mut groups = vec![0_u32; capacity];
    let mut length = libc::socklen_t::try_from(groups.len() * size_of::<u32>()).ok()?;

    let to = groups.as_mut_ptr().cast();
    let (fd, level) = (socket.as_raw_fd(), libc::SOL_SOCKET);
    // SAFETY: `groups` and `length` outlive the call, and `length` is the size of `groups` in bytes.
    let outcome = unsafe { libc::getsockopt(fd, level, libc::SO_PEERGROUPS, to, &raw mut length) };
    if outcome != 0 {
        return None;
    }

    groups.truncate(length as usize / size_of::<u32>());
    groups.shrink_to_fit();

    Some(groups)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn peer_pidfd(_socket: BorrowedFd<'_>) -> Option<OwnedFd> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn peer_groups(_socket: BorrowedFd<'_>) -> Vec<u32> {
    Vec::new()
}

/// Whether the process of a pidfd still runs.
pub(crate) fn is_alive(process: &OwnedFd) -> bool {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // A pidfd becomes readable when its process exits.
    let mut exited = [PollFd::new(process, PollFlags::IN)];
    poll(&mut exited, Some(&now)).is_ok_and(|ready| ready == 0)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn pidfd_of_peer_reports_exit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        let (here, _) = listener.accept().unwrap();
        let me = peer_pidfd(here.as_fd()).unwrap();
        assert!(is_alive(&me));

        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert!(is_alive(&pidfd));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_alive(&pidfd));

        let no_socket = std::fs::File::open("/dev/null").unwrap();
        assert!(peer_pidfd(no_socket.as_fd()).is_none());
    }
}
