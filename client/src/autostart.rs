//! Starts the daemon if none is running. A lock ensures that concurrent clients start one daemon. If it cannot start, its
//! error is reported.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use interprocess::local_socket::Stream;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};

/// From starting a daemon to its readiness line, and for another client's start to end.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// For a daemon that goes away to be followed by another one: a little more than it may take to end.
pub(crate) const FOLLOW_DEADLINE: Duration = Duration::from_secs(6);

/// The interval between two attempts, which doubles up to a maximum.
const MIN_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// The size in bytes above which the next start truncates the log.
const MAX_LOG: u64 = 1024 * 1024;

/// A connection to the daemon. Starts the daemon if none is running.
pub(crate) fn open(socket: &Path) -> Result<Stream, Failure> {
    match connect::open(socket)? {
        Some(stream) => Ok(stream),
        None if connect::variable("ROLEKEEPER_AUTOSTART").is_some_and(|value| value == "0") => {
            Err(no_daemon(socket))
        }
        None if connect::is_of_machine(socket) => Err(Failure::new(
            Code::NoDaemon,
            format!(
                "no daemon is running at {}, the socket of the system-wide daemon",
                socket.display()
            ),
            "ask the administrator to run systemctl start rolekeeperd.socket",
        )),
        None => start(socket),
    }
}

/// Makes an idempotent request. Starts the daemon if none is running.
pub(crate) fn ask<T>(
    socket: &Path,
    exchange: impl Fn(&mut Stream) -> Result<T, Failure>,
) -> Result<T, Failure> {
    ask_again(|| open(socket), exchange)
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
    Failure::new(
        Code::NoDaemon,
        format!("no daemon is running at {}", socket.display()),
        format!("run rolekeeperd --socket {}", socket.display()),
    )
}

fn start(socket: &Path) -> Result<Stream, Failure> {
    let _only_one = lock(socket)?;
    // Another client may have started it while this one waited for the lock.
    if let Some(stream) = connect::open(socket)? {
        return Ok(stream);
    }

    let log = Log::open()?;
    let mut daemon = spawn(socket, &log)?;
    match ready(&mut daemon) {
        Ready::Yes => connect::open(socket)?.ok_or_else(|| {
            Failure::new(
                Code::ShuttingDown,
                "rolekeeperd exited as soon as it was ready",
                "run the command again",
            )
        }),
        // Another process, such as a service manager, may have started it first.
        Ready::Exited => match connect::open(socket) {
            Ok(Some(stream)) => Ok(stream),
            _ => Err(not_started(&mut daemon, &log)),
        },
        Ready::TimedOut => {
            let _ = daemon.kill();
            Err(Failure::new(
                Code::NoDaemon,
                format!(
                    "rolekeeperd was not ready within {} s",
                    START_DEADLINE.as_secs()
                ),
                format!(
                    "read {}, or run rolekeeperd in the foreground",
                    log.path.display()
                ),
            ))
        }
    }
}

/// The lock file, locked until the daemon is ready. Creates the socket's folder with mode 700.
fn lock(socket: &Path) -> Result<File, Failure> {
    let folder = connect::folder_of(socket);
    private_folder(folder).map_err(|error| cannot_lock(folder, &error))?;
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
                return Err(cannot_lock(folder, &"another client is starting it"));
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
        "start rolekeeperd yourself, or set ROLEKEEPER_SOCKET to another path",
    )
}

fn spawn(socket: &Path, log: &Log) -> Result<Child, Failure> {
    let program = program();
    Command::new(&program)
        .arg("--detach")
        .arg("--socket")
        .arg(socket)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.stderr()?)
        .spawn()
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

/// `rolekeeperd` beside this program, else in `PATH`.
fn program() -> PathBuf {
    let name = format!("rolekeeperd{}", std::env::consts::EXE_SUFFIX);
    std::env::current_exe()
        .map(|me| me.with_file_name(&name))
        .ok()
        .filter(|beside| beside.is_file())
        .unwrap_or_else(|| name.into())
}

enum Ready {
    Yes,
    Exited,
    TimedOut,
}

/// Waits for the daemon's first line of output, which means that it serves. Without a line it failed to start.
fn ready(daemon: &mut Child) -> Ready {
    let Some(out) = daemon.stdout.take() else {
        return Ready::Exited;
    };

    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(out).read_line(&mut line);
        let _ = sender.send(read.is_ok_and(|bytes| bytes > 0));
    });

    match receiver.recv_timeout(START_DEADLINE) {
        Ok(true) => Ready::Yes,
        Ok(false) => Ready::Exited,
        Err(_) => Ready::TimedOut,
    }
}

fn not_started(daemon: &mut Child, log: &Log) -> Failure {
    let code = match daemon.wait().map(|status| status.code()) {
        Ok(Some(2)) => Code::Configuration,
        // A signal terminated it.
        Ok(None) => Code::ShuttingDown,
        _ => Code::NoDaemon,
    };

    let output = log.new_text();
    // The hint of the daemon's error becomes the hint of this one.
    let (what, hint) = match output.rsplit_once("\n  try: ") {
        Some((what, hint)) => (what, hint.trim()),
        None => (output.as_str(), "run rolekeeperd --check"),
    };

    let what = match what.trim().trim_start_matches("rolekeeperd: ") {
        "" => "it printed no error",
        what => what,
    };

    Failure::new(code, format!("rolekeeperd cannot start: {what}"), hint)
}

/// The log of a daemon that a client started: `rolekeeperd.log` in the state folder.
struct Log {
    path: PathBuf,
    file: File,
    start: u64,
}

impl Log {
    fn open() -> Result<Self, Failure> {
        let folder = connect::state_folder().unwrap_or_else(std::env::temp_dir);
        let path = folder.join("rolekeeperd.log");
        private_folder(&folder)
            .and_then(|()| private_file().append(true).read(true).open(&path))
            .and_then(|file| {
                if file.metadata()?.len() > MAX_LOG {
                    file.set_len(0)?;
                }
                let start = file.metadata()?.len();
                Ok(Self {
                    path: path.clone(),
                    file,
                    start,
                })
            })
            .map_err(|error| {
                Failure::new(
                    Code::NoDaemon,
                    format!(
                        "no daemon is running, and its log {} cannot be written: {error}",
                        path.display()
                    ),
                    "start rolekeeperd yourself, or set XDG_STATE_HOME to a folder of your own",
                )
            })
    }

    fn stderr(&self) -> Result<Stdio, Failure> {
        self.file.try_clone().map(Stdio::from).map_err(|error| {
            Failure::new(
                Code::Unexpected,
                format!("cannot pass the log to the daemon: {error}"),
                "run the command again",
            )
        })
    }

    /// The text that was written since the log was opened.
    fn new_text(&self) -> String {
        let mut text = String::new();
        let mut file = &self.file;
        let read = file
            .seek(SeekFrom::Start(self.start))
            .and_then(|_| file.read_to_string(&mut text));
        read.map_or_else(|error| format!("its log cannot be read: {error}"), |_| text)
    }
}

#[cfg(unix)]
fn private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

#[cfg(not(unix))]
fn private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
