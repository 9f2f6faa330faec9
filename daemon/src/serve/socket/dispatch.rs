//! The reply to each request on the local socket: authorize, then call one service.

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::frame::FrameError;
use rolekeeper::protocol::{
    Code, EndpointKind, Failure, Reply, Request, RequestFrame, SecretText, StatusPage, VERSION,
    Version,
};
use secrecy::SecretString;
use serde::Serialize;
use tokio::io::{AsyncReadExt, BufReader};
use zeroize::Zeroizing;

use super::connection::write;
use super::credentialed_stream::CredentialedStream;
use super::dialogue::Dialogue;
use super::journalled_command::journalled_command;
use crate::access::approvals::PATIENCE;
use crate::access::peer::Peer;
use crate::access::{AccessError, Interrupted, Question};
use crate::error::RequestError;
use crate::explain::explain;
use crate::report::profile_update;
use crate::revocation::subscriptions::Subscription;
use crate::serve::{ServerContext, Shutdown, encode, http};

/// Parses one request, calls a service, writes the reply.
pub(super) async fn respond(
    stream: &mut BufReader<CredentialedStream>,
    text: &[u8],
    peer: &Peer,
    context: &Arc<ServerContext>,
) -> Result<(), FrameError> {
    let is_owner = context.services.access.is_owner(peer);
    let parsed = parse(text).and_then(|frame| {
        context
            .launch
            .check_config(is_owner, frame.config.as_ref())?;
        Ok(frame.request)
    });
    let request = match parsed {
        Ok(request) => request,
        Err(failure) => return write(stream, Reply::Error(failure)).await,
    };

    let mut dialogue = Dialogue {
        stream: &mut *stream,
        shutdown: &context.shutdown,
    };

    let report = match request {
        Request::Lease { profile } => {
            let leased = context.services.lease(peer, &profile, &mut dialogue);
            match until_deadline(&context.shutdown, leased).await {
                Ok(lease) => {
                    if !peer.handle().inspection().wait_before_lease().await {
                        let inspector = Arc::clone(&context.peer_inspector);
                        tokio::spawn(async move { inspector.responds().await });
                    }
                    return write(stream, Reply::Lease(encode::lease(&lease))).await;
                }
                Err(error) => Err(error),
            }
        }
        Request::Watch { profile } => {
            match context.services.access.authorize_view(peer, &profile).await {
                Ok(grant) => {
                    let subscription = context.services.revocation.watch(&grant);
                    return send_changes(stream, subscription, &context.shutdown).await;
                }
                Err(error) => Err(error.into()),
            }
        }
        Request::Status { after } => {
            let page = status(peer, after.as_deref(), context).await;
            return write(stream, Reply::Status(page)).await;
        }
        Request::ChallengeResponse { .. } => {
            return write(stream, Reply::Error(bad_request("no challenge was sent"))).await;
        }
        request => report(&mut dialogue, request, peer, context).await?,
    };

    match report {
        Ok(document) => {
            for part in encode::parts(&String::from_utf8_lossy(&document)) {
                write(stream, Reply::Part(part)).await?;
            }
            Ok(())
        }
        Err(RequestError::Access(AccessError::Interrupted(Interrupted::Disconnected))) => {
            Err(FrameError::Closed)
        }
        Err(error) => {
            let failure = match is_owner {
                true => error.failure(),
                false => error.failure_for_other_users(),
            };
            write(stream, Reply::Error(failure)).await
        }
    }
}

type Report = Result<Zeroizing<Vec<u8>>, RequestError>;

/// The requests whose reply is a JSON document. The outer error ends the connection.
async fn report(
    dialogue: &mut Dialogue<'_>,
    request: Request<'_>,
    peer: &Peer,
    context: &Arc<ServerContext>,
) -> Result<Report, FrameError> {
    let command = journalled_command(&request);
    let is_journalled = command.is_some()
        || matches!(
            request,
            Request::Iam(_)
                | Request::Approve { .. }
                | Request::Login { .. }
                | Request::Rotate { .. }
        );
    if is_journalled {
        // Starts it while the peer waits for the reply.
        peer.handle().inspection();
    }

    let report = perform(dialogue, request, peer, context).await?;
    if let Some(command) = command {
        context.services.audit.record(peer, command, &report);
    }
    if is_journalled {
        peer.handle().inspection().wait_before_lease().await;
    }

    Ok(report)
}

