//! One connection on the local socket: frames in, one broker call each, frames out.

use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::Stream;
use rolekeeper::frame::{self, FrameError, HEADER};
use rolekeeper::protocol::{Code, Failure, Hidden, Reply, ReplyFrame, Request, RequestFrame, VERSION, Version};
use secrecy::SecretString;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::line::Line;
use super::peer::Peer;
use super::{Desk, Stop, http, reply};
use crate::approvals;
use crate::broker::Refusal;
use crate::chance::unguessable;
use crate::policy::Policy;
use crate::watch::Watching;

/// From its first byte to its last, a frame may take this long; so may the first byte of the first frame, and a reply.
const FRAME_DEADLINE: Duration = Duration::from_secs(5);
/// How long a held connection may be silent.
const IDLE_DEADLINE: Duration = Duration::from_secs(300);

/// Tells a peer that there is no place for it.
pub(super) async fn refuse_busy(stream: Stream) {
    let failure = Failure::new(
        Code::Busy,
        "the daemon has as many connections as it may have",
        "again in a moment; rolekeeper status shows the number, and a program that holds many must close some",
    );
    // A peer that is gone needs no answer.
    let peer = Arc::new(Peer::new(0, None));
    let _ = write(&mut BufReader::with_capacity(1, Line::new(stream, peer)), Reply::Error(failure)).await;
}

/// Serves a connection until its end, its deadlines, or until the daemon stops.
pub(super) async fn serve(stream: Stream, peer: Peer, desk: &Arc<Desk>) -> Result<(), FrameError> {
    let peer = Arc::new(peer);
    let mut stream = BufReader::with_capacity(512, Line::new(stream, Arc::clone(&peer)));
    if let Err(denied) = desk.broker.policy.admit(&peer) {
        tracing::warn!(uid = peer.uid, pid = ?peer.pid, "refused: another user's process");
        let failure = reply::failure(&Refusal::Denied(denied));
        return write(&mut stream, Reply::Error(failure)).await;
    }
    // While its first request is on the way.
    peer.trace().sight();
    let mut silence = FRAME_DEADLINE;
    loop {
        let text = next(&mut stream, silence, &desk.stop).await;
        silence = IDLE_DEADLINE;
        match text {
            Ok(text) => answer(&mut stream, &text, &peer, desk).await?,
            Err(FrameError::Closed) => return Ok(()),
            Err(error @ FrameError::Io(_)) => return Err(error),
            Err(error) => {
                write(&mut stream, Reply::Error(bad_frame(&error))).await?;
                return Err(error);
            }
        }
    }
}

