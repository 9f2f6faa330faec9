//! One connection on the local socket: it reads and writes frames within their deadlines.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::Stream;
use rolekeeper::frame::{self, FrameError, HEADER};
use rolekeeper::protocol::{Code, Failure, Reply, ReplyFrame, VERSION};
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::credentialed_stream::CredentialedStream;
use super::dispatch::respond;
use crate::access::peer::Peer;
use crate::serve::{ServerContext, Shutdown};

/// The time from the first byte of a frame to the last. The first byte of the first frame has as much, and so has a reply.
pub(super) const FRAME_TIMEOUT: Duration = Duration::from_secs(5);

/// The time between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// The expected size of a reply, in bytes. Only parts of a document are longer.
const REPLY_CAPACITY: usize = 2048;

/// Replies with an error. A peer that does not read gets none.
pub(super) fn refuse(connection: &OwnedFd, failure: Failure) {
    let reply = Reply::Error(failure);

    if let Ok(frame) = frame::encode_within(&ReplyFrame { v: VERSION, reply }, REPLY_CAPACITY) {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = send(connection, &frame, flags);
    }
}

/// Replies that the limit of connections is reached.
pub(super) fn refuse_busy(connection: &OwnedFd) {
    let failure = Failure::new(
        Code::Busy,
        "the daemon has reached its limit of connections",
        "retry in a moment",
    );
    refuse(connection, failure);
}

/// Serves a connection until the peer disconnects, a deadline passes, or the daemon stops.
pub(super) async fn serve(
    stream: Stream,
    peer: Peer,
    context: &Arc<ServerContext>,
) -> Result<(), FrameError> {
    let peer = Arc::new(peer);
    let mut stream =
        BufReader::with_capacity(512, CredentialedStream::new(stream, Arc::clone(&peer)));

    if peer.is_pinned() {
        peer.handle().pin();
    }

    let mut idle_timeout = FRAME_TIMEOUT;
    loop {
        let text = next(&mut stream, idle_timeout, &context.shutdown).await;
        idle_timeout = IDLE_TIMEOUT;

        match text {
            Ok(text) => {
                // Starts only now, so that peers without a request do not delay the inspection of others.
                peer.handle().inspection();
                respond(&mut stream, &text, &peer, context).await?;
            }
            Err(FrameError::Closed) => return Ok(()),
            Err(error @ FrameError::Io(_)) => return Err(error),
            Err(error) => {
                write(&mut stream, Reply::Error(bad_frame(&error))).await?;
                return Err(error);
            }
        }
    }
}

fn bad_frame(error: &FrameError) -> Failure {
    let code = if matches!(error, FrameError::TooLarge { .. }) {
        Code::FrameTooLarge
    } else {
        Code::BadRequest
    };

    Failure::new(
        code,
        error.to_string(),
        "use the rolekeeper command of the daemon's version",
    )
}

/// The next frame. When the shutdown starts, the socket receives no more, and the daemon reads what has arrived. The peer
/// so knows of each request whether it arrived.
pub(super) async fn next(
    stream: &mut BufReader<CredentialedStream>,
    idle_timeout: Duration,
    shutdown: &Shutdown,
) -> Result<Vec<u8>, FrameError> {
    let mut header = [0; HEADER];
    // A peer that is never idle is stopped here.
    if shutdown.has_started() {
        stream.get_ref().stop_receiving().map_err(FrameError::Io)?;
    }

    let first = tokio::select! {
        biased;
        first = timeout(idle_timeout, stream.read(&mut header)) => first,
        () = shutdown.started() => {
            stream.get_ref().stop_receiving().map_err(FrameError::Io)?;
            timeout(FRAME_TIMEOUT, stream.read(&mut header)).await
        }
    };

    let first = first.map_err(timed_out)?.map_err(FrameError::Io)?;
    if first == 0 {
        return Err(FrameError::Closed);
    }

    timeout(FRAME_TIMEOUT, rest(stream, header, first))
        .await
        .map_err(timed_out)?
}

/// The rest of a frame, of whose header `first` bytes are read.
pub(crate) async fn rest(
    stream: &mut (impl AsyncRead + Unpin),
    mut header: [u8; HEADER],
    first: usize,
) -> Result<Vec<u8>, FrameError> {
    let mut received = first;
    while let Some(missing) = header
        .get_mut(received..)
        .filter(|missing| !missing.is_empty())
    {
        match stream.read(missing).await.map_err(FrameError::Io)? {
            0 => {
                return Err(FrameError::Truncated {
                    got: received,
                    want: HEADER,
                });
            }
            length => received += length,
        }
    }

    let want = frame::length(header)?;
    let mut text = Vec::with_capacity(want.min(4096));
    let got = stream
        .take(want as u64)
        .read_to_end(&mut text)
        .await
        .map_err(FrameError::Io)?;

    if got < want {
        Err(FrameError::Truncated { got, want })
    } else {
        Ok(text)
    }
}

fn timed_out(_: tokio::time::error::Elapsed) -> FrameError {
    FrameError::Io(std::io::ErrorKind::TimedOut.into())
}

pub(super) async fn write(
    stream: &mut BufReader<CredentialedStream>,
    reply: Reply<'_>,
) -> Result<(), FrameError> {
    let capacity = if matches!(reply, Reply::Part(_)) {
        frame::MAX
    } else {
        REPLY_CAPACITY
    };

    let reply = ReplyFrame { v: VERSION, reply };
    let frame = Zeroizing::new(frame::encode_within(&reply, capacity)?);

    timeout(FRAME_TIMEOUT, stream.write_all(&frame))
        .await
        .map_err(timed_out)?
        .map_err(FrameError::Io)
}
