//! Accepts connections, in a thread of its own. All connections wait behind each other to be accepted, and any process can
//! connect as fast as it likes. So this decides with few system calls what becomes of a connection, and only one that is
//! served costs a task.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use interprocess::local_socket::tokio::Stream;
use interprocess::os::unix::uds_local_socket::tokio::Stream as UdSocket;
use rolekeeper::frame::FrameError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::pipe::{PipeFlags, pipe_with};

use super::bind::BoundSocket;
use super::connection::{refuse, refuse_busy, serve};
use crate::access::peer::Peer;
use crate::serve::limits::ConnectionPermit;
use crate::serve::{ACCEPT_PAUSE, ServerContext};

/// After so many connections that are not served, accepting pauses. The processes that make them wait meanwhile, instead of
/// using the processors as fast as this thread makes room for them.
const USELESS: usize = 16;
const USELESS_PAUSE: Duration = Duration::from_micros(200);

/// Accepts connections until the shutdown starts.
pub(crate) async fn run(socket: BoundSocket, context: &Arc<ServerContext>) -> BoundSocket {
    let (stopped, stop) = match pipe_with(PipeFlags::CLOEXEC) {
        Ok(ends) => ends,
        Err(error) => {
            tracing::error!(%error, "cannot accept connections; restart rolekeeperd");
            context.shutdown.started().await;
            return socket;
        }
    };

    let accepting = Arc::clone(context);
    let thread = tokio::task::spawn_blocking(move || {
        accept_all(&socket, &stopped, &accepting);
        socket
    });

    context.shutdown.started().await;
    drop(stop);

    match thread.await {
        Ok(socket) => socket,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// `stopped` is closed once the shutdown has started.
fn accept_all(socket: &BoundSocket, stopped: &OwnedFd, context: &Arc<ServerContext>) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stopping = || PollFd::new(stopped, PollFlags::empty());

    let mut useless = 0;

    while !context.shutdown.has_started() {
        let _ = match accept_with(&socket.listener, flags) {
            Ok(connection) => {
                useless += usize::from(!start(connection, context));
                if useless >= USELESS {
                    useless = 0;
                    thread::sleep(USELESS_PAUSE);
                }
                continue;
            }
            Err(Errno::AGAIN) => {
                let arrived = PollFd::new(&socket.listener, PollFlags::IN);
                poll(&mut [arrived, stopping()], None)
            }
            Err(error) => {
                if context.warnings.not_accepted.is_first() {
                    tracing::warn!(%error, "cannot accept a connection");
                }
                let pause = Timespec::try_from(ACCEPT_PAUSE).unwrap_or_default();
                poll(&mut [stopping()], Some(&pause))
            }
        };
    }
}

/// Whether the connection is served.
fn start(connection: OwnedFd, context: &Arc<ServerContext>) -> bool {
    let Some((connection, peer, permit)) = admit(connection, context) else {
        return false;
    };

    let (uid, pid) = (peer.uid, peer.pid);
    let stream = match UdSocket::try_from(connection) {
        Ok(stream) => Stream::UdSocket(stream),
        Err(error) => {
            tracing::debug!(?pid, %error, "cannot serve a connection");
            return false;
        }
    };

    let served = Arc::clone(context);
    context.tasks.spawn(async move {
        let _permit = permit;
        if let Err(error) = serve(stream, peer, &served).await {
            log_end(uid, pid, &error, &served);
        }
    });

    true
}

fn admit(
    connection: OwnedFd,
    context: &ServerContext,
) -> Option<(OwnedFd, Peer, ConnectionPermit)> {
    if is_closed_by_peer(&connection) {
        return None;
    }

    let access = &context.services.access;
    let inspector = &context.peer_inspector;
    let mut peer = Peer::of(&connection, inspector, access.policy.names_groups()).ok()?;

    let (uid, pid) = (peer.uid, peer.pid);
    let warnings = &context.warnings;
    if let Err(error) = access.authorize_connection(&peer) {
        if warnings.user_not_served.is_first() {
            tracing::warn!(uid, ?pid, "refused: another user's process");
        }
        refuse(&connection, (&error).into());
        return None;
    }

    let Some(permit) = context.connections.acquire(uid) else {
        if warnings.too_many_connections.is_first() {
            tracing::warn!(uid, ?pid, "refused: too many connections");
        }
        refuse_busy(&connection);
        return None;
    };

    if inspector.pins_peers() {
        peer.open_pidfd(&connection);
    }

    Some((connection, peer, permit))
}

fn log_end(uid: u32, pid: Option<i32>, error: &FrameError, context: &ServerContext) {
    let is_bad = matches!(
        error,
        FrameError::Truncated { .. } | FrameError::TooLarge { .. }
    );
    if is_bad && context.warnings.bad_frame.is_first() {
        tracing::warn!(uid, ?pid, %error, "refused: an invalid frame");
    }

    tracing::debug!(?pid, %error, "a connection ended early");
}

/// Whether the peer has closed the connection. Its request, if there is one, has no reader for a reply.
fn is_closed_by_peer(connection: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(connection, PollFlags::empty())];
    let outcome = poll(&mut polled, Some(&Timespec::default()));

    outcome.is_ok() && polled[0].revents().contains(PollFlags::HUP)
}
