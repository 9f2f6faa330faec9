//! What each request on the local socket is answered with: one call of the broker each.

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::frame::FrameError;
use rolekeeper::protocol::{
    Code, Failure, Reply, Request, RequestFrame, SecretText, StatusPage, VERSION, Version,
};
use secrecy::SecretString;
use serde::Serialize;
use tokio::io::{AsyncReadExt, BufReader};
use zeroize::Zeroizing;

use super::connection::{FRAME_DEADLINE, next, write};
use super::credentialed_stream::CredentialedStream;
use crate::access::approvals;
use crate::access::peer::Peer;
use crate::access::policy::Policy;
use crate::credentials::{AccessError, Lease};
use crate::platform::random::unguessable;
use crate::revocation::subscriptions::Subscription;
use crate::serve::{ServerContext, Shutdown, error_map, http};

/// Parses one request, calls the broker, prints the reply.
pub(super) async fn answer(
    stream: &mut BufReader<CredentialedStream>,
    text: &[u8],
    peer: &Peer,
    desk: &Arc<ServerContext>,
) -> Result<(), FrameError> {
    let ServerContext { broker, stop, .. } = &**desk;
    let request = match parse(text) {
        Ok(request) => request,
        Err(failure) => return write(stream, Reply::Error(failure)).await,
    };
    if wants_proof(&request, peer, desk) {
        prove(stream, peer, stop).await?;
    }
    if may_take_a_person(&request, peer, desk).await {
        write(
            stream,
            Reply::AwaitingUser {
                seconds: approvals::PATIENCE.as_secs(),
            },
        )
        .await?;
    }
    let document = match request {
        Request::Lease { profile } => {
            let lease = until_last_call(stop, broker.lease(peer, &profile)).await;
            return lend(stream, lease, peer, &profile, desk).await;
        }
        Request::Watch { profile } => match broker.watch(peer, &profile) {
            Ok(watching) => return tell_changes(stream, watching, stop).await,
            Err(refusal) => Err(refusal),
        },
        Request::Status { after } => {
            return write(stream, Reply::Status(status(peer, after.as_deref(), desk))).await;
        }
        Request::ChallengeResponse { .. } => {
            return write(
                stream,
                Reply::Error(bad_request("nobody has asked for a proof")),
            )
            .await;
        }
        Request::Iam(call) => broker.iam(peer, call, stop.last_call()).await,
        Request::Explain { profile } => {
            json(until_last_call(stop, broker.explain(peer, &profile)).await)
        }
        Request::Audit {
            profile,
            since_seconds,
        } => {
            let audit = broker.audit(peer, &profile, Duration::from_secs(since_seconds));
            json(until_last_call(stop, audit).await)
        }
        Request::Refresh { profile } => {
            json(until_last_call(stop, broker.refresh_now(peer, &profile)).await)
        }
        Request::ReportRejected { profile } => {
            json(until_last_call(stop, broker.report_rejected(peer, &profile)).await)
        }
        Request::Endpoint { profile, kind } => {
            json(http::endpoint(desk, peer, &profile, kind).await)
        }
        Request::TokenSource { upstream } => json(broker.key_place(peer, upstream.as_deref())),
        Request::VerifyJournal => json(broker.verify_journal(peer).await),
        Request::Approvals => json(broker.approvals(peer)),
        Request::Approve { id, allow } => json(broker.approve(peer, id, allow).await),
        Request::Login {
            upstream,
            token,
            passphrase,
        } => {
            let (token, passphrase) = (hidden(token), passphrase.map(hidden));
            json(
                broker
                    .login(peer, upstream.as_deref(), token, passphrase)
                    .await,
            )
        }
        Request::Unlock {
            upstream,
            passphrase,
        } => json(
            broker
                .unlock(peer, upstream.as_deref(), passphrase.map(hidden))
                .await,
        ),
        Request::Rotate { upstream, old } => json(
            broker
                .rotate(peer, upstream.as_deref(), old.as_deref())
                .await,
        ),
        Request::Sessions { upstream } => {
            json(until_last_call(stop, broker.sessions(peer, upstream.as_deref())).await)
        }
        Request::Resume { profile } => json(broker.resume(peer, &profile).await),
        Request::Logout { profile, revoke } => {
            json(broker.logout(peer, profile.as_deref(), revoke).await)
        }
        Request::RevokeSession {
            upstream,
            session_id,
            reason,
        } => json(
            broker
                .revoke_session(peer, upstream.as_deref(), &session_id, reason.as_deref())
                .await,
        ),
    };
    match document {
        Err(refusal) => write(stream, Reply::Error(error_map::failure(&refusal))).await,
        Ok(document) => {
            for part in error_map::parts(&String::from_utf8_lossy(&document)) {
                write(stream, Reply::Part(part)).await?;
            }
            Ok(())
        }
    }
}

