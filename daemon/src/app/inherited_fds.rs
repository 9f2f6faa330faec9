//! File descriptors that outlive a process: the listening sockets, the sessions and the sockets of the helper processes.
//! They come from the service manager (`sd_listen_fds(3)`, `FileDescriptorStoreMax=`), or from the process that this one
//! replaces at a reload.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::FdFlags;
use sd_notify::NotifyState;

use crate::platform::descriptors::adopt;
use crate::platform::signals::ignore;
use crate::serve::http::HttpEndpoint;
use crate::serve::socket::bind::SocketDescriptors;

/// Names the descriptors for the process after a reload: `pid=4711,socket=7,lock=8,sessions=9`.
const VARIABLE: &str = "ROLEKEEPER_INHERITED_FDS";
/// The names of the descriptors. In the service manager's store, the sessions have a number behind it.
const SESSIONS: &str = "sessions";
/// With the endpoint's name behind it. A socket unit of the service manager may be named so, too.
const HTTP: &str = "http.";
const SOCKET: &str = "socket";
const LOCK: &str = "lock";
const STATE_LOCK: &str = "state-lock";
const PEER_INSPECTOR: &str = "peer-inspector";
const COMMAND_RUNNER: &str = "command-runner";

/// The variables that systemd passes descriptors with.
const SYSTEMD_VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// What this process inherited.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    socket: Option<OwnedFd>,
    lock: Option<OwnedFd>,
    pub(super) state_lock: Option<OwnedFd>,
    /// Of earlier processes, in any order.
    pub(super) sessions: Vec<OwnedFd>,
    pub(super) endpoints: Vec<(HttpEndpoint, OwnedFd)>,
    pub(super) peer_inspector: Option<OwnedFd>,
    pub(super) command_runner: Option<OwnedFd>,
}

/// What the next process inherits.
#[derive(Debug)]
pub(super) struct InheritedState {
    pub(super) socket: SocketDescriptors,
    pub(super) state_lock: Option<OwnedFd>,
    pub(super) endpoints: Vec<(HttpEndpoint, OwnedFd)>,
    /// Absent if they could not be packed. The next process fetches sessions anew.
    pub(super) sessions: Option<OwnedFd>,
    pub(super) peer_inspector: Option<OwnedFd>,
    pub(super) command_runner: Option<OwnedFd>,
}

impl Inherited {
    /// Call it once, while nothing else in this process owns a descriptor above standard error.
    pub(super) fn take() -> io::Result<Self> {
        let mut inherited = Self::default();
        let mut seen = Vec::new();

        for (raw, name) in passed_by_systemd()?.chain(passed_at_reload()) {
            if seen.contains(&raw) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("descriptor {raw} is named twice"),
                ));
            }
            seen.push(raw);
            inherited.add(&name, raw)?;
        }

        Ok(inherited)
    }

    fn add(&mut self, name: &str, raw: RawFd) -> io::Result<()> {
        let descriptor = adopt(raw)?;
        rustix::io::fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
        let listens = rustix::net::sockopt::socket_acceptconn(&descriptor).unwrap_or(false);
        let endpoint = name
            .strip_prefix(HTTP)
            .and_then(HttpEndpoint::parse)
            .filter(|_| listens);

        if name.starts_with(SESSIONS) {
            self.sessions.push(descriptor);
        } else if let Some(endpoint) = endpoint {
            self.endpoints.push((endpoint, descriptor));
        } else if name == LOCK && self.lock.is_none() {
            self.lock = Some(descriptor);
        } else if name == STATE_LOCK && self.state_lock.is_none() {
            self.state_lock = Some(descriptor);
        } else if name == PEER_INSPECTOR && self.peer_inspector.is_none() {
            self.peer_inspector = Some(descriptor);
        } else if name == COMMAND_RUNNER && self.command_runner.is_none() {
            self.command_runner = Some(descriptor);
        } else if listens && self.socket.is_none() {
            self.socket = Some(descriptor);
        } else {
            eprintln!("rolekeeperd: ignored the inherited descriptor {name:?}");
        }

        Ok(())
    }

    pub(super) fn socket(&mut self) -> Option<SocketDescriptors> {
        let descriptor = self.socket.take()?;

        Some(SocketDescriptors {
            descriptor,
            lock: self.lock.take(),
        })
    }

    /// Whether an earlier process of this daemon has started this one.
    pub(super) fn is_reload(&self) -> bool {
        self.peer_inspector.is_some()
    }

    pub(super) fn has_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// The path of the inherited socket.
    pub(super) fn socket_path(&self) -> Option<PathBuf> {
        let listener = UnixListener::from(self.socket.as_ref()?.try_clone().ok()?);
        let address = listener.local_addr().ok()?;

        address.as_pathname().map(Path::to_owned)
    }

    /// The numbers of all descriptors, which have to stay open.
    pub(super) fn raw(&self) -> Vec<RawFd> {
        let endpoints = self.endpoints.iter().map(|(_, descriptor)| descriptor);

        self.socket
            .iter()
            .chain(&self.lock)
            .chain(&self.state_lock)
            .chain(&self.peer_inspector)
            .chain(&self.command_runner)
            .chain(&self.sessions)
            .chain(endpoints)
            .map(AsRawFd::as_raw_fd)
            .collect()
    }
}

