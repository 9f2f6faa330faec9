//! Starts the daemon if none is running. A lock ensures that concurrent clients start one daemon. If it cannot start, its
//! error is reported.

mod environment;
mod service_manager;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
#[cfg(unix)]
use std::sync::{Arc, atomic::AtomicBool};
use std::time::{Duration, Instant};

use interprocess::local_socket::Stream;
use rolekeeper::connect::{self, CONFIG_HOME_VARIABLE, CONFIG_VARIABLE, variable};
use rolekeeper::places;
use rolekeeper::protocol::{Code, DaemonStatus, Failure, Reply, Request};
use rolekeeper::shell::quoted_path;
use rolekeeper::{socket_owner, trust};

/// For another client's start to end. The daemon itself gives up after 10 s.
const START_DEADLINE: Duration = Duration::from_secs(12);

/// For a daemon that goes away to be followed by another one: a little more than it may take to end.
pub(crate) const FOLLOW_DEADLINE: Duration = Duration::from_secs(6);

/// The interval between two attempts, which doubles up to a maximum.
const MIN_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// A connection to the daemon. Starts the daemon if none is running.
pub(crate) fn open(socket: &Path) -> Result<Stream, Failure> {
    match connect::open(socket)? {
        Some(stream) => Ok(stream),
        None if connect::variable("ROLEKEEPER_AUTOSTART").is_some_and(|value| value == "0") => {
            Err(no_daemon(socket))
        }
        None if socket_owner::is_of_machine(socket) => Err(no_daemon(socket)),
        // A daemon would be a second one, with a state of its own: only a person starts that.
        None if connect::is_of_variable(socket) && !places::is_default(socket) => {
            Err(no_daemon(socket))
        }
        None => start(socket),
    }
}

/// Makes an idempotent request. Starts the daemon if none is running.
pub(crate) fn ask<T>(
    socket: &Path,
    exchange: impl Fn(&mut Stream) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let answer = ask_again(|| open(socket), exchange);
    answer.map_err(|failure| match failure.code {
        Code::UpstreamUnavailable => explain(socket, failure),
        _ => failure,
    })
}

/// Adds to an upstream's failure in what the daemon differs from this process, and so may not reach it.
fn explain(socket: &Path, mut failure: Failure) -> Failure {
    let Some(DaemonStatus { pid, launch, .. }) = daemon_status(socket) else {
        return failure;
    };

    if let Some(note) = other_network(launch.network.as_deref()) {
        failure.message += &format!("; {note}");
        failure.hint = format!("run kill {pid} and then the command again");
        return failure;
    }

    let ignored = environment::ignored();
    if launch.started_by == "client" && !ignored.is_empty() {
        failure.message += &format!(
            "; rolekeeperd does not use {} of this environment",
            ignored.join(", ")
        );
        failure.hint = format!(
            "set proxy or ca of the upstream in {}, if it needs them, or {}",
            launch.config, failure.hint
        );
    }

    failure
}

/// The status of the daemon that is running, without its profiles.
pub(crate) fn daemon_status(socket: &Path) -> Option<DaemonStatus> {
    let mut stream = connect::open(socket).ok()??;
    let text = connect::ask_any(&mut stream, Request::Status { after: None }).ok()?;
    match connect::reply(&text).ok()? {
        Reply::Status(page) => Some(page.daemon),
        _ => None,
    }
}

/// What to say if the daemon may be unable to reach what this process can.
pub(crate) fn other_network(network: Option<&str>) -> Option<&'static str> {
    let is_other = network.is_some() && network != connect::network().as_deref();
    is_other.then_some("the daemon was started in another network namespace than this one")
}

/// Makes an idempotent request. If the daemon exits before it answers, repeats the request with the next daemon.
pub(crate) fn ask_again<T>(
    open: impl Fn() -> Result<Stream, Failure>,
    exchange: impl Fn(&mut Stream) -> Result<T, Failure>,
) -> Result<T, Failure> {
    ask_and_keep(open, exchange).map(|(answer, _)| answer)
}

