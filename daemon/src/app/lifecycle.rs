//! Serves until a signal stops or reloads the daemon.

use std::future::Future;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinError;

use super::AppError;
use super::aws_watch::AwsWatch;
use super::daemon::Daemon;
use super::helpers::Helpers;
use super::inherited_fds::{self, InheritedState};
use super::reload::{Next, Program, pack, store};
use super::state_transfer::HandoffTarget;
use super::stores::StateFolder;
use crate::model::EndCause;
use crate::platform::limits;
use crate::platform::signals::{SignalRequest, Signals};
use crate::sandbox::helper::peer_inspector::PeerInspector;
use crate::serve::http::Endpoints;
use crate::serve::launch::Launch;
use crate::serve::socket::bind::{BoundSocket, SocketWatch};
use crate::serve::{self, ServerContext};

/// How long open requests and revocations may delay the end.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Returns what to start in place of this process, if it is reloaded.
pub(super) async fn serve_until_stopped(
    mut socket: BoundSocket,
    daemon: Arc<Daemon>,
    endpoints: Arc<Endpoints>,
    helpers: Helpers,
    state_folder: Option<StateFolder>,
    program: Program,
    mut aws_watch: Option<AwsWatch>,
) -> Result<Option<Next>, AppError> {
    let mut signals = Signals::new().map_err(AppError::Runtime)?;
    let launch = Arc::new(Launch::new(
        &program.config,
        &socket.path,
        state_folder
            .as_ref()
            .map(|folder| (&*folder.path, folder.problem())),
        inherited_fds::is_supervised(),
    ));
    announce(&socket.path);

    loop {
        let context = ServerContext::new(
            daemon.services.clone(),
            Arc::clone(&launch),
            Arc::clone(&endpoints),
            Arc::clone(&helpers.peer_inspector),
            max_connections(&helpers.peer_inspector),
        );
        let watch = socket.watch();
        let serving = tokio::spawn(serve::run(socket, Arc::clone(&context)));

        let signal = tokio::select! {
            signal = next_signal(&mut signals, &program, aws_watch.as_mut()) => signal,
            () = removed(watch) => {
                tracing::warn!(path = %program.socket.display(), "the socket was removed");
                context.shutdown.start(true);
                let stopped = serving.await.map_err(failed)?;
                socket = rebind(stopped.drain().await, &daemon, state_folder.as_ref()).await?;
                continue;
            }
        };
        tracing::info!(?signal, "stopping");
        context.shutdown.start(signal == SignalRequest::Reload);
        let stopped = serving.await.map_err(failed)?;

        if signal != SignalRequest::Reload {
            tokio::select! {
                () = stop(&daemon, stopped.close()) => {}
                signal = signals.next_stop() => tracing::warn!(?signal, "stopped at once"),
            }
            return Ok(None);
        }

        socket = stopped.drain().await;

        // The program or the configuration may have changed while the last requests were answered.
        if !program.is_valid().await {
            continue;
        }
        if let Some(signal) = signals.next_stop().now_or_never() {
            tracing::info!(?signal, "stopping");
            stop(&daemon, std::future::ready(())).await;
            return Ok(None);
        }

        let state_folder = state_folder.as_ref();
        let state = hand_over(&daemon, &mut socket, &endpoints, &helpers, state_folder)
            .await
            .map_err(AppError::Runtime)?;
        return Ok(Some(Next { program, state }));
    }
}

fn failed(panicked: JoinError) -> AppError {
    AppError::Runtime(io::Error::other(panicked))
}

async fn removed(watch: Option<SocketWatch>) {
    match watch {
        Some(watch) => watch.removed().await,
        None => std::future::pending().await,
    }
}

/// A daemon that no client can find makes its socket anew, or ends.
async fn rebind(
    socket: BoundSocket,
    daemon: &Arc<Daemon>,
    state_folder: Option<&StateFolder>,
) -> Result<BoundSocket, AppError> {
    let rebound = socket.rebind().map_err(AppError::from).and_then(|socket| {
        state_folder.map_or(Ok(()), StateFolder::keep)?;
        Ok(socket)
    });

    if rebound.is_err() {
        stop(daemon, std::future::ready(())).await;
    }

    rebound
}

/// A reload that is not valid is logged and ignored.
async fn next_signal(
    signals: &mut Signals,
    program: &Program,
    mut aws_watch: Option<&mut AwsWatch>,
) -> SignalRequest {
    loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            () = aws_files_changed(aws_watch.as_deref_mut()) => SignalRequest::Reload,
        };
        if signal != SignalRequest::Reload {
            return signal;
        }

        tokio::select! {
            is_valid = program.is_valid() => if is_valid { return signal },
            signal = signals.next_stop() => return signal,
        }
    }
}

async fn aws_files_changed(watch: Option<&mut AwsWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn hand_over(
    daemon: &Arc<Daemon>,
    socket: &mut BoundSocket,
    endpoints: &Endpoints,
    helpers: &Helpers,
    state_folder: Option<&StateFolder>,
) -> io::Result<InheritedState> {
    let sessions = pack(daemon, HandoffTarget::Successor);
    flush(daemon).await;

    let command_runner = helpers.command_runner.as_ref();
    Ok(InheritedState {
        socket: socket.leave_open()?,
        state_lock: state_folder.map_or(Ok(None), StateFolder::try_clone_lock)?,
        endpoints: endpoints.leave_open()?,
        sessions,
        peer_inspector: Some(helpers.peer_inspector.try_clone_socket()?),
        command_runner: command_runner
            .map(|runner| runner.try_clone_socket())
            .transpose()?,
    })
}

/// Revokes what is configured to end with the daemon, also what the last requests got. What the upstream has not confirmed
/// by then is left to the next daemon.
async fn stop(daemon: &Arc<Daemon>, last_requests: impl Future<Output = ()>) {
    inherited_fds::stopping();

    let revocation = &daemon.services.revocation;
    let revoke = || revocation.revoke_on(EndCause::DaemonStopped, |on| on.stop);
    let revoke_first = async { revocation.outbox.wait_until_tried(&revoke().await).await };
    let all = async {
        tokio::join!(last_requests, revoke_first);
        revocation.outbox.wait_until_tried(&revoke().await).await;
    };

    if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
        revoke().await;
    }

    store(daemon, 0);
    flush(daemon).await;
}

/// Waits until everything is written, unless that takes too long.
async fn flush(daemon: &Daemon) {
    daemon.services.revocation.flush(STOP_LIMIT).await;

    let journalled = tokio::time::timeout(STOP_LIMIT, daemon.journal.flush()).await;
    if journalled.is_err() {
        tracing::warn!("not all of the journal was written");
    }
}

/// A connection whose process is pinned needs three descriptors.
fn max_connections(peer_inspector: &PeerInspector) -> usize {
    let per_connection = if peer_inspector.pins_peers() { 3 } else { 1 };
    limits::connection_cap() / per_connection
}

/// Prints the line that tells the client to connect. The process that started the daemon may have stopped reading.
fn announce(socket: &Path) {
    // First the log: a process that waits for the readiness line may read this one next.
    tracing::info!(socket = %socket.display(), version = env!("CARGO_PKG_VERSION"), "serving");

    let line = serde_json::json!({ "ready": true, "socket": socket, "pid": std::process::id() });
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());

    inherited_fds::ready();
}
