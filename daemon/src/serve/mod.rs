//! The adapters: they accept connections, parse requests, call one service function, and encode its result. They contain
//! no rule.

pub(crate) mod encode;
pub(crate) mod http;
pub(crate) mod launch;
mod limits;
mod repeated_warning;
mod shutdown;
pub(crate) mod socket;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::access::peer::Peer;
use crate::access::{Access, Interaction};
use crate::audit::AuditService;
use crate::clock::Clock;
use crate::credentials::{CredentialService, Lease};
use crate::error::RequestError;
use crate::iam::IamService;
use crate::login::LoginService;
use crate::refresh::RefreshService;
use crate::revocation::RevocationService;
use crate::sandbox::helper::peer_inspector::PeerInspector;
use crate::serve::launch::Launch;
use crate::sessions::SessionService;
use crate::status::StatusService;
use http::Endpoints;
use limits::ConnectionLimit;
use repeated_warning::Warnings;
use socket::bind::BoundSocket;

pub(crate) use shutdown::Shutdown;
pub(crate) use {socket::connection::rest, socket::dispatch::parse};

/// The time for open requests to end before the daemon exits.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

/// The pause after a failed accept. The usual reason is a lack of descriptors, which ends when other connections close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The services that requests are dispatched to.
#[derive(Debug, Clone)]
pub struct Services {
    pub(crate) clock: Clock,
    pub access: Arc<Access>,
    pub(crate) credentials: Arc<CredentialService>,
    pub(crate) refresh: Arc<RefreshService>,
    pub revocation: Arc<RevocationService>,
    pub(crate) iam: Arc<IamService>,
    pub(crate) login: Arc<LoginService>,
    pub status: Arc<StatusService>,
    pub(crate) sessions: Arc<SessionService>,
    pub(crate) audit: Arc<AuditService>,
}

/// The state that all connections share.
#[derive(Debug)]
pub(crate) struct ServerContext {
    pub(crate) services: Services,
    pub(crate) launch: Arc<Launch>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) peer_inspector: Arc<PeerInspector>,
    connections: ConnectionLimit,
    warnings: Warnings,
    pub(crate) shutdown: Shutdown,
    tasks: TaskTracker,
}

/// The server after it has stopped accepting connections.
#[derive(Debug)]
pub(crate) struct Stopped {
    socket: BoundSocket,
    context: Arc<ServerContext>,
}

impl Services {
    /// The request path: authorize, then lease.
    pub async fn lease(
        &self,
        peer: &Peer,
        profile: &str,
        interaction: &mut impl Interaction,
    ) -> Result<Lease, RequestError> {
        let grant = self
            .access
            .authorize_lease(peer, profile, interaction)
            .await?;

        let leased = self.credentials.lease(peer, &grant).await;
        // SDKs do not wait over HTTP as long as a person needs.
        let is_worth_waiting = matches!(&leased, Err(error) if error.needs_mfa_code());
        if !is_worth_waiting || peer.is_over_http() {
            return leased;
        }

        let upstream = &grant.entry().upstream;
        match self.login.await_mfa_session(upstream, interaction).await? {
            true => self.credentials.lease(peer, &grant).await,
            false => leased,
        }
    }
}

impl ServerContext {
    pub(crate) fn new(
        services: Services,
        launch: Arc<Launch>,
        endpoints: Arc<Endpoints>,
        peer_inspector: Arc<PeerInspector>,
        max_connections: usize,
    ) -> Arc<Self> {
        let connections = if services.access.policy.is_shared() {
            ConnectionLimit::shared(max_connections)
        } else {
            ConnectionLimit::new(max_connections)
        };

        Arc::new(Self {
            services,
            launch,
            endpoints,
            peer_inspector,
            connections,
            warnings: Warnings::default(),
            shutdown: Shutdown::default(),
            tasks: TaskTracker::new(),
        })
    }
}

/// Accepts connections until the shutdown starts.
pub(crate) async fn run(socket: BoundSocket, context: Arc<ServerContext>) -> Stopped {
    for (endpoint, listener) in context.endpoints.all() {
        http::accept(&context, endpoint, listener);
    }

    let socket = socket::accept::run(socket, &context).await;

    Stopped { socket, context }
}

impl Stopped {
    /// Closes the socket, then lets the open requests end.
    pub(crate) async fn close(self) {
        drop(self.socket);
        self.context.endpoints.close();
        drain(&self.context).await;
    }

    /// Lets the open requests end. New connections wait in the socket's queue for the next process.
    pub(crate) async fn drain(self) -> BoundSocket {
        drain(&self.context).await;
        self.socket
    }
}

/// Gives the open requests [`DRAIN`] to end.
async fn drain(context: &ServerContext) {
    context.tasks.close();

    if tokio::time::timeout(DRAIN, context.tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = context.connections.open(),
            "stopped, although requests are still open"
        );
    }
}
