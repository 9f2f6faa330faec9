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
use crate::access::{Interaction, Interrupted, OwnerGrant};
use crate::config::ProfileName;
use crate::credentials::Lease;
use crate::error::RequestError;
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
pub(super) fn endpoint(
    context: &Arc<ServerContext>,
    grant: &OwnerGrant,
    kind: EndpointKind,
) -> Result<Endpoint, RequestError> {
    let name = grant.entry().profile.name.clone();
    let failed = |error: io::Error| RequestError::NoEndpoint(error.to_string());
    let line = match kind {
        EndpointKind::Container => HttpEndpoint::Container,
        EndpointKind::Imds if cfg!(target_os = "linux") => HttpEndpoint::Imds(name.clone()),
        EndpointKind::Imds => {
            return Err(RequestError::NoEndpoint(
                "instance metadata is available on Linux only".into(),
            ));
        }
    };
    let (opened, is_new) = context.endpoints.open(&line).map_err(failed)?;
    let address = opened.listener.local_addr().map_err(failed)?;
    if is_new {
        accept(context, line, opened);
    }
    Ok(match kind {
        EndpointKind::Container => Endpoint {
            url: format!("http://{address}{}{name}", container_credentials::PATH),
            token_file: Some(
                context
                    .endpoints
                    .tokens
                    .file(&name, context.services.clock.now().boot)
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
pub(super) fn accept(context: &Arc<ServerContext>, line: HttpEndpoint, opened: Opened) {
    let context = Arc::clone(context);
    context.tasks.clone().spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = opened.listener.accept() => accepted,
                () = context.shutdown.started() => return,
            };
            match accepted {
                Ok((stream, from)) => welcome(&context, &line, &opened, stream, from),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
}

fn welcome(
    context: &Arc<ServerContext>,
    line: &HttpEndpoint,
    opened: &Opened,
    stream: TcpStream,
    from: SocketAddr,
) {
    let Ok(here) = stream.local_addr() else {
        return;
    };
    let (ends, owner) = (Ends { from, here }, context.services.access.policy.owner);
    // Other users' processes get no more than half of the places.
    let is_stranger = || ends.other().is_some_and(|socket| socket.uid != owner);
    let place = opened
        .connections
        .acquire(owner)
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
    let caller = Arc::new(Caller::new(Arc::clone(context), line.clone(), ends));
    context.tasks.spawn(async move {
        let _place = place;
        caller.serve(stream).await;
    });
}

/// One connection.
struct Caller {
    context: Arc<ServerContext>,
    line: HttpEndpoint,
    ends: Ends,
    /// With a token for a password, its user is the owner, who alone can read it. Without one, as for instance metadata, its user
    /// is the one that the kernel names.
    peer: Arc<Peer>,
    /// How many requests have come.
    asked: AtomicUsize,
}

impl Caller {
    fn new(context: Arc<ServerContext>, line: HttpEndpoint, ends: Ends) -> Self {
        let uid = match line {
            HttpEndpoint::Container => context.services.access.policy.owner,
            HttpEndpoint::Imds(_) => user_of(&ends),
        };
        let peer = Arc::new(Peer::over_tcp(uid, ends, &context.peer_inspector));
        Self {
            context,
            line,
            ends,
            peer,
            asked: AtomicUsize::new(0),
        }
    }

    /// The peer as the kernel names it, and not by a token.
    fn unauthenticated_peer(&self) -> Peer {
        Peer::over_tcp(user_of(&self.ends), self.ends, &self.context.peer_inspector)
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
        self.context.shutdown.started().await;
        if self.asked.load(Ordering::Relaxed) == 0 {
            sleep(LAST).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = match guard::check(request.headers(), request.uri(), self.ends.here.port()) {
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

    /// A lease in time for SDKs, or why there is none. A fetch or an approval that takes longer goes on.
    async fn lease(&self, profile: &ProfileName) -> Result<Lease, Failure> {
        let mut approval = AwaitedApproval::default();
        match timeout(ANSWER, self.authorized_lease(profile, &mut approval)).await {
            Ok(lease) => lease.map_err(|error| error.failure()),
            Err(_elapsed) if approval.is_pending => Err(Failure::new(
                Code::UpstreamUnavailable,
                format!("profile {profile} requires approval, which is pending"),
                "run rolekeeper approve in another terminal, then run the command again",
            )),
            Err(_elapsed) => Err(Failure::new(
                Code::UpstreamUnavailable,
                format!("profile {profile} has no session yet, and the upstream has not answered"),
                "run the command again in a second; the upstream is still asked",
            )),
        }
    }

    async fn authorized_lease(
        &self,
        profile: &ProfileName,
        approval: &mut AwaitedApproval,
    ) -> Result<Lease, RequestError> {
        self.context
            .services
            .lease(&self.peer, profile.as_str(), approval)
            .await
    }
}

/// The user of the process at the other end, or a number that stands for no user.
fn user_of(ends: &Ends) -> u32 {
    ends.other().map_or(u32::MAX, |socket| socket.uid)
}

/// HTTP clients are not challenged, and do not wait for a user: they ask again.
#[derive(Debug, Default)]
struct AwaitedApproval {
    is_pending: bool,
}

impl Interaction for AwaitedApproval {
    async fn challenge(&mut self, _nonce: &str) -> Result<Option<String>, Interrupted> {
        Ok(None)
    }

    async fn await_user<T: Send>(
        &mut self,
        _limit: Duration,
        decision: impl Future<Output = T> + Send,
    ) -> Result<T, Interrupted> {
        self.is_pending = true;
        let decision = decision.await;
        self.is_pending = false;
        Ok(decision)
    }
}
