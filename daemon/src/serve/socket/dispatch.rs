//! What each request on the local socket is answered with: one call of the broker each.

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::frame::FrameError;
use rolekeeper::protocol::{
    Code, Endpoint, EndpointKind, Failure, IamCall, Reply, Request, RequestFrame, SecretText,
    StatusPage, VERSION, Version,
};
use secrecy::SecretString;
use serde::Serialize;
use tokio::io::{AsyncReadExt, BufReader};
use zeroize::Zeroizing;

use super::connection::write;
use super::credentialed_stream::CredentialedStream;
use super::dialogue::Dialogue;
use crate::access::approvals::PATIENCE;
use crate::access::peer::Peer;
use crate::access::{AccessError, Interrupted};
use crate::credentials::{Lease, RequestError};
use crate::iam::route_of;
use crate::revocation::subscriptions::Subscription;
use crate::serve::{ServerContext, Shutdown, error_map, http};

/// Parses one request, calls a service, writes the reply.
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
    let access = &broker.access;
    let mut dialogue = Dialogue {
        stream: &mut *stream,
        stop,
    };

    let document = match request {
        Request::Lease { profile } => match lease(&mut dialogue, peer, &profile, desk).await {
            Ok(lease) => {
                return write(stream, Reply::Lease(error_map::lease(&lease))).await;
            }
            Err(error) => Err(error),
        },
        Request::Watch { profile } => match broker.watch(peer, &profile).await {
            Ok(watching) => return tell_changes(stream, watching, stop).await,
            Err(error) => Err(error),
        },
        Request::Status { after } => {
            return write(stream, Reply::Status(status(peer, after.as_deref(), desk))).await;
        }
        Request::ChallengeResponse { .. } => {
            return write(stream, Reply::Error(bad_request("no challenge was sent"))).await;
        }
        Request::Iam(call) => iam(&mut dialogue, peer, call, desk).await,
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
            json(endpoint(&mut dialogue, peer, &profile, kind, desk).await)
        }
        Request::TokenSource { upstream } => json(broker.key_place(peer, upstream.as_deref())),
        Request::VerifyJournal => json(broker.verify_journal(peer).await),
        Request::Approvals => json(access.list_approvals(peer).map_err(Into::into)),
        Request::Approve { id, allow } => {
            json(access.approve(peer, id, allow).await.map_err(Into::into))
        }
        Request::Login {
            upstream,
            token,
            passphrase,
        } => {
            dialogue.announce_wait(PATIENCE).await?;
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
        } => {
            dialogue.announce_wait(PATIENCE).await?;
            let passphrase = passphrase.map(hidden);
            json(broker.unlock(peer, upstream.as_deref(), passphrase).await)
        }
        Request::Rotate { upstream, old } => {
            dialogue.announce_wait(PATIENCE).await?;
            json(
                broker
                    .rotate(peer, upstream.as_deref(), old.as_deref())
                    .await,
            )
        }
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
        Err(RequestError::Access(AccessError::Interrupted(Interrupted::Disconnected))) => {
            Err(FrameError::Closed)
        }
        Err(error) => write(stream, Reply::Error(error_map::failure(&error))).await,
        Ok(document) => {
            for part in error_map::parts(&String::from_utf8_lossy(&document)) {
                write(stream, Reply::Part(part)).await?;
            }
            Ok(())
        }
    }
}

async fn lease(
    dialogue: &mut Dialogue<'_>,
    peer: &Peer,
    profile: &str,
    desk: &ServerContext,
) -> Result<Lease, RequestError> {
    let ServerContext { broker, stop, .. } = desk;
    let grant = broker
        .access
        .authorize_lease(peer, profile, dialogue)
        .await?;
    until_last_call(stop, broker.lease(peer, &grant)).await
}

async fn iam(
    dialogue: &mut Dialogue<'_>,
    peer: &Peer,
    call: IamCall<'_>,
    desk: &ServerContext,
) -> Result<Zeroizing<Vec<u8>>, RequestError> {
    let ServerContext { broker, stop, .. } = desk;
    let route = route_of(&call.method)?;
    let grant = match &call.profile {
        Some(profile) => Some(
            broker
                .access
                .authorize_lease(peer, profile, dialogue)
                .await?,
        ),
        None => None,
    };
    broker.iam(peer, route, call, grant, stop.last_call()).await
}

async fn endpoint(
    dialogue: &mut Dialogue<'_>,
    peer: &Peer,
    profile: &str,
    kind: EndpointKind,
    desk: &Arc<ServerContext>,
) -> Result<Endpoint, RequestError> {
    let access = &desk.broker.access;
    let grant = access.authorize_endpoint(peer, profile, dialogue).await?;
    http::endpoint(desk, &grant, kind)
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
                return write(stream, Reply::Error(error_map::failure(&RequestError::Stopping))).await;
            }
            // Nothing is to be said meanwhile: it has hung up, or does not know what it does.
            _ = stream.read_u8() => return Err(FrameError::Closed),
        }
    }
}

fn json(report: Result<impl Serialize, RequestError>) -> Result<Zeroizing<Vec<u8>>, RequestError> {
    // What the daemon reports has names for keys and no numbers but finite ones.
    Ok(serde_json::to_vec(&report?)
        .map_err(|_| RequestError::BrokeOff)?
        .into())
}

/// What is asked for, or the word that there is no time left for it.
async fn until_last_call<T>(
    stop: &Shutdown,
    answer: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, RequestError> {
    tokio::select! {
        // What can be answered at once is.
        biased;
        answer = answer => answer,
        () = stop.last_call_to_ask_again() => Err(RequestError::Stopping),
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
