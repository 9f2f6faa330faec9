//! The daemon's program: arguments, configuration, early bind, sandbox, wiring, serving.

mod args;
mod aws_watch;
mod background;
pub mod daemon;
mod helpers;
pub(crate) mod inherited_fds;
mod lifecycle;
mod log;
mod log_filter;
mod reload;
#[cfg(target_os = "linux")]
pub mod state_transfer;
pub mod stores;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rolekeeper::{connect, places};
use tokio::runtime::{self, Runtime};

use crate::access::policy::Policy;
use crate::clock::{Clock, Timer};
use crate::config::file::ConfigError;
use crate::config::used_files::{check_used_files, rules_for_scripts};
use crate::config::{AwsFiles, Config, file};
use crate::platform::{limits, process, users};
use crate::sandbox::{self, AllowedPaths};
use crate::serve::http::Endpoints;
use crate::serve::socket::bind::{BoundSocket, adopt, bind};
use crate::status;
use crate::text::one_line;
use aws_watch::AwsWatch;
use daemon::{Daemon, upstream_handles};
use helpers::Helpers;
use inherited_fds::Inherited;
use reload::{Program, keep_stored, take_over};
use stores::{StateFolder, Stores};

pub use crate::platform::limits::reset as reset_limits;
pub use args::{AppError, Args};

/// The option of the daemon that `--detach` starts.
pub const IN_BACKGROUND: &str = "--in-background";

/// How long a task that cannot be cancelled, such as a name lookup, may delay the end.
const RUNTIME_LIMIT: Duration = Duration::from_secs(1);

/// Returns the exit code.
pub fn run(args: Args) -> Result<u8, AppError> {
    let program = program_path().map_err(AppError::Runtime)?;
    let config_path = std::path::absolute(file::path(args.config)?).map_err(AppError::Runtime)?;

    if args.detach && !args.check {
        let socket = connect::socket_path(args.socket).map_err(AppError::Socket)?;
        return background::start(&background::Start {
            program: &program,
            config: &config_path,
            socket: &socket,
            state_folder: places::state_folder_of(&socket).as_deref(),
            log: &args.log,
        });
    }

    let mut config = file::load(&config_path)?;
    if args.check {
        check(&config, args.reload)?;
        print_summary(&config, &config_path);
        return Ok(0);
    }

    let mut inherited = Inherited::take().map_err(AppError::Inherited)?;
    let is_reload = inherited.is_reload();
    // Absolute, because the working folder changes below.
    let socket_path = match inherited.socket_path() {
        Some(path) => path,
        None => connect::socket_path(args.socket).map_err(AppError::Socket)?,
    };
    process::prepare(args.in_background, &inherited.raw());
    log::to_stderr(args.log.clone());
    if let Some(limit) = limits::too_few_descriptors() {
        return Err(AppError::Descriptors(limit));
    }

    let state_folder = places::state_folder_of(&socket_path);
    if let Some(folder) = &state_folder {
        places::remember_state_folder(&socket_path, folder);
    }

    let helpers = Helpers::start(&program, &mut inherited, &config).map_err(AppError::Runtime)?;
    sandbox::confine(&AllowedPaths::new(
        &config,
        &program,
        &config_path,
        &socket_path,
        state_folder.as_deref(),
    ));

    // Threads start only from here on, so that each of them is confined.
    helpers.listen(&config).map_err(AppError::Runtime)?;
    helpers
        .peer_inspector
        .set_pins_peers(has_guarded_profile(&config));
    // Replies of upstreams are read apart from requests, because they take longer and fewer callers wait for them.
    let serving = runtime(2, || {})?;
    let background = runtime(1, limits::lower_priority)?;

    // Before the socket: only the daemon that owns the state is reachable there.
    let state_lock = inherited.state_lock.take();
    let listens = inherited.has_socket();
    let state_folder = state_folder
        .map(|path| StateFolder::take(path, &socket_path, state_lock, listens))
        .transpose();
    let state_folder = match state_folder {
        // The error of the socket says more about a daemon that serves there.
        Err(in_use) if in_use.is_of_socket(&socket_path) => {
            serving.block_on(async { open_socket(&mut inherited, &socket_path) })?;
            return Err(in_use.into());
        }
        state_folder => state_folder?,
    };
    let socket = serving.block_on(async { open_socket(&mut inherited, &socket_path) })?;
    let endpoint_port = config.endpoint_port;
    let aws_files = config.aws_files.take();
    if let Some(files) = &aws_files {
        log_aws_files(files);
        status::record_aws_files(files);
    }
    let daemon = background.block_on(async { build(config, state_folder.as_ref(), &helpers) })?;
    let timer = background
        .block_on(async { Timer::new(&daemon.clock) })
        .map_err(AppError::Runtime)?;

    daemon.services.revocation.restore();
    take_over(&daemon, inherited.sessions);
    let endpoints = serving.block_on(async {
        Endpoints::start(
            &socket.path,
            inherited.endpoints,
            endpoint_port,
            &daemon.cache,
            &daemon.clock.now(),
        )
    });
    // A daemon that serves does not end because of a port.
    if !is_reload {
        serving
            .block_on(async { endpoints.open_configured() })
            .map_err(AppError::Endpoint)?;
    }

    background.block_on(async { daemon.start_scheduler(timer) });
    background.spawn(keep_stored(Arc::clone(&daemon)));
    #[cfg(target_os = "linux")]
    crate::desktop::start(
        &daemon.services.access,
        &daemon.services.revocation,
        &daemon.cache,
        background.handle(),
    );

    let program = Program {
        path: program,
        config: config_path,
        socket: socket.path.clone(),
        log: args.log,
    };
    let aws_watch = serving.block_on(async {
        let files = aws_files.as_ref()?;
        AwsWatch::new(program.config.clone(), files)
    });

    let next = serving.block_on(lifecycle::serve_until_stopped(
        socket,
        daemon,
        Arc::new(endpoints),
        helpers,
        state_folder,
        program,
        aws_watch,
    ))?;

    // No part of this process may run beside the next one.
    serving.shutdown_timeout(RUNTIME_LIMIT);
    background.shutdown_timeout(RUNTIME_LIMIT);

    match next {
        None => Ok(0),
        Some(next) => Err(AppError::Reload(next.start())),
    }
}

