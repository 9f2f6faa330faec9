//! A stream that checks the sender of every message: the kernel adds the sender's credentials (unix(7), `SO_PASSCRED`). A
//! connection that was passed on or inherited is so detected.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use interprocess::local_socket::tokio::Stream;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::access::peer::Peer;

#[derive(Debug)]
pub(super) struct CredentialedStream {
    stream: Stream,
    peer: Arc<Peer>,
}

impl CredentialedStream {
    pub(super) fn new(stream: Stream, peer: Arc<Peer>) -> Self {
        Self { stream, peer }
    }

    /// Returns once the peer sends no more, whether or not all of it has been read.
    #[cfg(unix)]
    pub(super) async fn closed_by_peer(&self) {
        let Stream::UdSocket(stream) = &self.stream;
        // A closed stream counts as ready for priority data, of which a Unix socket has none.
        if stream.inner().ready(Interest::PRIORITY).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Receives no more. What has arrived can still be read.
    #[cfg(unix)]
    pub(super) fn stop_receiving(&self) -> io::Result<()> {
        use std::os::fd::AsFd;

        let Stream::UdSocket(stream) = &self.stream;
        Ok(rustix::net::shutdown(
            stream.as_fd(),
            rustix::net::Shutdown::Read,
        )?)
    }
}

#[cfg(target_os = "linux")]
impl AsyncRead for CredentialedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        use std::os::fd::AsFd;

        let Stream::UdSocket(stream) = &self.stream;
        let socket = stream.inner();

        loop {
            ready!(socket.poll_read_ready(context))?;

            let received = socket.try_io(Interest::READABLE, || {
                receive(socket.as_fd(), buffer.initialize_unfilled())
            });
            match received {
                Ok((length, sender)) => {
                    if let Some((uid, pid)) = sender.filter(|_| length > 0)
                        && !self.peer.check_sender(uid, pid)
                    {
                        return Poll::Ready(Err(io::Error::other(
                            "another user's process uses this connection",
                        )));
                    }

                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Receives a message or a part of one. Returns its length, and its sender's user and process. The kernel does not merge
/// messages of different senders.
#[cfg(target_os = "linux")]
fn receive(
    socket: std::os::fd::BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<(u32, i32)>)> {
    use std::io::IoSliceMut;
    use std::mem::MaybeUninit;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    // Passed descriptors do not fit this buffer, so the kernel closes them.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;

    let sender = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => {
            Some((sender.uid.as_raw(), sender.pid.as_raw_pid()))
        }
        _ => None,
    });

    Ok((received.bytes, sender))
}

#[cfg(not(target_os = "linux"))]
impl AsyncRead for CredentialedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for CredentialedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
