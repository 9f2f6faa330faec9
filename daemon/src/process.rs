//! This process and its system: limits, session, signals, user. What is particular to one system is in here.

use std::io;
#[cfg(unix)]
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

#[cfg(target_os = "linux")]
use tokio::io::unix::AsyncFd;

/// The most connections at once, if the limit on descriptors allows.
const CONNECTIONS: usize = 8192;
/// Descriptors kept for everything that is not a client: upstreams, files, the runtime.
const RESERVED: u64 = 64;

/// To be called once, before threads are started. Detaching closes every descriptor but these.
pub fn prepare(detach: bool, keep: &[i32]) {
    #[cfg(unix)]
    {
        // Until there is a handler for it; a file that may not grow is an error that is told, not the end.
        ignore(libc::SIGHUP);
        ignore(libc::SIGXFSZ);
    }
    // The first to start it wins; there is one in a process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[cfg(unix)]
    {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        raise_descriptor_limit();
        if detach {
            close_inherited(keep);
            leave_session();
        }
    }
    #[cfg(not(unix))]
    let _ = (detach, keep);
}

/// Lets the threads that serve go first where there are fewer cores than threads: this thread's own priority, and of
/// whatever it starts.
pub fn give_way() {
    // It is not refused, and if it is, nothing is lost but a few microseconds.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(5);
}

/// Descriptors that the tool's own parents left open, such as the pipe of a build: whoever reads from it would wait for
/// this daemon to end. To be called before this process opens anything that it keeps.
#[cfg(unix)]
#[allow(unsafe_code, reason = "closing a descriptor by its number has no safe form")]
fn close_inherited(keep: &[i32]) {
    let listed: Vec<i32> = std::fs::read_dir("/dev/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in listed.into_iter().filter(|descriptor| *descriptor > 2 && !keep.contains(descriptor)) {
        // SAFETY: this runs in the only thread, and nothing of this process owns a descriptor above standard error yet;
        // the one that listed the folder is closed, and closing its number again is an error that has no effect.
        unsafe { rustix::io::close(descriptor) };
    }
}

/// What is ignored stays ignored also in a program that is put in the place of this one, until it has a handler.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the disposition of a signal has no safe form")]
pub(crate) fn ignore(signal: i32) {
    // SAFETY: ignoring a signal runs no code in its handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// A descriptor that this process was started with.
#[cfg(unix)]
#[allow(unsafe_code, reason = "a number becomes a descriptor that is owned")]
pub(crate) fn adopt(raw: i32) -> io::Result<OwnedFd> {
    if raw <= 2 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{raw} is no descriptor to be handed on")));
    }
    // SAFETY: it is only looked at, and an error if it is not open.
    rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(raw) })?;
    // SAFETY: it is open, and was passed to this process for it to own; nothing has opened any since it began.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A descriptor of ours whose readiness the runtime is to watch.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the runtime has to be promised that the descriptor stays the same")]
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor is the same one until it is dropped, and here it is dropped with the registration.
    unsafe { AsyncFd::register(descriptor) }.map_err(Into::into)
}

/// Neither the terminal's end nor an unmount of the folder it was started in concerns the daemon from here on.
#[cfg(unix)]
fn leave_session() {
    if let Err(error) = rustix::process::setsid() {
        eprintln!("rolekeeperd: the terminal's session cannot be left: {error}");
    }
    if let Err(error) = std::env::set_current_dir("/") {
        eprintln!("rolekeeperd: the folder cannot be left: {error}");
    }
}

#[cfg(unix)]
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // A soft limit that stays low only lowers the number of connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// How many connections may be open at once: each holds one descriptor.
pub fn connection_cap() -> usize {
    #[cfg(unix)]
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let descriptors = None;
    descriptors.map_or(CONNECTIONS, |limit| {
        usize::try_from(limit.saturating_sub(RESERVED)).unwrap_or(CONNECTIONS).clamp(16, CONNECTIONS)
    })
}

/// The user this process acts for.
#[cfg(unix)]
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What the daemon is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// To end, by this signal.
    Stop(&'static str),
    /// To put the program and the configuration that are on disk now in the place of its own.
    Reload,
}

#[cfg(unix)]
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    /// Its end is what a hang-up means to who runs on one.
    has_terminal: bool,
}

#[cfg(unix)]
impl Signals {
    pub fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            has_terminal: io::IsTerminal::is_terminal(&io::stderr()),
        })
    }

    pub async fn next(&mut self) -> Told {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            _ = self.hang_up.recv() => if self.has_terminal { Told::Stop("SIGHUP") } else { Told::Reload },
        }
    }

    /// The next that is to end it; others are as if they had not been.
    pub async fn next_stop(&mut self) -> Told {
        loop {
            let told = self.next().await;
            if told != Told::Reload {
                return told;
            }
        }
    }
}
