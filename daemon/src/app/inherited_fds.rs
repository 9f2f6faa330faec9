//! Descriptors that outlive a process: the listening socket and the sessions. They come from the service manager (socket
//! activation and its descriptor store: `sd_listen_fds(3)`, `FileDescriptorStoreMax=`), or from the process that this one
//! took the place of.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::FdFlags;
use sd_notify::NotifyState;

use crate::platform::sys::{adopt, ignore};
use crate::serve::http::HttpEndpoint;

/// What a process that takes the place of another one is told: `pid=4711,socket=7,lock=8,sessions=9`.
const HANDOVER: &str = "ROLEKEEPER_HANDOVER";
/// How the sessions are called, in the service manager's store with a number behind it.
const SESSIONS: &str = "sessions";
/// The endpoints, with the line's name behind it; a service manager's socket unit may be called so, too.
const HTTP: &str = "http.";
const SOCKET: &str = "socket";
const LOCK: &str = "lock";
/// The way to the lookout, which only a process that is not confined can start.
const LOOKOUT: &str = "lookout";
/// The way to the starter of programs that print tokens, likewise.
const STARTER: &str = "starter";

/// What there was when this process began.
#[derive(Debug, Default)]
pub struct Inherited {
    socket: Option<OwnedFd>,
    lock: Option<OwnedFd>,
    /// Of earlier processes, in no order.
    pub sessions: Vec<OwnedFd>,
    pub endpoints: Vec<(HttpEndpoint, OwnedFd)>,
    pub lookout: Option<OwnedFd>,
    pub starter: Option<OwnedFd>,
}

#[derive(Debug)]
pub struct Socket {
    pub descriptor: OwnedFd,
    /// Of a socket that an earlier process of this program made, and the last one removes; else it is the service manager's.
    pub lock: Option<OwnedFd>,
}

impl Inherited {
    /// To be called once, while nothing else of this process owns a descriptor above standard error.
    pub fn take() -> io::Result<Self> {
        let text = std::env::var(HANDOVER).unwrap_or_default();
        // What another process was told has nothing to do with this one.
        let text = text
            .strip_prefix(&format!("pid={},", std::process::id()))
            .unwrap_or_default();
        let from_before = text.split(',').filter_map(|each| {
            let (name, raw) = each.split_once('=')?;
            Some((raw.parse().ok()?, name.to_owned()))
        });
        let all: Vec<(RawFd, String)> = sd_notify::listen_fds_with_names()?
            .chain(from_before)
            .collect();
        let mut inherited = Self::default();
        for (at, (raw, name)) in all.iter().enumerate() {
            if all.iter().take(at).any(|(other, _)| other == raw) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("descriptor {raw} is named twice"),
                ));
            }
            inherited.add(name, *raw)?;
        }
        Ok(inherited)
    }

    fn add(&mut self, name: &str, raw: RawFd) -> io::Result<()> {
        let descriptor = adopt(raw)?;
        rustix::io::fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
        let listens = rustix::net::sockopt::socket_acceptconn(&descriptor).unwrap_or(false);
        if name.starts_with(SESSIONS) {
            self.sessions.push(descriptor);
        } else if let Some(line) = name
            .strip_prefix(HTTP)
            .and_then(HttpEndpoint::parse)
            .filter(|_| listens)
        {
            self.endpoints.push((line, descriptor));
        } else if name == LOCK && self.lock.is_none() {
            self.lock = Some(descriptor);
        } else if name == LOOKOUT && self.lookout.is_none() {
            self.lookout = Some(descriptor);
        } else if name == STARTER && self.starter.is_none() {
            self.starter = Some(descriptor);
        } else if listens && self.socket.is_none() {
            self.socket = Some(descriptor);
        } else {
            eprintln!(
                "rolekeeperd: a descriptor called {name:?} was passed in, which is of no use here"
            );
        }
        Ok(())
    }

    pub fn socket(&mut self) -> Option<Socket> {
        let descriptor = self.socket.take()?;
        Some(Socket {
            descriptor,
            lock: self.lock.take(),
        })
    }

    /// Where the socket is, if there is one.
    pub fn socket_path(&self) -> Option<PathBuf> {
        let listener = UnixListener::from(self.socket.as_ref()?.try_clone().ok()?);
        listener
            .local_addr()
            .ok()?
            .as_pathname()
            .map(Path::to_owned)
    }

    /// Their numbers, which are not to be closed.
    pub fn raw(&self) -> Vec<RawFd> {
        let endpoints = self.endpoints.iter().map(|(_, descriptor)| descriptor);
        let single = self
            .socket
            .iter()
            .chain(&self.lock)
            .chain(&self.lookout)
            .chain(&self.starter);
        single
            .chain(&self.sessions)
            .chain(endpoints)
            .map(AsRawFd::as_raw_fd)
            .collect()
    }
}