/// What a start needs besides a valid configuration. A running daemon needs no token.
fn check(config: &Config, is_reload: bool) -> Result<(), AppError> {
    process::install_crypto_provider();
    for upstream in &config.upstreams {
        crate::upstream::client(upstream, None)?;
    }

    // A running daemon keeps the profiles that it has.
    let problems = config.aws_files.as_ref().map(|files| &files.problems);
    if let Some(problems) = problems.filter(|problems| !problems.is_empty()) {
        return Err(ConfigError::UnusableAwsFiles(problems.clone()).into());
    }

    if !is_reload {
        check_used_files(config)?;
        for warning in rules_for_scripts(config) {
            eprintln!("rolekeeperd: warning: {warning}");
        }
    }

    Ok(())
}

fn print_summary(config: &Config, path: &Path) {
    println!(
        "{}: {} upstream(s), {} profile(s), no errors",
        path.display(),
        config.upstreams.len(),
        config.profiles().count()
    );
    let not_served = config.aws_files.iter().flat_map(|files| &files.not_served);
    for section in not_served {
        println!("{}", one_line(&section.to_string()));
    }
}

fn log_aws_files(files: &AwsFiles) {
    for problem in &files.problems {
        tracing::error!("{}", one_line(problem));
    }
    for section in &files.not_served {
        tracing::info!("{}", one_line(&section.to_string()));
    }
}

fn has_guarded_profile(config: &Config) -> bool {
    config
        .profiles()
        .any(|profile| profile.callers.is_guarded())
}

fn open_socket(inherited: &mut Inherited, path: &Path) -> Result<BoundSocket, AppError> {
    let socket = match inherited.socket() {
        Some(socket) => adopt(socket)?,
        None => bind(path)?,
    };

    Ok(socket)
}

fn build(
    config: Config,
    state_folder: Option<&StateFolder>,
    helpers: &Helpers,
) -> Result<Arc<Daemon>, AppError> {
    let stores = Stores::open(state_folder, &config.also_to)?;
    let (profiles, upstreams) =
        upstream_handles(config.upstreams, helpers.command_runner.as_ref())?;
    let callers = profiles.iter().map(|(profile, _)| &profile.callers);
    let policy = Policy::for_all(users::effective_uid(), callers);

    Ok(Arc::new(Daemon::new(
        policy,
        profiles,
        upstreams,
        stores,
        Clock::System,
    )))
}

fn runtime(threads: usize, on_thread_start: fn()) -> Result<Runtime, AppError> {
    runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .on_thread_start(on_thread_start)
        .enable_all()
        .build()
        .map_err(AppError::Runtime)
}

/// The program on disk. The name that it was started by is preferred, because a link may lead to a newer version later.
fn program_path() -> io::Result<PathBuf> {
    let name = std::env::args_os().next().map(PathBuf::from);

    match name.filter(|name| name.is_absolute() && name.is_file()) {
        Some(name) => Ok(name),
        None => std::env::current_exe(),
    }
}
