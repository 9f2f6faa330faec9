//! The daemon's life: arguments, configuration, bind early, serve, drain.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub mod inherited_fds;
pub mod reload;
#[cfg(target_os = "linux")]
pub mod state_transfer;

use clap::Parser;
use futures_util::FutureExt;
use rolekeeper::connect;
use rolekeeper::protocol::{EndCause, Failure};
use thiserror::Error;
use tokio::runtime::{self, Runtime};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use self::inherited_fds::{Inherited, InheritedState};
use crate::access::policy::Policy;
use crate::app::reload::{Next, Program, keep_stored, pack, store, take_over};
use crate::app::state_transfer::HandoffTarget;
use crate::cache::Cache;
use crate::clock::{Clock, Timer};
use crate::config::file::{self, ConfigError};
use crate::config::{AlsoTo, Config, TokenLocation, UpstreamConfig};
use crate::credentials::{Broker, Stores};
use crate::journal::Journal;
use crate::login::RotationStates;
use crate::model::UpstreamId;
use crate::platform::private_file::of_socket;
use crate::platform::sys::{self, Told};
use crate::revocation::store::{RevocationStore, RevocationStoreError};
use crate::sandbox::helper::command_runner::CommandRunner;
use crate::sandbox::helper::peer_inspector::PeerInspector;
use crate::sandbox::{self, AllowedPaths};
use crate::serve::http::Endpoints;
use crate::serve::socket::bind::{BindError, BoundSocket, adopt, bind};
use crate::serve::{self, ServerContext};
use crate::token_source::TokenSource;
use crate::upstream::bycloud::{ByCloud, SetupError};
use crate::upstream::handle::UpstreamHandle;

/// Assumes roles, keeps their sessions fresh, and hands out short-lived credentials over a local socket.
#[derive(Debug, Parser)]
#[command(name = "rolekeeperd", version)]
#[command(
    after_help = "Exit codes: 0 stopped when told to, 1 unexpected, 2 usage or configuration, 3 the socket cannot be served.\n\n\
    Prints one line of JSON on standard output when it serves; logs to standard error. SIGTERM and SIGINT end it\n\
    once the requests under way are answered, within 5 s. SIGHUP puts the program and the configuration that are on\n\
    disk in the place of the running ones, if they are sound: sessions stay, and no request for credentials is lost."
)]
pub struct Args {
    /// The configuration [default: $ROLEKEEPER_CONFIG, else $XDG_CONFIG_HOME/rolekeeper/config.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The socket [default: $ROLEKEEPER_SOCKET, else $XDG_RUNTIME_DIR/rolekeeper/socket]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Validate the configuration and exit
    #[arg(long)]
    check: bool,
    /// What is logged: a level, or target=level, separated by commas
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: Targets,
    /// Leave the terminal's session and the working folder, as a daemon that a client starts does
    #[arg(long)]
    detach: bool,
}

/// How long what cannot be cancelled may hold up the end: a name that is being looked up, say.
const RUNTIME_END: Duration = Duration::from_secs(1);