/// Parses one request, calls the broker, prints the reply.
async fn answer(stream: &mut BufReader<Line>, text: &[u8], peer: &Peer, desk: &Arc<Desk>) -> Result<(), FrameError> {
    let Desk { broker, stop, .. } = &**desk;
    let request = match parse(text) {
        Ok(request) => request,
        Err(failure) => return write(stream, Reply::Error(failure)).await,
    };
    let refused = |refusal| Reply::Error(reply::failure(&refusal));
    if wants_proof(&request, peer, desk) {
        prove(stream, peer, stop).await?;
    }
    if let Some(profile) = for_credentials(&request)
        && broker.will_ask(peer, profile).await
    {
        write(stream, Reply::Wait { seconds: approvals::PATIENCE.as_secs() }).await?;
    }
    if matches!(request, Request::Login { .. } | Request::Unlock { .. } | Request::Rotate { .. }) {
        // A keyring may ask a person, and the upstream is asked more than once.
        write(stream, Reply::Wait { seconds: approvals::PATIENCE.as_secs() }).await?;
    }
    match request {
        Request::Lease { profile } => match until_last_call(stop, broker.lease(peer, &profile)).await {
            Ok(lease) => write(stream, Reply::Lease(reply::lease(&lease))).await,
            Err(refusal) => {
                let failure = reply::failure(&refusal);
                broker.journal.refused(peer, &profile, &failure, &broker.clock.now());
                write(stream, Reply::Error(failure)).await
            }
        },
        Request::Watch { profile } => match broker.watch(peer, &profile) {
            Ok(watching) => tell_changes(stream, watching, stop).await,
            Err(refusal) => write(stream, refused(refusal)).await,
        },
        Request::Status { after } => {
            let mut status = broker.status(peer, after.as_deref(), desk.gauge.open());
            if let Some(protection) = status.daemon.protection.as_mut().filter(|_| desk.lookout.is_gone()) {
                protection.callers = "off: the lookout is gone; restart rolekeeperd".into();
            }
            status.daemon.endpoints = desk.endpoints.shown();
            write(stream, Reply::Status(status)).await
        }
        Request::Iam(call) => send(stream, broker.iam(peer, call, stop.last_call()).await).await,
        Request::Explain { profile } => {
            report(stream, until_last_call(stop, broker.explain(peer, &profile)).await).await
        }
        Request::Audit { profile, since_seconds } => {
            let back = Duration::from_secs(since_seconds);
            report(stream, until_last_call(stop, broker.audit(peer, &profile, back)).await).await
        }
        Request::Refresh { profile } => {
            report(stream, until_last_call(stop, broker.refresh_now(peer, &profile)).await).await
        }
        Request::ReportRejected { profile } => {
            report(stream, until_last_call(stop, broker.report_rejected(peer, &profile)).await).await
        }
        Request::Endpoint { profile, kind } => report(stream, http::endpoint(desk, peer, &profile, kind).await).await,
        Request::KeyPlace { upstream } => report(stream, broker.key_place(peer, upstream.as_deref())).await,
        Request::VerifyJournal => report(stream, broker.verify_journal(peer).await).await,
        Request::Approvals => report(stream, broker.approvals(peer)).await,
        Request::Approve { id, yes } => report(stream, broker.approve(peer, id, yes).await).await,
        Request::Proof { .. } => write(stream, Reply::Error(bad_request("nobody has asked for a proof"))).await,
        Request::Login { upstream, token, passphrase } => {
            let (token, passphrase) = (hidden(token), passphrase.map(hidden));
            report(stream, broker.login(peer, upstream.as_deref(), token, passphrase).await).await
        }
        Request::Unlock { upstream, passphrase } => {
            report(stream, broker.unlock(peer, upstream.as_deref(), passphrase.map(hidden)).await).await
        }
        Request::Rotate { upstream, old } => {
            report(stream, broker.rotate(peer, upstream.as_deref(), old.as_deref()).await).await
        }
        Request::Sessions { upstream } => {
            report(stream, until_last_call(stop, broker.sessions(peer, upstream.as_deref())).await).await
        }
        Request::Resume { profile } => report(stream, broker.resume(peer, &profile).await).await,
        Request::Logout { profile, revoke } => {
            report(stream, broker.logout(peer, profile.as_deref(), revoke).await).await
        }
        Request::RevokeSession { upstream, session_id, reason } => {
            let revoked = broker.revoke_session(peer, upstream.as_deref(), &session_id, reason.as_deref());
            report(stream, revoked.await).await
        }
    }
}

/// The profile whose credentials a request is served with.
fn for_credentials<'a>(request: &'a Request<'_>) -> Option<&'a str> {
    match request {
        Request::Lease { profile } => Some(profile),
        Request::Iam(call) => call.profile.as_deref(),
        _ => None,
    }
}

/// Whether a request is for credentials that some programs only may have.
fn wants_proof(request: &Request<'_>, peer: &Peer, desk: &Desk) -> bool {
    let profile = match request {
        Request::Endpoint { profile, .. } => Some(&**profile),
        request => for_credentials(request),
    };
    let slot = profile.and_then(|profile| desk.broker.cache.find(profile));
    slot.is_some_and(|slot| Policy::wants_proof(peer, slot))
}

/// Has the peer say a word that nobody can know before it has been looked at.
async fn prove(stream: &mut BufReader<Line>, peer: &Peer, stop: &Stop) -> Result<(), FrameError> {
    peer.trace().sight().seen().await;
    let word = unguessable().map_err(FrameError::Io)?;
    write(stream, Reply::Prove { word: word.as_str().into() }).await?;
    let text = next(stream, FRAME_DEADLINE, stop).await?;
    if let Ok(Request::Proof { word: said }) = parse(&text)
        && said == *word
    {
        peer.proved();
    }
    Ok(())
}

/// How things are with a profile, and again whenever they have changed, until the peer hangs up or has not read for a
/// while.
async fn tell_changes(stream: &mut BufReader<Line>, mut watching: Watching, stop: &Stop) -> Result<(), FrameError> {
    loop {
        write(stream, Reply::Watched(watching.look())).await?;
        tokio::select! {
            () = watching.changed() => {}
            () = stop.last_call_to_ask_again() => {
                return write(stream, Reply::Error(reply::failure(&Refusal::Stopping))).await;
            }
            // Nothing is to be said meanwhile: it has hung up, or does not know what it does.
            _ = stream.read_u8() => return Err(FrameError::Closed),
        }
    }
}

