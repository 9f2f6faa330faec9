//! Endpoints on 127.0.0.1 that speak HTTP, for consumers that cannot run a program. Each is closed until somebody asks over
//! the local socket where it is, or the configuration gives it a port.
//!
//! Nothing here decides anything: what is asked is parsed, guarded, put to the broker, and answered within half a second,
//! whatever the upstream does. Strangers can connect, so that no connection is worth much: it ends when nothing is asked on
//! it for a while, and holds up nobody.

mod container_credentials;
mod guard;
mod instance_metadata;
mod listeners;
mod response;
mod tokens;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rolekeeper::protocol::{Code, Endpoint, EndpointKind, Failure};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::ServerContext;
use crate::access::peer::Peer;
use crate::access::policy::Denied;
use crate::config::ProfileName;
use crate::credentials::{AccessError, Lease};
use crate::platform::sock_diag::Ends;
use listeners::Opened;
use response::{Answer, failed};

pub use listeners::{Endpoints, HttpEndpoint};

/// SDKs give up after 500 ms (Go, instance metadata) to 2 s (botocore, container credentials).
const ANSWER: Duration = Duration::from_millis(400);
/// How long the first request may take to come.
const FIRST: Duration = Duration::from_secs(2);
/// How long nothing may be asked after it.
const SILENCE: Duration = Duration::from_secs(10);
/// Once the daemon is told to stop: how long the first request is waited for, and then how long a connection may take to end.
const LAST: Duration = Duration::from_millis(500);
/// About how much may be on the way to somebody who does not read it, in bytes: a few answers.
const UNREAD: usize = 32 * 1024;
/// The longest head of a request, in bytes.
const HEAD: usize = 16 * 1024;

/// Where a profile's credentials can be asked for over HTTP. The endpoint is opened if need be.
pub(super) async fn endpoint(
    desk: &Arc<ServerContext>,
    peer: &Peer,
    profile: &str,
    kind: EndpointKind,
) -> Result<Endpoint, AccessError> {
    let grant = desk.broker.grant(peer, profile).await?;
    // The words that requests have are in files that only the daemon's own user reads.
    if peer.uid != desk.broker.policy.owner {
        return Err(AccessError::Denied(Denied::NotOwner { uid: peer.uid }));
    }
    // Whoever asks there cannot be told from others.
    if grant.entry().profile.callers.asks_for_process() {
        return Err(AccessError::Denied(Denied::UnknownCaller {
            profile: profile.into(),
        }));
    }
    let name = grant.entry().profile.name.clone();
    let failed = |error: io::Error| AccessError::NoEndpoint(error.to_string());
    let line = match kind {
        EndpointKind::Container => HttpEndpoint::Container,
        EndpointKind::Imds if cfg!(target_os = "linux") => HttpEndpoint::Imds(name.clone()),
        EndpointKind::Imds => {
            return Err(AccessError::NoEndpoint(
                "who asks for instance metadata can be told on Linux alone".into(),
            ));
        }
    };
    let (opened, is_new) = desk.endpoints.open(&line).map_err(failed)?;
    let address = opened.listener.local_addr().map_err(failed)?;
    if is_new {
        accept(desk, line, opened);
    }
    Ok(match kind {
        EndpointKind::Container => Endpoint {
            url: format!("http://{address}{}{name}", container_credentials::PATH),
            token_file: Some(
                desk.endpoints
                    .tokens
                    .file(&name, desk.broker.clock.now().boot)
                    .map_err(failed)?,
            ),
        },
        // Some SDKs put a path behind it without a slash of their own.
        EndpointKind::Imds => Endpoint {
            url: format!("http://{address}/"),
            token_file: None,
        },
    })
}

/// Serves a line until the daemon stops.
pub(super) fn accept(desk: &Arc<ServerContext>, line: HttpEndpoint, opened: Opened) {
    let desk = Arc::clone(desk);
    desk.tasks.clone().spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = opened.listener.accept() => accepted,
                () = desk.stop.is_told() => return,
            };
            match accepted {
                Ok((stream, from)) => welcome(&desk, &line, &opened, stream, from),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
}

fn welcome(
    desk: &Arc<ServerContext>,
    line: &HttpEndpoint,
    opened: &Opened,
    stream: TcpStream,
    from: SocketAddr,
) {
    let Ok(here) = stream.local_addr() else {
        return;
    };
    let (ends, owner) = (Ends { from, here }, desk.broker.policy.owner);
    // Other users' processes get no more than half of the places.
    let is_stranger = || ends.other().is_some_and(|socket| socket.uid != owner);
    let place = opened
        .gauge
        .take(owner)
        .filter(|_| !opened.is_crowded() || !is_stranger());
    let Some(place) = place else {
        let refused = opened.refused.fetch_add(1, Ordering::Relaxed) + 1;
        // One line for each would be a flood of its own.
        if refused.is_power_of_two() {
            tracing::warn!(%line, refused, "too many connections");
        }
        return;
    };
    // Either may be refused, and is not needed for more than its purpose.
    let _ = stream.set_nodelay(true);
    let _ = set_socket_send_buffer_size(&stream, UNREAD);
    let caller = Arc::new(Caller::new(Arc::clone(desk), line.clone(), ends));
    desk.tasks.spawn(async move {
        let _place = place;
        caller.serve(stream).await;
    });
}