/// How long the last answers and what is to be revoked may hold up the end.
const END: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
pub enum AppError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{}", .0.message)]
    Socket(Failure),
    #[error("the socket cannot be served: {0}")]
    Bind(#[from] BindError),
    #[error(transparent)]
    Upstream(#[from] SetupError),
    #[error(transparent)]
    RevocationStore(#[from] RevocationStoreError),
    #[error("the runtime cannot be started: {0}")]
    Runtime(io::Error),
    #[error("the descriptors that this process was started with cannot be used: {0}")]
    Inherited(io::Error),
    #[error("the program on disk cannot be started in the place of this one: {0}")]
    HandOver(io::Error),
}

impl AppError {
    pub fn hint(&self) -> String {
        match self {
            Self::Config(error) => error.hint(),
            Self::Socket(failure) => failure.hint.clone(),
            Self::Bind(error) => error.hint(),
            Self::RevocationStore(error) => error.hint(),
            Self::Upstream(error) => error.hint().into(),
            Self::Inherited(_) => {
                "see LISTEN_FDS, LISTEN_FDNAMES, ROLEKEEPER_HANDOVER and the unit's sockets".into()
            }
            Self::HandOver(_) => "start rolekeeperd again".into(),
            Self::Runtime(_) => "see the limits on processes and descriptors: ulimit -a".into(),
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Socket(_) => 2,
            Self::Bind(_) => 3,
            Self::Upstream(_)
            | Self::RevocationStore(_)
            | Self::Runtime(_)
            | Self::Inherited(_)
            | Self::HandOver(_) => 1,
        }
    }
}

pub fn run(args: Args) -> Result<(), AppError> {
    let program = program().map_err(AppError::Runtime)?;
    let path = std::path::absolute(file::path(args.config)?).map_err(AppError::Runtime)?;
    let config = file::load(&path)?;
    if args.check {
        let (upstreams, profiles) = (config.upstreams.len(), config.profiles().count());
        println!(
            "{}: {upstreams} upstream(s), {profiles} profile(s), no errors",
            path.display()
        );
        return Ok(());
    }
    // Relative paths lead elsewhere once the folder is left.
    let (socket, state) = (
        connect::socket_path(args.socket).map_err(AppError::Socket)?,
        connect::state_folder(),
    );
    let state = state.and_then(|folder| std::path::absolute(folder).ok());
    let mut inherited = Inherited::take().map_err(AppError::Inherited)?;
    sys::prepare(args.detach, &inherited.raw());
    log_to_stderr(args.log.clone());
    let helpers = Helpers::of(&program, &mut inherited, &config).map_err(AppError::Runtime)?;
    let at = inherited.socket_path().unwrap_or_else(|| socket.clone());
    sandbox::confine(&AllowedPaths::of(
        &config,
        &program,
        &path,
        &at,
        state.as_deref(),
    ));
    // From here on there are other threads, which are as confined as this one.
    helpers.lookout.listen().map_err(AppError::Runtime)?;
    // A reply of an upstream takes longer to read than a request of a tool, and is waited for less often.
    let (serving, background) = (runtime(2, || {})?, runtime(1, sys::give_way)?);
    let door = serving.block_on(async {
        Ok::<_, AppError>(match inherited.socket() {
            Some(socket) => adopt(socket)?,
            None => bind(&socket)?,
        })
    })?;
    let endpoint_port = config.endpoint_port;
    helpers.lookout.watch_for(
        config
            .profiles()
            .any(|profile| profile.callers.is_guarded()),
    );
    let broker = background
        .block_on(async { broker(config, state, &door.path, helpers.starter.as_ref()) })?;
    let alarm = background
        .block_on(async { Timer::new(&broker.clock) })
        .map_err(AppError::Runtime)?;
    broker.restore();
    take_over(&broker, inherited.sessions);
    let endpoints = serving.block_on(async {
        Endpoints::start(
            &door.path,
            inherited.endpoints,
            endpoint_port,
            &broker.cache,
            &broker.clock.now(),
        )
    });
    let endpoints = Arc::new(endpoints);
    background.spawn(Arc::clone(&broker).keep_fresh(alarm));
    background.spawn(keep_stored(Arc::clone(&broker)));
    #[cfg(target_os = "linux")]
    crate::desktop::start(&broker);
    let program = Program {
        path: program,
        config: path,
        socket: door.path.clone(),
        log: args.log,
    };
    let next = serving
        .block_on(serve_until_stopped(
            door, broker, endpoints, helpers, program,
        ))
        .map_err(AppError::Runtime)?;
    // Nothing of this process may run beside the one that comes next.
    serving.shutdown_timeout(RUNTIME_END);
    background.shutdown_timeout(RUNTIME_END);
    match next {
        None => Ok(()),
        Some(next) => Err(AppError::HandOver(next.start())),
    }
}

fn runtime(threads: usize, begin: fn()) -> Result<Runtime, AppError> {
    let mut builder = runtime::Builder::new_multi_thread();
    builder
        .worker_threads(threads)
        .on_thread_start(begin)
        .enable_all()
        .build()
        .map_err(AppError::Runtime)
}

/// The program on disk, by the name that it was started by if that leads to it: a link may lead to a newer one one day.
fn program() -> io::Result<PathBuf> {
    let name = std::env::args_os()
        .next()
        .map(PathBuf::from)
        .filter(|name| name.is_absolute() && name.is_file());
    name.map_or_else(std::env::current_exe, Ok)
}

/// The processes that this one starts while it is not confined, or that an earlier one has started.
struct Helpers {
    lookout: Arc<PeerInspector>,
    /// Where a program prints a token.
    starter: Option<Arc<CommandRunner>>,
}

impl Helpers {
    fn of(program: &Path, inherited: &mut Inherited, config: &Config) -> io::Result<Self> {
        // What is put in the place of a confined process is as confined, and so is what that starts.
        let is_first = inherited.lookout.is_none();
        let lookout = match inherited.lookout.take() {
            Some(socket) => PeerInspector::at(socket),
            None if cfg!(target_os = "linux") => PeerInspector::start(program)?,
            None => PeerInspector::none()?,
        };
        let words = |upstream: &UpstreamConfig| match &upstream.token {
            TokenLocation::Command { words, .. } => Some(words.clone()),
            _ => None,
        };
        let known: Vec<_> = config.upstreams.iter().filter_map(words).collect();
        let starter = match inherited.starter.take() {
            Some(socket) => Some(CommandRunner::at(socket)),
            None if is_first && !known.is_empty() => Some(CommandRunner::start(program, &known)?),
            None => None,
        };
        // One that was named at the start is known; after a reload there may be others.
        for words in known.iter().filter(|_| !is_first) {
            if !starter
                .as_ref()
                .is_some_and(|starter| starter.knows(words).unwrap_or(false))
            {
                let program = words.first();
                tracing::warn!(
                    program,
                    "it cannot be started; if it is new, restart rolekeeperd instead of reloading it"
                );
            }
        }
        Ok(Self {
            lookout,
            starter: starter.map(Arc::new),
        })
    }
}

fn broker(
    config: Config,
    state: Option<PathBuf>,
    socket: &Path,
    starter: Option<&Arc<CommandRunner>>,
) -> Result<Arc<Broker>, AppError> {
    let mut profiles = Vec::new();
    let mut upstreams = BTreeMap::new();
    let mut configured = config.upstreams;
    configured.sort_by(|one, other| one.name.cmp(&other.name));

    for (upstream, number) in configured.into_iter().zip(0..) {
        let token = TokenSource::new(Arc::clone(&upstream.name), upstream.token)
            .started_by(starter.cloned());
        let client = ByCloud::new(upstream.endpoint, upstream.way, token)?;
        let handle = UpstreamHandle::new(
            Arc::clone(&upstream.name),
            UpstreamId::new(number),
            Box::new(client),
            upstream.check_every,
        );
        for profile in upstream.profiles {
            profiles.push((profile, Arc::clone(&handle)));
        }
        upstreams.insert(upstream.name, handle);
    }

    let policy = Policy::for_all(
        sys::user(),
        profiles.iter().map(|(profile, _)| &profile.callers),
    );
    let credentials = |folder: &PathBuf| of_socket(folder, "credentials", socket, "json");
    let logins = RotationStates::at(state.as_ref().map(credentials));
    let books = Stores {
        journal: journal(state.clone(), socket, &config.also_to),
        revocations: revocations(state, socket)?,
        logins,
    };
    Ok(Broker::new(
        policy,
        Cache::new(profiles),
        upstreams,
        books,
        Clock::System,
    ))
}

/// The record of who was given credentials, in the user's state folder if it can be written there.
fn journal(folder: Option<PathBuf>, socket: &Path, also_to: &[AlsoTo]) -> Journal {
    let Some(folder) = folder else {
        tracing::warn!(
            "who is given credentials is remembered until this daemon ends: HOME is not set"
        );
        return Journal::in_memory();
    };
    let (path, before) = (
        of_socket(&folder, "journal", socket, "jsonl"),
        folder.join("leases.jsonl"),
    );
    std::fs::create_dir_all(&folder).and_then(|()| Journal::open(&path, &before, also_to)).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "who is given credentials is remembered until this daemon ends");
        Journal::in_memory()
    })
}