fn passed_by_systemd() -> io::Result<impl Iterator<Item = (RawFd, String)>> {
    sd_notify::listen_fds_with_names()
}

/// The variable of another process is ignored: it may have been inherited by accident.
fn passed_at_reload() -> impl Iterator<Item = (RawFd, String)> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let prefix = format!("pid={},", std::process::id());
    let own = text.strip_prefix(&prefix).unwrap_or_default().to_owned();

    let mut passed = Vec::new();
    for each in own.split(',') {
        if let Some((name, raw)) = each.split_once('=')
            && let Ok(raw) = raw.parse()
        {
            passed.push((raw, name.to_owned()));
        }
    }

    passed.into_iter()
}

/// Notifies the service manager, if there is one, that the daemon serves.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    if is_supervised()
        && let Err(error) = sd_notify::notify(state)
    {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

/// Whether systemd started this very process. A tool of another service would inherit the same variables, and what it
/// stored would go to that service. Before version 254 systemd does not say whether it has a store; it closes what it
/// does not store.
pub(super) fn is_supervised() -> bool {
    std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == std::process::id().to_string())
}

/// Stores sessions with the service manager, and only then removes the ones before.
pub(super) fn store(number: u64, sessions: &OwnedFd) -> io::Result<()> {
    let current = format!("{SESSIONS}-{}", number % 2);
    let before = format!("{SESSIONS}-{}", (number + 1) % 2);

    sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&current)])?;
    sd_notify::notify_with_fds(
        &[NotifyState::FdStore, NotifyState::FdName(&current)],
        &[sessions.as_fd()],
    )?;
    sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&before)])
}

impl InheritedState {
    fn named(&self) -> Vec<(String, &OwnedFd)> {
        let single = [
            (SOCKET, Some(&self.socket.descriptor)),
            (LOCK, self.socket.lock.as_ref()),
            (STATE_LOCK, self.state_lock.as_ref()),
            (SESSIONS, self.sessions.as_ref()),
            (PEER_INSPECTOR, self.peer_inspector.as_ref()),
            (COMMAND_RUNNER, self.command_runner.as_ref()),
        ];

        let mut named = Vec::new();
        for (name, descriptor) in single {
            named.extend(descriptor.map(|descriptor| (name.to_owned(), descriptor)));
        }

        for (endpoint, descriptor) in &self.endpoints {
            named.push((format!("{HTTP}{endpoint}"), descriptor));
        }

        named
    }
}

/// Replaces this process by another program. Returns only if that fails.
pub(super) fn replace_process(
    program: &Path,
    arguments: &[OsString],
    state: &InheritedState,
) -> io::Error {
    let mut variable = format!("pid={}", std::process::id());
    for (name, descriptor) in state.named() {
        if let Err(error) = rustix::io::fcntl_setfd(descriptor, FdFlags::empty()) {
            return error.into();
        }
        variable += &format!(",{name}={}", descriptor.as_raw_fd());
    }

    // A further reload signal must not end the next process before it handles signals.
    ignore(libc::SIGHUP);

    #[cfg(target_os = "linux")]
    {
        let error = match unreadable_copy(program) {
            Ok(copy) => {
                let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
                exec(Path::new(&path), program, arguments, &variable)
            }
            Err(error) => error,
        };
        tracing::warn!(%error, "for a moment, other processes of this user can read the next process's memory");
    }

    exec(program, program, arguments, &variable)
}

fn exec(file: &Path, name: &Path, arguments: &[OsString], variable: &str) -> io::Error {
    let mut next = Command::new(file);
    for taken in SYSTEMD_VARIABLES {
        next.env_remove(taken);
    }

    next.args(arguments)
        .env(VARIABLE, variable)
        .arg0(name)
        .exec()
}

/// A copy of a program that its user cannot read. Other processes cannot read or trace what is started from it from its
/// first moment on (`execve(2)`, `PR_SET_DUMPABLE`), and it inherits secrets.
#[cfg(target_os = "linux")]
fn unreadable_copy(program: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, Mode, OFlags};

    let flags = MemfdFlags::CLOEXEC | MemfdFlags::EXEC;
    let copy = rustix::fs::memfd_create("rolekeeperd", flags)?;
    let mut copy = std::fs::File::from(copy);
    io::copy(&mut std::fs::File::open(program)?, &mut copy)?;
    rustix::fs::fchmod(&copy, Mode::from_raw_mode(0o111))?;

    // A file that is open for writing cannot be executed.
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    let read_only = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    drop(copy);

    Ok(read_only)
}