/// One connection.
struct Caller {
    desk: Arc<ServerContext>,
    line: HttpEndpoint,
    /// The port it came in by.
    port: u16,
    peer: Arc<Peer>,
    /// Where there is no token, the user counts: whether it is the one that the daemon serves.
    is_owner: bool,
    /// How many requests have come.
    asked: AtomicUsize,
}

impl Caller {
    fn new(desk: Arc<ServerContext>, line: HttpEndpoint, ends: Ends) -> Self {
        let owner = desk.broker.policy.owner;
        let is_owner = match line {
            HttpEndpoint::Container => true,
            HttpEndpoint::Imds(_) => ends.other().is_some_and(|socket| socket.uid == owner),
        };
        let (port, peer) = (
            ends.here.port(),
            Arc::new(Peer::over_tcp(owner, ends, &desk.lookout)),
        );
        Self {
            desk,
            line,
            port,
            peer,
            is_owner,
            asked: AtomicUsize::new(0),
        }
    }

    async fn serve(self: &Arc<Self>, stream: TcpStream) {
        let service =
            service_fn(|request| async move { Ok::<_, io::Error>(self.answer(request).await) });
        let mut http = http1::Builder::new();
        let mut connection = std::pin::pin!(
            http.max_buf_size(HEAD)
                .serve_connection(TokioIo::new(stream), service)
        );
        let ended = tokio::select! {
            // What has been asked is answered first.
            biased;
            ended = connection.as_mut() => ended,
            // Nor does it read what it is answered, perhaps.
            () = self.is_silent() => return,
            () = self.is_over() => {
                connection.as_mut().graceful_shutdown();
                match timeout(LAST, connection).await {
                    Ok(ended) => ended,
                    Err(_elapsed) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection over HTTP ended early");
        }
    }

    /// Nothing has been asked for a while.
    async fn is_silent(&self) {
        let (mut before, mut patience) = (0, FIRST);
        loop {
            sleep(patience).await;
            let asked = self.asked.load(Ordering::Relaxed);
            if asked == before {
                return;
            }
            (before, patience) = (asked, SILENCE);
        }
    }

    /// No more requests are taken. The first one may be on its way, and whoever sent it would not know that it was too late.
    async fn is_over(&self) {
        self.desk.stop.is_told().await;
        if self.asked.load(Ordering::Relaxed) == 0 {
            sleep(LAST).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = match guard::check(request.headers(), request.uri(), self.port) {
            Err(why) => failed(StatusCode::FORBIDDEN, Code::NotAllowed, &why),
            Ok(()) => match &self.line {
                HttpEndpoint::Container => container_credentials::answer(self, &request).await,
                HttpEndpoint::Imds(profile) => {
                    instance_metadata::answer(self, profile, &request).await
                }
            },
        };
        // Neither the path nor a header: somebody may have put a secret there.
        tracing::debug!(line = %self.line, method = %request.method(), status = answer.status().as_u16(), "answered");
        answer
    }

    /// A lease, or why there is none, in time. What is under way for it goes on.
    async fn lease(&self, profile: &ProfileName) -> Result<Lease, Failure> {
        match timeout(ANSWER, self.desk.broker.lease(&self.peer, profile.as_str())).await {
            Ok(lease) => lease.map_err(|refusal| {
                let (failure, broker) = (
                    crate::serve::error_map::failure(&refusal),
                    &self.desk.broker,
                );
                broker
                    .journal
                    .refused(&self.peer, profile.as_str(), &failure, &broker.clock.now());
                failure
            }),
            Err(_elapsed)
                if self
                    .desk
                    .broker
                    .will_ask(&self.peer, profile.as_str())
                    .await =>
            {
                Err(Failure::new(
                    Code::UpstreamUnavailable,
                    format!("profile {profile} wants a person's word, who is being asked"),
                    "rolekeeper approve, or the desktop's notification, and again in a second",
                ))
            }
            Err(_elapsed) => Err(Failure::new(
                Code::UpstreamUnavailable,
                format!(
                    "there is no session of profile {profile} yet, and the upstream has not answered"
                ),
                "again in a second; it is still being asked",
            )),
        }
    }
}