/// What must not be forgotten of revocations, in the same folder.
fn revocations(
    folder: Option<PathBuf>,
    socket: &Path,
) -> Result<RevocationStore, RevocationStoreError> {
    folder.map_or_else(
        || Ok(RevocationStore::in_memory()),
        |folder| RevocationStore::open(&of_socket(&folder, "revocations", socket, "json")),
    )
}

/// Serves until it is told to stop, or to make room for the program and the configuration that are on disk by then.
async fn serve_until_stopped(
    mut door: BoundSocket,
    broker: Arc<Broker>,
    endpoints: Arc<Endpoints>,
    helpers: Helpers,
    program: Program,
) -> io::Result<Option<Next>> {
    let Helpers { lookout, starter } = helpers;
    let mut signals = sys::Signals::new()?;
    announce(&door.path);
    loop {
        let desk = ServerContext::new(
            Arc::clone(&broker),
            Arc::clone(&endpoints),
            Arc::clone(&lookout),
            connections(&lookout),
        );
        let serving = tokio::spawn(serve::run(door, Arc::clone(&desk)));
        let told = loop {
            let told = signals.next().await;
            if told != Told::Reload {
                break told;
            }
            tokio::select! {
                is_sound = program.is_sound() => if is_sound { break told },
                told = signals.next_stop() => break told,
            }
        };
        tracing::info!(?told, "stopping");
        desk.stop.tell(told == Told::Reload);
        let stopped = serving.await.map_err(io::Error::other)?;
        if told != Told::Reload {
            let last = end(&broker, stopped.close());
            tokio::select! {
                () = last => {}
                told = signals.next_stop() => tracing::warn!(?told, "stopped at once"),
            }
            return Ok(None);
        }
        door = stopped.drain().await;
        // Much may have happened while the last requests were answered.
        if program.is_sound().await {
            if let Some(told) = signals.next_stop().now_or_never() {
                tracing::info!(?told, "stopping");
                end(&broker, std::future::ready(())).await;
                return Ok(None);
            }
            let sessions = pack(&broker, HandoffTarget::Successor);
            flush(&broker).await;
            let (socket, endpoints) = (door.leave_open()?, endpoints.leave_open()?);
            let lookout = Some(lookout.leave_open()?);
            let starter = starter.map(|starter| starter.leave_open()).transpose()?;
            let legacy = InheritedState {
                socket,
                endpoints,
                sessions,
                lookout,
                starter,
            };
            return Ok(Some(Next { program, legacy }));
        }
    }
}