async fn perform(
    dialogue: &mut Dialogue<'_>,
    request: Request<'_>,
    peer: &Peer,
    context: &Arc<ServerContext>,
) -> Result<Report, FrameError> {
    let shutdown = &context.shutdown;

    Ok(match request {
        Request::Iam(call) => {
            let iam = &context.services.iam;
            iam.call(peer, call, dialogue, shutdown.deadline()).await
        }
        Request::Explain { profile } => {
            until_deadline(shutdown, explain_profile(peer, &profile, context)).await
        }
        Request::Audit {
            profile,
            since_seconds,
        } => {
            let since = Duration::from_secs(since_seconds);
            until_deadline(shutdown, audit(peer, &profile, since, context)).await
        }
        Request::Refresh { profile } => {
            until_deadline(shutdown, refresh(peer, &profile, context)).await
        }
        Request::ReportRejected { profile } => {
            until_deadline(shutdown, report_rejected(peer, &profile, context)).await
        }
        Request::Sessions { upstream } => {
            until_deadline(shutdown, sessions(peer, upstream.as_deref(), context)).await
        }
        Request::Endpoint { profile, kind } => {
            endpoint(dialogue, peer, &profile, kind, context).await
        }
        Request::Journal { since_seconds } => journal(peer, since_seconds, context).await,
        Request::Approvals => json(context.services.access.list_approvals(peer)),
        Request::Approve { id, allow } => {
            json(context.services.access.approve(peer, id, allow).await)
        }
        Request::Resume { profile } => resume(peer, &profile, context).await,
        Request::Logout { profile, revoke } => {
            logout(peer, profile.as_deref(), revoke, context).await
        }
        Request::RevokeSession {
            upstream,
            session_id,
            reason,
        } => {
            let upstream = upstream.as_deref();
            revoke_session(peer, upstream, &session_id, reason.as_deref(), context).await
        }
        Request::TokenSource { .. }
        | Request::Login { .. }
        | Request::StartMfaSession { .. }
        | Request::Unlock { .. }
        | Request::Rotate { .. } => login(dialogue, request, peer, context).await?,
        Request::Lease { .. }
        | Request::Watch { .. }
        | Request::Status { .. }
        | Request::ChallengeResponse { .. } => Err(RequestError::Aborted),
    })
}

/// The requests about a principal's token. A keyring may prompt the user.
async fn login(
    dialogue: &mut Dialogue<'_>,
    request: Request<'_>,
    peer: &Peer,
    context: &ServerContext,
) -> Result<Report, FrameError> {
    if let Err(error) = context.services.access.authorize_daemon_owner(peer) {
        return Ok(Err(error.into()));
    }

    let service = &context.services.login;
    if !matches!(request, Request::TokenSource { .. }) {
        dialogue.announce_wait(Question::Approval, PATIENCE).await?;
    }

    Ok(match request {
        Request::TokenSource { upstream } => json(service.token_source(upstream.as_deref()).await),
        Request::Login {
            upstream,
            token,
            passphrase,
        } => {
            let token = secret(token);
            let passphrase = passphrase.map(secret);
            json(
                service
                    .login(peer, upstream.as_deref(), token, passphrase)
                    .await,
            )
        }
        Request::StartMfaSession { upstream, code } => {
            let code = secret(code);
            json(
                service
                    .start_mfa_session(peer, upstream.as_deref(), &code)
                    .await,
            )
        }
        Request::Unlock {
            upstream,
            passphrase,
        } => {
            let passphrase = passphrase.map(secret);
            json(service.unlock(upstream.as_deref(), passphrase).await)
        }
        Request::Rotate { upstream, old } => json(
            service
                .rotate(peer, upstream.as_deref(), old.as_deref())
                .await,
        ),
        _ => Err(RequestError::Aborted),
    })
}

async fn explain_profile(peer: &Peer, profile: &str, context: &ServerContext) -> Report {
    let services = &context.services;
    let grant = services.access.authorize_owner(peer, profile).await?;

    let upstream = &grant.entry().upstream;
    let _waiting = services.refresh.start_token_wait(peer, upstream).await?;
    json(explain(&grant).await)
}

async fn audit(peer: &Peer, profile: &str, since: Duration, context: &ServerContext) -> Report {
    let services = &context.services;
    let grant = services.access.authorize_owner(peer, profile).await?;

    let upstream = &grant.entry().upstream;
    let _waiting = services.refresh.start_token_wait(peer, upstream).await?;
    json(services.audit.audit(&grant, since).await)
}

async fn refresh(peer: &Peer, profile: &str, context: &ServerContext) -> Report {
    let services = &context.services;
    let grant = services.access.authorize_owner(peer, profile).await?;

    let upstream = &grant.entry().upstream;
    let _waiting = services.refresh.start_token_wait(peer, upstream).await?;
    services.refresh.fetch_new(grant.entry()).await?;

    json::<RequestError>(Ok(profile_update(grant.entry(), None)))
}

async fn report_rejected(peer: &Peer, profile: &str, context: &ServerContext) -> Report {
    let services = &context.services;
    let grant = services.access.authorize_view(peer, profile).await?;

    json(services.revocation.report_rejected(peer, &grant).await)
}

async fn sessions(peer: &Peer, upstream: Option<&str>, context: &ServerContext) -> Report {
    context.services.access.authorize_daemon_owner(peer)?;

    json(context.services.sessions.list(upstream).await)
}

