//! Descriptors that this process was started with.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use tokio::io::unix::AsyncFd;

/// Takes over a descriptor that the process before this one, or the service manager, passed.
#[allow(unsafe_code, reason = "a number becomes an owned descriptor")]
pub(crate) fn adopt(raw: i32) -> io::Result<OwnedFd> {
    if raw <= 2 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("descriptor {raw} is a standard stream"),
        ));
    }

    // SAFETY: it is only queried, which fails if it is not open.
    rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(raw) })?;
    // SAFETY: it is open, and was passed to this process to own. This process has opened no other descriptor yet.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Registers a descriptor with the runtime. Must be called within it.
#[allow(
    unsafe_code,
    reason = "a caller promises that the descriptor stays the same"
)]
pub(crate) fn register(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor is the same until it is dropped, and it is dropped with its registration.
    unsafe { AsyncFd::register(descriptor) }.map_err(Into::into)
}

/// Closes the descriptors that a parent left open, such as the pipe of a build: its reader would wait until the daemon exits.
/// Must be called before this process opens descriptors of its own.
#[allow(
    unsafe_code,
    reason = "closing a descriptor by its number has no safe form"
)]
pub(super) fn close_inherited(keep: &[i32]) {
    let listed: Vec<i32> = std::fs::read_dir("/dev/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in listed {
        if descriptor > 2 && !keep.contains(&descriptor) {
            // SAFETY: only this thread runs, and nothing in this process owns a descriptor above 2 yet. The one of the
            // listing is closed already; closing its number again fails without effect.
            unsafe { rustix::io::close(descriptor) };
        }
    }
}
