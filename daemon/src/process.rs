//! This process and its system: limits, session, signals, user. What is particular to one system is in here.

use std::io;

/// The most connections at once, if the limit on descriptors allows.
const CONNECTIONS: usize = 8192;
/// Descriptors kept for everything that is not a client: upstreams, files, the runtime.
const RESERVED: u64 = 64;

/// To be called once, before threads are started.
pub fn prepare(detach: bool) {
    // The first to start it wins; there is one in a process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[cfg(unix)]
    {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        raise_descriptor_limit();
        if detach {
            leave_session();
        }
    }
    #[cfg(not(unix))]
    let _ = detach;
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

/// The signals that end the daemon.
#[cfg(unix)]
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
