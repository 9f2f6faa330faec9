//! `--detach`: starts the daemon in the background. This process stays between the two until the daemon serves, so that the
//! daemon is not a child of the process that asked for it, which may wait for its children or end them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rolekeeper::connect;
use rolekeeper::socket_owner;
use tracing_subscriber::filter::Targets;

use super::{AppError, IN_BACKGROUND};
use crate::platform::private_file::{self, create_folder, writable};
use crate::platform::signals;

/// From the start to the line that says that the daemon serves.
pub(super) const START_LIMIT: Duration = Duration::from_secs(10);

/// The size in bytes above which the next start empties the log.
const MAX_LOG: u64 = 1024 * 1024;

/// How the daemon is started.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) program: &'a Path,
    pub(super) config: &'a Path,
    pub(super) socket: &'a Path,
    pub(super) state_folder: Option<&'a Path>,
    pub(super) log: &'a Targets,
}

/// Returns once the daemon serves, or with the exit code of the one that did not start. What that printed, this prints.
pub(super) fn start(start: &Start<'_>) -> Result<u8, AppError> {
    // The log may be beside the socket.
    socket_owner::check_folder(start.socket).map_err(AppError::Socket)?;
    // A caller that ignores it would leave this process no child to wait for.
    signals::restore(libc::SIGCHLD);

    let mut log = Log::open(start).map_err(AppError::Background)?;
    let mut daemon = spawn(start, &log).map_err(AppError::Background)?;

    match first_line(&mut daemon) {
        Some(line) if !line.is_empty() => {
            let mut out = io::stdout().lock();
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
            Ok(0)
        }
        Some(_nothing) => {
            let status = daemon.wait().map_err(AppError::Background)?;
            eprint!("{}", log.last_error());
            // A signal ended it.
            Ok(status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1))
        }
        None => {
            let _ = daemon.kill();
            Err(AppError::NotReady(log.path))
        }
    }
}

fn spawn(start: &Start<'_>, log: &Log) -> io::Result<Child> {
    Command::new(start.program)
        .arg(IN_BACKGROUND)
        .arg("--config")
        .arg(start.config)
        .arg("--socket")
        .arg(start.socket)
        .arg("--log")
        .arg(start.log.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.file.try_clone()?)
        .spawn()
}

/// The daemon's first line of output, which says that it serves. It is empty if the daemon ends before, and absent if
/// neither happens in time.
fn first_line(daemon: &mut Child) -> Option<String> {
    let out = daemon.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(out).read_line(&mut line);
        let _ = sender.send(line);
    });

    receiver.recv_timeout(START_LIMIT).ok()
}

/// The log of a daemon in the background: `rolekeeperd.log` in the state folder, else beside the socket. Where neither can
/// be written, it is in memory, and lost when the daemon ends.
struct Log {
    path: Option<PathBuf>,
    file: File,
    start: u64,
}

impl Log {
    fn open(start: &Start<'_>) -> io::Result<Self> {
        let folders = start.state_folder.into_iter();
        let mut folders = folders.chain([connect::folder_of(start.socket)]);

        let opened = folders.find_map(|folder| {
            let path = folder.join("rolekeeperd.log");
            let file = open_log(folder, &path).ok()?;
            Some((Some(path), file))
        });
        let (path, file) = match opened {
            Some(opened) => opened,
            None => (None, in_memory()?),
        };

        let start = file.metadata()?.len();
        Ok(Self { path, file, start })
    }

    /// The error that the daemon has printed last, with its hint.
    fn last_error(&mut self) -> String {
        let mut text = String::new();
        let read = self
            .file
            .seek(SeekFrom::Start(self.start))
            .and_then(|_| self.file.read_to_string(&mut text));
        if let Err(error) = read {
            return format!("rolekeeperd: its log cannot be read: {error}\n");
        }

        match text.rfind("rolekeeperd: ") {
            Some(start) => text.split_off(start),
            None => text,
        }
    }
}

fn open_log(folder: &Path, path: &Path) -> io::Result<File> {
    create_folder(folder)?;

    let mut options = writable();
    options.read(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW);
    let file = options.open(path)?;

    private_file::check_own(&file.metadata()?)?;
    if file.metadata()?.len() > MAX_LOG {
        file.set_len(0)?;
    }

    Ok(file)
}

#[cfg(target_os = "linux")]
fn in_memory() -> io::Result<File> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    Ok(rustix::fs::memfd_create("rolekeeperd.log", flags)?.into())
}

/// A temporary file without a name.
#[cfg(not(target_os = "linux"))]
fn in_memory() -> io::Result<File> {
    tempfile::tempfile()
}
