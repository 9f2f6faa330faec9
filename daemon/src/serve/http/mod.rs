//! Endpoints on 127.0.0.1 that speak HTTP, for consumers that cannot run a program. Each is closed until a client asks for its
//! address over the local socket, or the configuration gives it a port.
//!
//! This adapter parses a request, checks where it comes from, calls a service, and responds within half a second. Other
//! users' processes can connect, so a connection ends when it is idle, and the number of connections is limited.

mod connection;
mod container_credentials;
mod guard;
mod instance_metadata;
mod listeners;
mod response;
mod tokens;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rolekeeper::protocol::{Endpoint, EndpointKind};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{ACCEPT_PAUSE, ServerContext};
use crate::access::OwnerGrant;
use crate::error::RequestError;
use crate::platform::sock_diag::Ends;
use connection::HttpConnection;
use listeners::Listener;

pub(crate) use listeners::{Endpoints, HttpEndpoint};

/// The time to respond in with container credentials: botocore times out after 2 s. It asks three times, as Go and Rust do,
/// so a session that takes 5 s is still received.
const CONTAINER_TIMEOUT: Duration = Duration::from_millis(1800);

/// The time to respond in with instance metadata: Go times out after 500 ms.
const METADATA_TIMEOUT: Duration = Duration::from_millis(400);

/// The size of a socket's send buffer, in bytes: a few responses that the client has not read.
const SEND_BUFFER: usize = 32 * 1024;

/// The address of a profile's endpoint. The endpoint is opened first if it is closed.
pub(super) fn endpoint(
    context: &Arc<ServerContext>,
    grant: &OwnerGrant,
    kind: EndpointKind,
) -> Result<Endpoint, RequestError> {
    let name = grant.entry().profile.name.clone();
    let endpoint = match kind {
        EndpointKind::Container => HttpEndpoint::Container,
        EndpointKind::Imds if cfg!(target_os = "linux") => HttpEndpoint::Imds(name.clone()),
        EndpointKind::Imds => {
            return Err(RequestError::NoEndpoint(
                "instance metadata is available on Linux only".into(),
            ));
        }
    };

    let (listener, is_new) = context
        .endpoints
        .open(&endpoint)
        .map_err(|error| no_endpoint(&error))?;
    let address = listener
        .socket
        .local_addr()
        .map_err(|error| no_endpoint(&error))?;
    if is_new {
        accept(context, endpoint, listener);
    }

    match kind {
        EndpointKind::Container => {
            let now = context.services.clock.now().boot;
            let token_file = context.endpoints.tokens.file(&name, now);

            Ok(Endpoint {
                url: format!("http://{address}{}{name}", container_credentials::PATH),
                token_file: Some(token_file.map_err(|error| no_endpoint(&error))?),
            })
        }
        // Some SDKs append a path without a slash.
        EndpointKind::Imds => Ok(Endpoint {
            url: format!("http://{address}/"),
            token_file: None,
        }),
    }
}

fn no_endpoint(error: &io::Error) -> RequestError {
    RequestError::NoEndpoint(error.to_string())
}

/// Accepts connections to an endpoint until the shutdown starts.
pub(super) fn accept(context: &Arc<ServerContext>, endpoint: HttpEndpoint, listener: Listener) {
    let context = Arc::clone(context);

    context.tasks.clone().spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.socket.accept() => accepted,
                () = context.shutdown.started() => return,
            };

            match accepted {
                Ok((stream, from)) => {
                    start_connection(&context, &endpoint, &listener, stream, from);
                }
                Err(error) => {
                    if context.warnings.not_accepted.is_first() {
                        tracing::warn!(%endpoint, %error, "cannot accept a connection");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
}

fn start_connection(
    context: &Arc<ServerContext>,
    endpoint: &HttpEndpoint,
    listener: &Listener,
    stream: TcpStream,
    from: SocketAddr,
) {
    let Ok(here) = stream.local_addr() else {
        return;
    };

    let ends = Ends { from, here };
    let owner = context.services.access.policy.owner;

    // Other users' processes get at most half of the connections.
    let permit = listener
        .connections
        .acquire(owner)
        .filter(|_permit| !listener.is_half_used() || !is_of_another_user(&ends, owner));
    let Some(permit) = permit else {
        let refused = listener.refused.fetch_add(1, Ordering::Relaxed) + 1;
        // One line for each connection would flood the log.
        if refused.is_power_of_two() {
            tracing::warn!(%endpoint, refused, "refused: too many connections");
        }
        return;
    };

    // Both are optimizations, so their errors are ignored.
    let _ = stream.set_nodelay(true);
    let _ = set_socket_send_buffer_size(&stream, SEND_BUFFER);

    let connection = HttpConnection::new(Arc::clone(context), endpoint.clone(), ends);
    let connection = Arc::new(connection);
    context.tasks.spawn(async move {
        let _permit = permit;
        connection.serve(stream).await;
    });
}

fn is_of_another_user(ends: &Ends, owner: u32) -> bool {
    ends.other().is_some_and(|socket| socket.uid != owner)
}