/// The same, and returns the connection of the answer too.
pub(crate) fn ask_and_keep<T>(
    open: impl Fn() -> Result<Stream, Failure>,
    exchange: impl Fn(&mut Stream) -> Result<T, Failure>,
) -> Result<(T, Stream), Failure> {
    let mut deadline = None;
    let mut pause = MIN_PAUSE;
    loop {
        match open().and_then(|mut stream| Ok((exchange(&mut stream)?, stream))) {
            Err(Failure { code, .. })
                // While another process restarts the daemon there is none for a moment.
                if (code == Code::ShuttingDown || (code == Code::NoDaemon && deadline.is_some()))
                    && Instant::now() < *deadline.get_or_insert_with(|| Instant::now() + FOLLOW_DEADLINE) =>
            {
                std::thread::sleep(pause);
            }
            answer => return answer,
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

pub(crate) fn no_daemon(socket: &Path) -> Failure {
    let path = socket.display();
    if socket_owner::is_of_machine(socket) {
        return Failure::new(
            Code::NoDaemon,
            format!("no daemon is running at {path}, the socket of the system-wide daemon"),
            "ask the administrator to run systemctl start rolekeeperd.socket",
        );
    }

    Failure::new(
        Code::NoDaemon,
        format!("no daemon is running at {path}"),
        format!("run rolekeeperd --detach{}", socket_option(socket)),
    )
}

/// The option for a daemon that is to serve at the socket, if it is not the default one.
fn socket_option(socket: &Path) -> String {
    let default = connect::socket_path(None);
    match default.is_ok_and(|default| default == socket) {
        true => String::new(),
        false => format!(" --socket {}", quoted_path(socket)),
    }
}

fn start(socket: &Path) -> Result<Stream, Failure> {
    check_configuration(socket)?;

    let _only_one = lock(socket)?;
    // Another client may have started it while this one waited for the lock.
    if let Some(stream) = connect::open(socket)? {
        return Ok(stream);
    }

    if service_manager::start(socket)
        && let Some(stream) = connect::open(socket)?
    {
        return Ok(stream);
    }

    let output = run_daemon(socket)?;
    match connect::open(socket) {
        Ok(Some(stream)) => Ok(stream),
        _ if output.status.success() => Err(Failure::new(
            Code::ShuttingDown,
            "rolekeeperd exited as soon as it was ready",
            "run the command again",
        )),
        // Another process, such as a service manager, may have started it first.
        _ => Err(not_started(&output, socket)),
    }
}

/// The path without links.
fn resolved(path: PathBuf) -> PathBuf {
    path.canonicalize().unwrap_or(path)
}

/// A daemon outlives its client, and serves all others. Only a person starts it with another configuration.
fn check_configuration(socket: &Path) -> Result<(), Failure> {
    let Some((variable, wanted)) = other_configuration() else {
        return Ok(());
    };

    Err(Failure::new(
        Code::NoDaemon,
        format!(
            "no daemon is running, and rolekeeper starts none with the configuration of {variable}"
        ),
        format!(
            "run rolekeeperd --detach --config {}{}, or remove {variable} from the environment",
            quoted_path(&wanted),
            socket_option(socket)
        ),
    ))
}

/// A configuration that the environment names, and its variable, if it is not the user's usual one. With `XDG_CONFIG_HOME`, it
/// may be the usual one, unless there is one in the home, too.
fn other_configuration() -> Option<(&'static str, PathBuf)> {
    let default = places::default_config();
    let named = variable(CONFIG_VARIABLE).and_then(|path| std::path::absolute(path).ok());
    if let Some(named) = named {
        let is_default =
            default.is_some_and(|default| resolved(default) == resolved(named.clone()));
        return (!is_default).then_some((CONFIG_VARIABLE, named));
    }

    let default = default.filter(|path| path.exists())?;
    let in_home = places::config_in(&places::home()?.join(".config"));
    let is_other = in_home.exists() && resolved(in_home) != resolved(default.clone());
    is_other.then_some((CONFIG_HOME_VARIABLE, default))
}

/// The lock file, locked until the daemon is ready. Creates the socket's folder with mode 700.
fn lock(socket: &Path) -> Result<File, Failure> {
    let folder = connect::folder_of(socket);
    places::create_private(folder).map_err(|error| cannot_lock(folder, &error))?;
    let file = private_file()
        .append(true)
        .open(folder.join("autostart.lock"))
        .map_err(|error| cannot_lock(folder, &error))?;
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(MIN_PAUSE);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(
                    Code::NoDaemon,
                    "no daemon is running, and another client has been starting one for a while",
                    "run the command again",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(cannot_lock(folder, &error)),
        }
    }
}

fn cannot_lock(folder: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Code::NoDaemon,
        format!(
            "no daemon is running, and the folder {} cannot be used to start one: {error}",
            folder.display()
        ),
        socket_owner::OTHER_PATH,
    )
}

/// Starts the daemon in the background. Returns once it serves, or has failed.
fn run_daemon(socket: &Path) -> Result<Output, Failure> {
    // With a handler, the system keeps the child's exit code, even if the caller of this program ignores the signal.
    #[cfg(unix)]
    {
        let ended = Arc::new(AtomicBool::new(false));
        let _ = signal_hook::flag::register(signal_hook::consts::SIGCHLD, ended);
    }

    let program = program()?;
    Command::new(&program)
        .args(["--detach", "--socket"])
        .arg(socket)
        .env_clear()
        .envs(environment::of_daemon())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Failure::new(
                Code::NoDaemon,
                format!(
                    "no daemon is running, and {} cannot be started: {error}",
                    program.display()
                ),
                "install rolekeeperd beside rolekeeper, or in a folder of PATH",
            )
        })
}