/// The end: what is to be revoked with the daemon is, also what the last who ask were given. What the upstream has not
/// confirmed by then is left to the next daemon.
async fn end(broker: &Arc<Broker>, last_answers: impl Future<Output = ()>) {
    inherited_fds::stopping();
    let revoke = || broker.revoke_on(EndCause::Stopped, |on| on.stop);
    let first = async { broker.await_withdrawals(&revoke().await).await };
    let all = async {
        tokio::join!(last_answers, first);
        broker.await_withdrawals(&revoke().await).await;
    };
    if tokio::time::timeout(END, all).await.is_err() {
        revoke().await;
    }
    store(broker, 0);
    flush(broker).await;
}

/// How many connections there may be. One that is pinned holds three descriptors.
fn connections(lookout: &PeerInspector) -> usize {
    sys::connection_cap() / if lookout.has_pins() { 3 } else { 1 }
}

/// Everything is written, unless that takes too long.
async fn flush(broker: &Broker) {
    if tokio::time::timeout(END, broker.journal.flush())
        .await
        .is_err()
    {
        tracing::warn!("not all of the record was written");
    }
    broker.revocations.flush().await;
}

/// The line that says that clients may come. Whoever started the daemon may have stopped reading.
fn announce(socket: &Path) {
    let line = serde_json::json!({ "ready": true, "socket": socket, "pid": std::process::id() });
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    inherited_fds::ready();
    tracing::info!(socket = %socket.display(), version = env!("CARGO_PKG_VERSION"), "serving");
}

fn log_to_stderr(filter: Targets) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
}
