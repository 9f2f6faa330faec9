//! Endpoints on 127.0.0.1 that speak HTTP, for consumers that cannot run a program. Each is closed until somebody asks over
//! the local socket where it is, or the configuration gives it a port.
//!
//! Nothing here decides anything: what is asked is parsed, guarded, put to the broker, and answered within half a second,
//! whatever the upstream does.

mod container;
mod guard;
mod imds;
mod lines;
mod tokens;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rolekeeper::protocol::{Code, Endpoint, EndpointKind, Failure};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use zeroize::Zeroizing;

use super::Desk;
use super::peer::Peer;
use super::tcp::Ends;
use crate::broker::{Lease, Refusal};
use crate::config::ProfileName;

pub use lines::{Endpoints, Line};

/// SDKs give up after 500 ms (Go, instance metadata) to 2 s (botocore, container credentials).
const ANSWER: Duration = Duration::from_millis(400);
/// From the end of one request, or from the beginning, to the end of the next one's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long the first one is waited for once the daemon is told to stop.
const FIRST: Duration = Duration::from_millis(500);
/// The longest head of a request, in bytes.
const HEAD: usize = 16 * 1024;
/// The most connections: strangers can make some, too.
pub(super) const CONNECTIONS: usize = 256;

type Answer = Response<Full<Bytes>>;

/// One connection.
struct Caller {
    desk: Arc<Desk>,
    line: Line,
    /// The port it came in by.
    port: u16,
    peer: Arc<Peer>,
    /// Whether a request has come.
    has_asked: AtomicBool,
    /// Where there is no token, the user counts: whether it is the one that the daemon serves.
    is_owner: bool,
}

/// Where a profile's credentials can be asked for over HTTP. The endpoint is opened if need be.
pub(super) fn endpoint(desk: &Arc<Desk>, peer: &Peer, profile: &str, kind: EndpointKind) -> Result<Endpoint, Refusal> {
    let grant = desk.broker.grant(peer, profile)?;
    let name = grant.slot().profile.name.clone();
    let failed = |error: io::Error| Refusal::NoEndpoint(error.to_string());
    let line = match kind {
        EndpointKind::Container => Line::Container,
        EndpointKind::Imds => Line::Imds(name.clone()),
    };
    let (listener, is_new) = desk.endpoints.open(&line).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    if is_new {
        accept(desk, line, listener);
    }
    Ok(match kind {
        EndpointKind::Container => Endpoint {
            url: format!("http://{address}{}{name}", container::PATH),
            token_file: Some(desk.endpoints.tokens.file(&name, desk.broker.clock.now().boot).map_err(failed)?),
        },
        // Some SDKs put a path behind it without a slash of their own.
        EndpointKind::Imds => Endpoint { url: format!("http://{address}/"), token_file: None },
    })
}

/// Serves a line until the daemon stops.
pub(super) fn accept(desk: &Arc<Desk>, line: Line, listener: Arc<TcpListener>) {
    let desk = Arc::clone(desk);
    desk.tasks.clone().spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = desk.stop.is_told() => return,
            };
            match accepted {
                Ok((stream, from)) => welcome(&desk, &line, stream, from),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
}

