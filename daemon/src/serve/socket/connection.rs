//! One connection on the local socket: frames in, frames out, and how long they may take.

use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::Stream;
use rolekeeper::frame::{self, FrameError, HEADER};
use rolekeeper::protocol::{Code, Failure, Reply, ReplyFrame, VERSION};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::credentialed_stream::CredentialedStream;
use super::dispatch::answer;
use crate::access::peer::Peer;
use crate::serve::{ServerContext, Shutdown};

/// From its first byte to its last, a frame may take this long; so may the first byte of the first frame, and a reply.
pub(super) const FRAME_DEADLINE: Duration = Duration::from_secs(5);
/// How long a held connection may be silent.
const IDLE_DEADLINE: Duration = Duration::from_secs(300);

/// Tells a peer that there is no place for it.
pub(crate) async fn refuse_busy(stream: Stream) {
    let failure = Failure::new(
        Code::Busy,
        "the daemon has as many connections as it may have",
        "again in a moment; rolekeeper status shows the number, and a program that holds many must close some",
    );
    // A peer that is gone needs no answer.
    let peer = Arc::new(Peer::new(0, None));
    let _ = write(
        &mut BufReader::with_capacity(1, CredentialedStream::new(stream, peer)),
        Reply::Error(failure),
    )
    .await;
}

/// Serves a connection until its end, its deadlines, or until the daemon stops.
pub(crate) async fn serve(
    stream: Stream,
    peer: Peer,
    context: &Arc<ServerContext>,
) -> Result<(), FrameError> {
    let peer = Arc::new(peer);
    let mut stream =
        BufReader::with_capacity(512, CredentialedStream::new(stream, Arc::clone(&peer)));
    if let Err(error) = context.services.access.authorize_connection(&peer) {
        tracing::warn!(uid = peer.uid, pid = ?peer.pid, "refused: another user's process");
        return write(&mut stream, Reply::Error((&error).into())).await;
    }
    if peer.is_pinned() {
        peer.handle().pin();
    }

    let mut silence = FRAME_DEADLINE;
    loop {
        let text = next(&mut stream, silence, &context.shutdown).await;
        silence = IDLE_DEADLINE;
        match text {
            Ok(text) => {
                // Started only now, so that peers that ask for nothing do not delay the inspection of others.
                peer.handle().inspection();
                answer(&mut stream, &text, &peer, context).await?;
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
    Failure::new(code, error.to_string(), "a client of this daemon's version")
}

/// The next frame. Once the daemon is told to stop, the peer can send no more, and what it has sent is still read: it
/// knows of each request whether it arrived.
pub(super) async fn next(
    stream: &mut BufReader<CredentialedStream>,
    silence: Duration,
    shutdown: &Shutdown,
) -> Result<Vec<u8>, FrameError> {
    let mut header = [0; HEADER];
    // A peer that is never silent is stopped, too.
    if shutdown.has_started() {
        stream.get_ref().take_no_more().map_err(FrameError::Io)?;
    }
    let first = tokio::select! {
        biased;
        first = timeout(silence, stream.read(&mut header)) => first,
        () = shutdown.started() => {
            stream.get_ref().take_no_more().map_err(FrameError::Io)?;
            timeout(FRAME_DEADLINE, stream.read(&mut header)).await
        }
    };
    let first = first.map_err(late)?.map_err(FrameError::Io)?;
    if first == 0 {
        return Err(FrameError::Closed);
    }
    timeout(FRAME_DEADLINE, rest(stream, header, first))
        .await
        .map_err(late)?
}

pub(crate) async fn rest(
    stream: &mut (impl AsyncRead + Unpin),
    mut header: [u8; HEADER],
    first: usize,
) -> Result<Vec<u8>, FrameError> {
    let mut got = first;
    while let Some(missing) = header.get_mut(got..).filter(|missing| !missing.is_empty()) {
        match stream.read(missing).await.map_err(FrameError::Io)? {
            0 => return Err(FrameError::Truncated { got, want: HEADER }),
            more => got += more,
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

fn late(_: tokio::time::error::Elapsed) -> FrameError {
    FrameError::Io(std::io::ErrorKind::TimedOut.into())
}

pub(super) async fn write(
    stream: &mut BufReader<CredentialedStream>,
    reply: Reply<'_>,
) -> Result<(), FrameError> {
    let expected = if matches!(reply, Reply::Part(_)) {
        frame::MAX
    } else {
        2048
    };
    let frame = Zeroizing::new(frame::encode_within(
        &ReplyFrame { v: VERSION, reply },
        expected,
    )?);
    timeout(FRAME_DEADLINE, stream.write_all(&frame))
        .await
        .map_err(late)?
        .map_err(FrameError::Io)
}