/// Tells the service manager, if there is one, that this process serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if is_supervised()
        && let Err(error) = sd_notify::notify(state)
    {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Whether this very process was started by systemd, and not by some tool of one of its services, which would have the same
/// variables: whatever is stored goes to the service. Whether it keeps anything it does not say before version 254; what
/// it does not keep it closes.
pub fn is_supervised() -> bool {
    std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == std::process::id().to_string())
}

/// Puts sessions into the service manager's store, and only then takes out the ones before.
pub fn store(number: u64, sessions: &OwnedFd) -> io::Result<()> {
    let name = |number: u64| format!("{SESSIONS}-{}", number % 2);
    let (now, before) = (name(number), name(number + 1));
    sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&now)])?;
    sd_notify::notify_with_fds(
        &[NotifyState::FdStore, NotifyState::FdName(&now)],
        &[sessions.as_fd()],
    )?;
    sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&before)])
}

/// What a process that takes the place of this one gets.
#[derive(Debug)]
pub struct InheritedState {
    pub socket: Socket,
    pub endpoints: Vec<(HttpEndpoint, OwnedFd)>,
    /// Where they can be handed over; else they are fetched anew.
    pub sessions: Option<OwnedFd>,
    pub lookout: Option<OwnedFd>,
    pub starter: Option<OwnedFd>,
}

/// Puts another program in the place of this process. It returns only if that cannot be done.
pub fn hand_over(program: &Path, arguments: &[OsString], legacy: &InheritedState) -> io::Error {
    let InheritedState {
        socket,
        endpoints,
        sessions,
        lookout,
        starter,
    } = legacy;
    let named = [
        (SOCKET, Some(&socket.descriptor)),
        (LOCK, socket.lock.as_ref()),
        (SESSIONS, sessions.as_ref()),
        (LOOKOUT, lookout.as_ref()),
        (STARTER, starter.as_ref()),
    ];
    let named = named
        .into_iter()
        .filter_map(|(name, descriptor)| Some((name.to_owned(), descriptor?)));
    let endpoints = endpoints
        .iter()
        .map(|(line, descriptor)| (format!("{HTTP}{line}"), descriptor));
    let mut told = format!("pid={}", std::process::id());
    for (name, descriptor) in named.chain(endpoints) {
        if let Err(error) = rustix::io::fcntl_setfd(descriptor, FdFlags::empty()) {
            return error.into();
        }
        told += &format!(",{name}={}", descriptor.as_raw_fd());
    }
    ignore(libc::SIGHUP);
    let start = |file: &Path| {
        let mut next = Command::new(file);
        // What the service manager passed to this process was taken by it.
        for taken in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            next.env_remove(taken);
        }
        next.args(arguments)
            .env(HANDOVER, &told)
            .arg0(program)
            .exec()
    };
    #[cfg(target_os = "linux")]
    {
        let started = unreadable(program)
            .map(|copy| start(Path::new(&format!("/proc/self/fd/{}", copy.as_raw_fd()))));
        let (Ok(error) | Err(error)) = started;
        tracing::warn!(%error, "for a moment others of this user can look at the next process");
    }
    start(program)
}

/// A copy of a program that its own user cannot read: what is started from it cannot be looked at or traced by others from its
/// first moment on, and not only once it says so itself (execve(2), `PR_SET_DUMPABLE`). What it inherits then is secret.
#[cfg(target_os = "linux")]
fn unreadable(program: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, Mode};

    let flags = MemfdFlags::CLOEXEC | MemfdFlags::EXEC;
    let copy = rustix::fs::memfd_create("rolekeeperd", flags)?;
    let mut copied = std::fs::File::from(copy);
    io::copy(&mut std::fs::File::open(program)?, &mut copied)?;
    rustix::fs::fchmod(&copied, Mode::from_raw_mode(0o111))?;
    // One that may still be written cannot be started.
    let path = format!("/proc/self/fd/{}", copied.as_raw_fd());
    let read_only = rustix::fs::open(
        path,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    drop(copied);
    Ok(read_only)
}