async fn revoke_session(
    peer: &Peer,
    upstream: Option<&str>,
    session_id: &str,
    reason: Option<&str>,
    context: &ServerContext,
) -> Report {
    context.services.access.authorize_daemon_owner(peer)?;

    let service = &context.services.sessions;
    json(service.revoke(peer, upstream, session_id, reason).await)
}

async fn endpoint(
    dialogue: &mut Dialogue<'_>,
    peer: &Peer,
    profile: &str,
    kind: EndpointKind,
    context: &Arc<ServerContext>,
) -> Report {
    let access = &context.services.access;
    let grant = access.authorize_endpoint(peer, profile, dialogue).await?;

    json(http::endpoint(context, &grant, kind))
}

async fn journal(peer: &Peer, since_seconds: Option<u64>, context: &ServerContext) -> Report {
    context.services.access.authorize_daemon_owner(peer)?;

    let since = since_seconds.map(Duration::from_secs);
    json(context.services.audit.locate_journal(since).await)
}

async fn resume(peer: &Peer, profile: &str, context: &ServerContext) -> Report {
    let services = &context.services;
    let grant = services.access.authorize_owner(peer, profile).await?;

    json(services.revocation.resume(peer, &grant).await)
}

async fn logout(
    peer: &Peer,
    profile: Option<&str>,
    revoke: bool,
    context: &ServerContext,
) -> Report {
    let services = &context.services;
    let grants = match profile {
        Some(profile) => vec![services.access.authorize_owner(peer, profile).await?],
        None => services.access.authorize_owner_of_all(peer)?,
    };

    json(services.revocation.logout(peer, &grants, revoke).await)
}

async fn status(peer: &Peer, after: Option<&str>, context: &ServerContext) -> StatusPage {
    let open = context.connections.open();
    let mut page = context.services.status.page(peer, after, open);

    if let Some(protection) = &mut page.daemon.protection
        && !context.peer_inspector.responds().await
    {
        let what = match context.peer_inspector.has_exited() {
            true => "has exited; restart rolekeeperd",
            false => "does not respond; continue it if it is stopped, or restart rolekeeperd",
        };
        protection.peer_inspector = format!("off: the peer inspector process {what}");
    }

    if context.services.access.is_owner(peer) {
        page.daemon.awaiting_mfa = context.services.login.awaiting_mfa();
        page.daemon.launch = context.launch.status.clone();
        page.daemon.endpoints = context.endpoints.addresses();
    } else {
        page.daemon.launch = context.launch.for_other_users();
    }

    page
}

/// Sends the profile's state, and again after every change, until the peer disconnects or stops reading.
async fn send_changes(
    stream: &mut BufReader<CredentialedStream>,
    mut subscription: Subscription,
    shutdown: &Shutdown,
) -> Result<(), FrameError> {
    loop {
        write(stream, Reply::ProfileUpdate(subscription.current())).await?;

        tokio::select! {
            () = subscription.changed() => {}
            () = shutdown.deadline_of_repeatable() => {
                return write(stream, Reply::Error(RequestError::Stopping.failure())).await;
            }
            // The peer disconnected, or sent a request meanwhile, which is not allowed.
            _ = stream.read_u8() => return Err(FrameError::Closed),
        }
    }
}

fn json<E>(report: Result<impl Serialize, E>) -> Report
where
    RequestError: From<E>,
{
    // This succeeds: keys of reports are strings, and numbers are finite.
    let document = serde_json::to_vec(&report?).map_err(|_| RequestError::Aborted)?;

    Ok(document.into())
}

/// Gives up a repeatable request when the daemon stops. A result that is ready at once is still returned.
async fn until_deadline<T>(
    shutdown: &Shutdown,
    request: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, RequestError> {
    tokio::select! {
        biased;
        result = request => result,
        () = shutdown.deadline_of_repeatable() => Err(RequestError::Stopping),
    }
}

fn secret(text: SecretText<'_>) -> SecretString {
    text.0.into_owned().into()
}

pub(crate) fn parse(text: &[u8]) -> Result<RequestFrame<'_>, Failure> {
    if let Ok(frame @ RequestFrame { v: VERSION, .. }) = serde_json::from_slice(text) {
        return Ok(frame);
    }

    Err(match serde_json::from_slice::<Version>(text) {
        Ok(Version { v }) if v != VERSION => Failure::new(
            Code::UnsupportedVersion,
            format!(
                "the request has protocol version {v}, and this daemon speaks version {VERSION}"
            ),
            "install rolekeeper and rolekeeperd of the same version, and restart the daemon",
        ),
        Ok(_) => bad_request("unknown or incomplete request"),
        Err(_) => bad_request("not a JSON object with a version"),
    })
}

fn bad_request(reason: &str) -> Failure {
    Failure::new(
        Code::BadRequest,
        format!("invalid request: {reason}"),
        "use the rolekeeper command of the daemon's version",
    )
}
