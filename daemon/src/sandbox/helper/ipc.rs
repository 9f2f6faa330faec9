//! Messages between the daemon and the processes of its own that it starts before it confines itself: each is whole, and may
//! have descriptors with it (unix(7), `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// The most descriptors that go with a message.
const MOST: usize = 2;

pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Starts this program for another purpose, with its environment or with none, and gives the way to it. It ends when nobody
/// is left on this side of its standard input, and nobody waits for it.
pub(crate) fn start(program: &Path, purpose: &str, has_environment: bool) -> io::Result<OwnedFd> {
    let (ours, theirs) = pair()?;
    let mut command = Command::new(program);
    command
        .arg(purpose)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null());
    if !has_environment {
        command.env_clear();
    }
    drop(command.spawn()?);
    Ok(ours)
}

pub(crate) fn send(
    socket: impl AsFd,
    text: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(
        socket,
        &[IoSlice::new(text)],
        &mut control,
        flags | SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// The next message in `text`, as far as it has room, and how long that is; nothing, if there will be none.
pub(crate) fn receive(socket: impl AsFd, text: &mut [u8]) -> Option<(usize, Vec<OwnedFd>)> {
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [IoSliceMut::new(text)];
        let length = match recvmsg(
            socket.as_fd(),
            slices,
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => continue,
            received => received.ok()?.bytes,
        };
        let rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        });
        return (length > 0).then(|| (length, rights.flatten().collect()));
    }
}
