//! The protocol between the daemon and its helper processes: one JSON frame a message over a `SOCK_SEQPACKET` socket pair,
//! with descriptors beside it where the work needs them (unix(7), `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest frame, in bytes: the token commands of all upstreams, or the paths of one inspection.
pub(super) const MAX_FRAME: usize = 128 * 1024;

/// The most descriptors that a frame carries.
const MAX_DESCRIPTORS: usize = 1;

/// A request or its response. Both have the same id.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Frame<T> {
    pub(super) id: u64,
    /// Whom a request is for. The helper serves several users in turn.
    #[serde(default)]
    pub(super) uid: u32,
    pub(super) body: T,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Request<W> {
    /// Start this work.
    Start(W),
    /// Complete the work of this id.
    Finish,
    /// Drop the work of this id.
    Cancel,
}

pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let ends = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok(ends)
}

/// Fails with `InvalidInput` for a frame longer than [`MAX_FRAME`].
pub(super) fn send(
    socket: impl AsFd,
    frame: &Frame<impl Serialize>,
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    send_text(socket, &encode(frame)?, descriptors, flags)
}

/// The text of a frame. Fails with `InvalidInput` for one longer than [`MAX_FRAME`].
pub(super) fn encode(frame: &Frame<impl Serialize>) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(frame)?;
    if text.len() > MAX_FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a frame of {} bytes is longer than {MAX_FRAME}", text.len()),
        ));
    }

    Ok(text)
}

pub(super) fn send_text(
    socket: impl AsFd,
    text: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }

    let slices = [IoSlice::new(text)];
    sendmsg(socket, &slices, &mut control, flags | SendFlags::NOSIGNAL)?;

    Ok(())
}

/// The next frame that can be read, in `buffer` of [`MAX_FRAME`] bytes. None if the other end is closed, or, with
/// `DONTWAIT`, if no frame is waiting.
pub(super) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> Option<(Frame<T>, Vec<OwnedFd>)> {
    loop {
        let (length, descriptors) = match receive_message(socket.as_fd(), buffer, flags) {
            Err(Errno::INTR) => continue,
            received => received.ok()?,
        };
        if length == 0 {
            return None;
        }

        let text = buffer.get(..length)?;
        if let Ok(frame) = serde_json::from_slice(text) {
            return Some((frame, descriptors));
        }
    }
}

fn receive_message(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(buffer)];
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(socket, slices, &mut control, flags)?;

    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }

    Ok((message.bytes, descriptors))
}