async fn report(stream: &mut BufReader<Line>, report: Result<impl Serialize, Refusal>) -> Result<(), FrameError> {
    match report {
        Err(refusal) => send(stream, Err(refusal)).await,
        Ok(report) => {
            let text = serde_json::to_vec(&report).map_err(FrameError::Json)?;
            send(stream, Ok(text.into())).await
        }
    }
}

/// A document in parts, or why there is none.
async fn send(stream: &mut BufReader<Line>, document: Result<Zeroizing<Vec<u8>>, Refusal>) -> Result<(), FrameError> {
    match document {
        Err(refusal) => write(stream, Reply::Error(reply::failure(&refusal))).await,
        Ok(document) => {
            for part in reply::parts(&String::from_utf8_lossy(&document)) {
                write(stream, Reply::Part(part)).await?;
            }
            Ok(())
        }
    }
}

/// What is asked for, or the word that there is no time left for it.
async fn until_last_call<T>(stop: &Stop, answer: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    tokio::select! {
        // What can be answered at once is.
        biased;
        answer = answer => answer,
        () = stop.last_call_to_ask_again() => Err(Refusal::Stopping),
    }
}

fn hidden(text: Hidden<'_>) -> SecretString {
    text.0.into_owned().into()
}

pub(crate) fn parse(text: &[u8]) -> Result<Request<'_>, Failure> {
    if let Ok(RequestFrame { v: VERSION, request }) = serde_json::from_slice(text) {
        return Ok(request);
    }
    Err(match serde_json::from_slice::<Version>(text) {
        Ok(Version { v }) if v != VERSION => Failure::new(
            Code::UnsupportedVersion,
            format!("this daemon speaks version {VERSION} of the protocol, the request is of version {v}"),
            "a rolekeeper and a rolekeeperd of the same version; restart the daemon after an upgrade",
        ),
        Ok(_) => bad_request("it has a version, but no request that this daemon knows"),
        Err(_) => bad_request("it is not a JSON object with a version"),
    })
}

fn bad_request(why: &str) -> Failure {
    Failure::new(
        Code::BadRequest,
        format!("the request cannot be understood: {why}"),
        "rolekeeper, instead of writing to the socket, or a client of this daemon's version",
    )
}

fn bad_frame(error: &FrameError) -> Failure {
    let code = if matches!(error, FrameError::TooLarge { .. }) { Code::FrameTooLarge } else { Code::BadRequest };
    Failure::new(code, error.to_string(), "a client of this daemon's version")
}

/// The next frame. Once the daemon is told to stop, the peer can send no more, and what it has sent is still read: it
/// knows of each request whether it arrived.
async fn next(stream: &mut BufReader<Line>, silence: Duration, stop: &Stop) -> Result<Vec<u8>, FrameError> {
    let mut header = [0; HEADER];
    // A peer that is never silent is stopped, too.
    if stop.was_told() {
        stream.get_ref().take_no_more().map_err(FrameError::Io)?;
    }
    let first = tokio::select! {
        biased;
        first = timeout(silence, stream.read(&mut header)) => first,
        () = stop.is_told() => {
            stream.get_ref().take_no_more().map_err(FrameError::Io)?;
            timeout(FRAME_DEADLINE, stream.read(&mut header)).await
        }
    };
    let first = first.map_err(late)?.map_err(FrameError::Io)?;
    if first == 0 {
        return Err(FrameError::Closed);
    }
    timeout(FRAME_DEADLINE, rest(stream, header, first)).await.map_err(late)?
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
    let got = stream.take(want as u64).read_to_end(&mut text).await.map_err(FrameError::Io)?;
    if got < want { Err(FrameError::Truncated { got, want }) } else { Ok(text) }
}

fn late(_: tokio::time::error::Elapsed) -> FrameError {
    FrameError::Io(std::io::ErrorKind::TimedOut.into())
}

async fn write(stream: &mut BufReader<Line>, reply: Reply<'_>) -> Result<(), FrameError> {
    let expected = if matches!(reply, Reply::Part(_)) { frame::MAX } else { 2048 };
    let frame = Zeroizing::new(frame::encode_within(&ReplyFrame { v: VERSION, reply }, expected)?);
    timeout(FRAME_DEADLINE, stream.write_all(&frame)).await.map_err(late)?.map_err(FrameError::Io)
}