/// `rolekeeperd` beside this program, else in `PATH`. One that another user can replace is ignored.
fn program() -> Result<PathBuf, Failure> {
    let name = format!("rolekeeperd{}", std::env::consts::EXE_SUFFIX);
    let own_folder = std::env::current_exe().ok();
    let own_folder = own_folder.and_then(|me| Some(me.parent()?.to_owned()));
    let path = variable("PATH").unwrap_or_default();
    let folders = own_folder.into_iter().chain(std::env::split_paths(&path));

    let mut ignored = String::new();
    // A relative folder is another one in each working folder.
    for folder in folders.filter(|folder| folder.is_absolute()) {
        let program = folder.join(&name);
        if !program.is_file() {
            continue;
        }
        match trust::check_program(&program) {
            Ok(()) => return Ok(program),
            Err(reason) => {
                ignored += &format!("; {} is ignored: {reason}", program.display());
            }
        }
    }

    Err(Failure::new(
        Code::NoDaemon,
        format!(
            "no daemon is running, and rolekeeperd cannot be started: it was not found{ignored}"
        ),
        "install rolekeeperd beside rolekeeper, or in a folder of PATH that only you and root can write",
    ))
}

fn not_started(output: &Output, socket: &Path) -> Failure {
    let code = match output.status.code() {
        Some(2) => Code::Configuration,
        // A signal terminated it.
        None => Code::ShuttingDown,
        Some(_) => Code::NoDaemon,
    };

    let text = String::from_utf8_lossy(&output.stderr);
    // The hint of the daemon's error becomes the hint of this one.
    let (what, hint) = match text.rsplit_once("\n  try: ") {
        Some((what, hint)) => (what, hint.trim().to_owned()),
        None => {
            let hint = format!(
                "run rolekeeperd{}, and read what it prints",
                socket_option(socket)
            );
            (&*text, hint)
        }
    };

    let what = match what.trim().trim_start_matches("rolekeeperd: ") {
        "" => "it printed no error",
        what => what,
    };

    Failure::new(code, format!("rolekeeperd cannot start: {what}"), hint)
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
