//! One connection over HTTP, and how long it may be idle.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rolekeeper::protocol::{Code, Failure};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::listeners::HttpEndpoint;
use super::response::{HttpResponse, failed};
use super::{CONTAINER_TIMEOUT, METADATA_TIMEOUT, container_credentials, guard, instance_metadata};
use crate::access::peer::Peer;
use crate::access::{Interaction, Interrupted, Question};
use crate::config::ProfileName;
use crate::credentials::Lease;
use crate::error::RequestError;
use crate::platform::sock_diag::Ends;
use crate::serve::ServerContext;

/// The time until the first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// The time between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// After the start of the shutdown: the time for a last request, and then the time for the connection to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// The size limit of a request's line and headers, in bytes.
const MAX_REQUEST_HEAD: usize = 16 * 1024;

pub(super) struct HttpConnection {
    pub(super) context: Arc<ServerContext>,
    /// With container credentials, the user is the owner, since only the owner can read the token. With instance
    /// metadata, the kernel names the user.
    pub(super) peer: Arc<Peer>,
    endpoint: HttpEndpoint,
    ends: Ends,
    requests: AtomicUsize,
}

impl HttpConnection {
    pub(super) fn new(context: Arc<ServerContext>, endpoint: HttpEndpoint, ends: Ends) -> Self {
        let uid = match endpoint {
            HttpEndpoint::Container => context.services.access.policy.owner,
            HttpEndpoint::Imds(_) => user_of(&ends),
        };

        let peer = Arc::new(Peer::over_tcp(uid, ends, &context.peer_inspector));

        Self {
            context,
            peer,
            endpoint,
            ends,
            requests: AtomicUsize::new(0),
        }
    }

    /// The peer with the user that the kernel names.
    pub(super) fn unauthenticated_peer(&self) -> Peer {
        Peer::over_tcp(user_of(&self.ends), self.ends, &self.context.peer_inspector)
    }

    pub(super) async fn serve(self: &Arc<Self>, stream: TcpStream) {
        let service =
            service_fn(|request| async move { Ok::<_, io::Error>(self.respond(request).await) });
        let mut http = http1::Builder::new();
        let mut connection = std::pin::pin!(
            http.max_buf_size(MAX_REQUEST_HEAD)
                .serve_connection(TokioIo::new(stream), service)
        );

        let ended = tokio::select! {
            // A request that has arrived gets its response first.
            biased;
            ended = connection.as_mut() => ended,
            // A client that does not read its responses is disconnected, too.
            () = self.until_idle() => return,
            () = self.until_shutdown() => {
                connection.as_mut().graceful_shutdown();
                match timeout(SHUTDOWN_TIMEOUT, connection).await {
                    Ok(ended) => ended,
                    Err(_elapsed) => return,
                }
            }
        };

        if let Err(error) = ended {
            tracing::debug!(endpoint = %self.endpoint, %error, "a connection ended early");
        }
    }

    /// Waits until no request has arrived for the timeout.
    async fn until_idle(&self) {
        let mut requests_before = 0;
        let mut limit = FIRST_REQUEST_TIMEOUT;

        loop {
            sleep(limit).await;

            let requests = self.requests.load(Ordering::Relaxed);
            if requests == requests_before {
                return;
            }
            requests_before = requests;
            limit = IDLE_TIMEOUT;
        }
    }

    /// Waits for the shutdown. A request may be on its way, and gets a response.
    async fn until_shutdown(&self) {
        self.context.shutdown.started().await;
        sleep(SHUTDOWN_TIMEOUT).await;
    }

    async fn respond(&self, request: Request<Incoming>) -> HttpResponse {
        self.requests.fetch_add(1, Ordering::Relaxed);

        let checked = guard::check(request.headers(), request.uri(), self.ends.here.port());
        let mut response = match (checked, &self.endpoint) {
            (Err(reason), _) => failed(StatusCode::FORBIDDEN, Code::NotAllowed, &reason),
            (Ok(()), HttpEndpoint::Container) => {
                container_credentials::respond(self, &request).await
            }
            (Ok(()), HttpEndpoint::Imds(profile)) => {
                instance_metadata::respond(self, profile, &request).await
            }
        };

        // The client must not send its next request on a connection that ends.
        if self.context.shutdown.has_started() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }

        // The path and the headers may contain secrets.
        let status = response.status().as_u16();
        tracing::debug!(endpoint = %self.endpoint, method = %request.method(), status, "responded");

        response
    }

    /// A lease in time for SDKs, or the reason why there is none. A fetch or an approval that takes longer continues.
    pub(super) async fn lease(&self, profile: &ProfileName) -> Result<Lease, Failure> {
        let mut approval = AwaitedApproval::default();
        let limit = match self.endpoint {
            HttpEndpoint::Container => CONTAINER_TIMEOUT,
            HttpEndpoint::Imds(_) => METADATA_TIMEOUT,
        };
        let leased = timeout(limit, self.authorized_lease(profile, &mut approval));

        match leased.await {
            Ok(lease) => lease.map_err(|error| error.failure()),
            Err(_elapsed) if approval.is_pending => Err(Failure::new(
                Code::UpstreamUnavailable,
                format!("profile {profile} requires approval, which is pending"),
                "run rolekeeper approve in another terminal, then run the command again",
            )),
            Err(_elapsed) => Err(Failure::new(
                Code::UpstreamUnavailable,
                format!("profile {profile} has no session yet, and the upstream has not answered"),
                "run the command again in a second; the request to the upstream continues",
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

/// The user of the process at the other end, or a number that no user has.
fn user_of(ends: &Ends) -> u32 {
    ends.other().map_or(u32::MAX, |socket| socket.uid)
}

/// HTTP clients get no challenge. They do not wait for a user, but retry.
#[derive(Debug, Default)]
struct AwaitedApproval {
    is_pending: bool,
}

impl Interaction for AwaitedApproval {
    async fn await_user<T: Send>(
        &mut self,
        _question: Question<'_>,
        _limit: Duration,
        decision: impl Future<Output = T> + Send,
    ) -> Result<T, Interrupted> {
        self.is_pending = true;
        let decision = decision.await;
        self.is_pending = false;

        Ok(decision)
    }
}