fn welcome(desk: &Arc<Desk>, line: &Line, stream: TcpStream, from: SocketAddr) {
    let Some(place) = desk.endpoints.gauge.take() else {
        return tracing::warn!("refused: too many connections over HTTP");
    };
    let Ok(here) = stream.local_addr() else { return };
    let _ = stream.set_nodelay(true);
    let (desk, line, ends) = (Arc::clone(desk), line.clone(), Ends { from, here });
    desk.tasks.clone().spawn(async move {
        let _place = place;
        let caller = Arc::new(Caller::new(desk, line, ends).await);
        let service = service_fn(|request| {
            let caller = Arc::clone(&caller);
            async move { Ok::<_, io::Error>(caller.answer(request).await) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(HEAD);
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = caller.is_over() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection over HTTP ended early");
        }
    });
}

impl Caller {
    async fn new(desk: Arc<Desk>, line: Line, ends: Ends) -> Self {
        let owner = desk.broker.policy.owner;
        let is_owner = match line {
            Line::Container => true,
            // The kernel's table may be long.
            Line::Imds(_) => {
                let other = tokio::task::spawn_blocking(move || ends.other()).await;
                other.is_ok_and(|other| other.is_some_and(|socket| socket.uid == owner))
            }
        };
        let (port, peer) = (ends.here.port(), Arc::new(Peer::over_tcp(owner, ends)));
        Self { desk, line, port, peer, has_asked: AtomicBool::new(false), is_owner }
    }

    /// No more requests are taken. The first one may be on its way, and whoever sent it would not know that it was too late.
    async fn is_over(&self) {
        self.desk.stop.is_told().await;
        if !self.has_asked.load(Ordering::Relaxed) {
            tokio::time::sleep(FIRST).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.has_asked.store(true, Ordering::Relaxed);
        let answer = match guard::check(request.headers(), request.uri(), self.port) {
            Err(why) => failed(StatusCode::FORBIDDEN, Code::NotAllowed, &why),
            Ok(()) => match &self.line {
                Line::Container => container::answer(self, &request).await,
                Line::Imds(profile) => imds::answer(self, profile, &request).await,
            },
        };
        // Neither the path nor a header: somebody may have put a secret there.
        tracing::debug!(line = %self.line, method = %request.method(), status = answer.status().as_u16(), "answered");
        answer
    }

    /// A lease, or why there is none, in time. What is under way for it goes on.
    async fn lease(&self, profile: &ProfileName) -> Result<Lease, Failure> {
        match tokio::time::timeout(ANSWER, self.desk.broker.lease(&self.peer, profile.as_str())).await {
            Ok(lease) => lease.map_err(|refusal| super::reply::failure(&refusal)),
            Err(_elapsed) => Err(Failure::new(
                Code::UpstreamUnavailable,
                format!("there is no session of profile {profile} yet, and the upstream has not answered"),
                "again in a second; it is still being asked",
            )),
        }
    }
}

fn plain(status: StatusCode, body: impl Into<Bytes>, kind: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A document that may hold secrets, which are wiped once it is sent.
fn json(document: &impl Serialize) -> Answer {
    match serde_json::to_vec(document) {
        Ok(text) => plain(StatusCode::OK, Bytes::from_owner(Zeroizing::new(text)), "application/json"),
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, Code::Unexpected, &error.to_string()),
    }
}

/// As SDKs read it: never with a status of success, and on one line.
fn failed(status: StatusCode, code: Code, message: &str) -> Answer {
    let body = serde_json::json!({ "code": code.as_str(), "message": message }).to_string();
    let mut answer = plain(status, body, "application/json");
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

fn refused(failure: &Failure) -> Answer {
    failed(status(failure.code), failure.code, &sentence(failure))
}

fn sentence(Failure { message, hint, .. }: &Failure) -> String {
    format!("{message}; try: {hint}")
}

/// SDKs ask again after a 5xx, at once: only what may pass by itself is one.
fn status(code: Code) -> StatusCode {
    match code {
        Code::UpstreamUnavailable | Code::ViewStale | Code::Busy | Code::ShuttingDown => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::UnknownProfile => StatusCode::NOT_FOUND,
        Code::NotAllowed
        | Code::LoginNeeded
        | Code::Held
        | Code::UpstreamRefused
        | Code::RoleGone
        | Code::TrustDenied
        | Code::AccountDisabled => StatusCode::FORBIDDEN,
        Code::BadRequest
        | Code::FrameTooLarge
        | Code::UnsupportedVersion
        | Code::UnknownUpstream
        | Code::UnknownMethod
        | Code::Usage
        | Code::Configuration
        | Code::NoDaemon
        | Code::CommandNotFound
        | Code::CommandNotRun
        | Code::Unexpected => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_never_a_success_and_says_what_to_do_on_one_line() {
        for code in [Code::Held, Code::UpstreamUnavailable, Code::UnknownProfile, Code::Unexpected] {
            let answer = refused(&Failure::new(code, "a\nb", "c"));
            assert!(answer.status().is_client_error() || answer.status().is_server_error());
        }
    }
}