/// Credentials, or why there are none, which is kept.
async fn lend(
    stream: &mut BufReader<CredentialedStream>,
    lease: Result<Lease, AccessError>,
    peer: &Peer,
    profile: &str,
    desk: &ServerContext,
) -> Result<(), FrameError> {
    match lease {
        Ok(lease) => write(stream, Reply::Lease(error_map::lease(&lease))).await,
        Err(refusal) => {
            let failure = error_map::failure(&refusal);
            desk.broker
                .journal
                .refused(peer, profile, &failure, &desk.broker.clock.now());
            write(stream, Reply::Error(failure)).await
        }
    }
}

fn status(peer: &Peer, after: Option<&str>, desk: &ServerContext) -> StatusPage {
    let mut status = desk.broker.status(peer, after, desk.gauge.open());
    if let Some(protection) = status
        .daemon
        .protection
        .as_mut()
        .filter(|_| desk.lookout.is_gone())
    {
        protection.callers = "off: the lookout is gone; restart rolekeeperd".into();
    }
    status.daemon.endpoints = desk.endpoints.shown();
    status
}

/// Whether somebody may be asked first: who may use a profile, or, by a keyring, who may read it.
async fn may_take_a_person(request: &Request<'_>, peer: &Peer, desk: &ServerContext) -> bool {
    match for_credentials(request) {
        Some(profile) => desk.broker.will_ask(peer, profile).await,
        None => matches!(
            request,
            Request::Login { .. } | Request::Unlock { .. } | Request::Rotate { .. }
        ),
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
fn wants_proof(request: &Request<'_>, peer: &Peer, desk: &ServerContext) -> bool {
    let profile = match request {
        Request::Endpoint { profile, .. } => Some(&**profile),
        request => for_credentials(request),
    };
    let entry = profile.and_then(|profile| desk.broker.cache.find(profile));
    entry.is_some_and(|entry| Policy::wants_proof(peer, entry))
}

/// Has the peer say a word that nobody can know before it has been looked at.
async fn prove(
    stream: &mut BufReader<CredentialedStream>,
    peer: &Peer,
    stop: &Shutdown,
) -> Result<(), FrameError> {
    peer.trace().sight().seen().await;
    let nonce = unguessable().map_err(FrameError::Io)?;
    write(
        stream,
        Reply::Challenge {
            nonce: nonce.as_str().into(),
        },
    )
    .await?;
    let text = next(stream, FRAME_DEADLINE, stop).await?;
    if let Ok(Request::ChallengeResponse { nonce: answer }) = parse(&text)
        && answer == *nonce
    {
        peer.proved();
    }
    Ok(())
}

/// How things are with a profile, and again whenever they have changed, until the peer hangs up or has not read for a
/// while.
async fn tell_changes(
    stream: &mut BufReader<CredentialedStream>,
    mut watching: Subscription,
    stop: &Shutdown,
) -> Result<(), FrameError> {
    loop {
        write(stream, Reply::ProfileUpdate(watching.look())).await?;
        tokio::select! {
            () = watching.changed() => {}
            () = stop.last_call_to_ask_again() => {
                return write(stream, Reply::Error(error_map::failure(&AccessError::Stopping))).await;
            }
            // Nothing is to be said meanwhile: it has hung up, or does not know what it does.
            _ = stream.read_u8() => return Err(FrameError::Closed),
        }
    }
}

fn json(report: Result<impl Serialize, AccessError>) -> Result<Zeroizing<Vec<u8>>, AccessError> {
    // What the daemon reports has names for keys and no numbers but finite ones.
    Ok(serde_json::to_vec(&report?)
        .map_err(|_| AccessError::BrokeOff)?
        .into())
}

/// What is asked for, or the word that there is no time left for it.
async fn until_last_call<T>(
    stop: &Shutdown,
    answer: impl Future<Output = Result<T, AccessError>>,
) -> Result<T, AccessError> {
    tokio::select! {
        // What can be answered at once is.
        biased;
        answer = answer => answer,
        () = stop.last_call_to_ask_again() => Err(AccessError::Stopping),
    }
}

fn hidden(text: SecretText<'_>) -> SecretString {
    text.0.into_owned().into()
}

pub(crate) fn parse(text: &[u8]) -> Result<Request<'_>, Failure> {
    if let Ok(RequestFrame {
        v: VERSION,
        request,
    }) = serde_json::from_slice(text)
    {
        return Ok(request);
    }
    Err(match serde_json::from_slice::<Version>(text) {
        Ok(Version { v }) if v != VERSION => Failure::new(
            Code::UnsupportedVersion,
            format!(
                "this daemon speaks version {VERSION} of the protocol, the request is of version {v}"
            ),
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
