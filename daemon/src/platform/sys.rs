//! This process and its system: limits, session, signals, user. What is particular to one system is in here.

use std::io;
#[cfg(unix)]
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(unix)]
use rustix::process::Resource;
use secrecy::{ExposeSecret, SecretString};

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
        raise_limit(Resource::Nofile);
        raise_limit(Resource::Memlock);
        if detach {
            close_inherited(keep);
            leave_session();
        }
    }
    #[cfg(not(unix))]
    let _ = (detach, keep);
}

/// Core files would have every secret in them, and so would the answer to whoever traces this process. What is put in the
/// place of this one has to do it again.
pub(crate) fn hide_memory() {
    #[cfg(unix)]
    {
        use rustix::process::{Rlimit, setrlimit};
        let _ = setrlimit(
            Resource::Core,
            Rlimit {
                current: Some(0),
                maximum: Some(0),
            },
        );
    }
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// How many bytes of secrets could not be kept out of swap.
static UNLOCKED: AtomicUsize = AtomicUsize::new(0);

/// Keeps the pages that a secret lies in out of swap, as far as the limit on that goes. They stay so: others that come to
/// lie there may be secrets, too, and are at the most as many.
#[cfg(unix)]
#[allow(unsafe_code, reason = "locking pages has no safe form")]
pub(crate) fn keep_in_memory(secret: &SecretString) {
    let bytes = secret.expose_secret().as_bytes();
    let start = bytes.as_ptr().cast_mut().cast();
    // SAFETY: the range is that of a living slice, and locking changes nothing of what is in it.
    if unsafe { rustix::mm::mlock(start, bytes.len()) }.is_err() {
        UNLOCKED.fetch_add(bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(not(unix))]
pub(crate) fn keep_in_memory(_secret: &SecretString) {}

/// For people: whether others can read it, and whether it may go to swap.
pub(crate) fn memory_protection() -> String {
    #[cfg(target_os = "linux")]
    let hidden = rustix::process::dumpable_behavior()
        .is_ok_and(|behavior| behavior == rustix::process::DumpableBehavior::NotDumpable);
    #[cfg(not(target_os = "linux"))]
    let hidden = false;
    let dumps = if hidden {
        "cannot be dumped or traced"
    } else {
        "can be traced by its user"
    };
    match UNLOCKED.load(Ordering::Relaxed) {
        0 => format!("{dumps}; secrets are locked in it"),
        bytes => format!("{dumps}; {bytes} bytes of secrets may be swapped out (see ulimit -l)"),
    }
}

/// What the lookout was started with, and this process has no use for. Root keeps what it has.
#[cfg(target_os = "linux")]
pub(crate) fn give_up_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    Ok(())
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
#[allow(
    unsafe_code,
    reason = "closing a descriptor by its number has no safe form"
)]
fn close_inherited(keep: &[i32]) {
    let listed: Vec<i32> = std::fs::read_dir("/dev/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in listed
        .into_iter()
        .filter(|descriptor| *descriptor > 2 && !keep.contains(descriptor))
    {
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

/// This process does not end by it. What it starts does, unlike where a signal is ignored.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the disposition of a signal has no safe form")]
pub(crate) fn outlive(signal: i32) {
    extern "C" fn nothing(_signal: i32) {}
    let handler: extern "C" fn(i32) = nothing;
    // SAFETY: the handler does nothing at all.
    unsafe { libc::signal(signal, handler as libc::sighandler_t) };
}

/// A descriptor that this process was started with.
#[cfg(unix)]
#[allow(unsafe_code, reason = "a number becomes a descriptor that is owned")]
pub(crate) fn adopt(raw: i32) -> io::Result<OwnedFd> {
    if raw <= 2 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{raw} is no descriptor to be handed on"),
        ));
    }
    // SAFETY: it is only looked at, and an error if it is not open.
    rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(raw) })?;
    // SAFETY: it is open, and was passed to this process for it to own; nothing has opened any since it began.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A hold on the process that made a connection, by which it is told from a later one of the same number (Linux 6.5).
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "rustix has no SO_PEERPIDFD")]
pub(crate) fn connected_by(socket: BorrowedFd<'_>) -> Option<OwnedFd> {
    use std::os::fd::AsRawFd;

    const SO_PEERPIDFD: i32 = 77;
    let (mut raw, mut length) = (-1_i32, libc::socklen_t::try_from(size_of::<i32>()).ok()?);
    let to = std::ptr::from_mut(&mut raw).cast();
    // SAFETY: `raw` and `length` outlive the call, and `length` is the size of `raw`.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            to,
            &mut length,
        )
    };
    // SAFETY: the kernel has just made it for this process.
    (outcome == 0 && raw >= 0).then(|| unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The groups of a process, beside its first, when it made a connection (Linux 4.13).
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "rustix has no SO_PEERGROUPS")]
pub(crate) fn groups_of(socket: BorrowedFd<'_>) -> Vec<u32> {
    use std::os::fd::AsRawFd;

    // As many as Linux has for one process.
    let mut groups = vec![0_u32; 65_536];
    let Ok(mut length) = libc::socklen_t::try_from(groups.len() * size_of::<u32>()) else {
        return Vec::new();
    };
    let (level, to) = (libc::SOL_SOCKET, groups.as_mut_ptr().cast());
    // SAFETY: `groups` and `length` outlive the call, and `length` is the size of `groups` in bytes.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            libc::SO_PEERGROUPS,
            to,
            &mut length,
        )
    };
    let count = if outcome == 0 {
        length as usize / size_of::<u32>()
    } else {
        0
    };
    groups.truncate(count);
    groups.shrink_to_fit();
    groups
}

/// Whether the process behind such a hold still runs.
#[cfg(target_os = "linux")]
pub(crate) fn is_alive(process: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // It becomes readable with the end.
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)).is_ok_and(|ended| ended == 0)
}

/// A descriptor of ours whose readiness the runtime is to watch.
#[cfg(target_os = "linux")]
#[allow(
    unsafe_code,
    reason = "the runtime has to be promised that the descriptor stays the same"
)]
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
fn raise_limit(limit: Resource) {
    use rustix::process::{Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(limit);
    // One that stays low only lowers the number of connections, or of what is locked.
    let _ = setrlimit(
        limit,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}

/// How many connections may be open at once: each holds one descriptor.
pub fn connection_cap() -> usize {
    #[cfg(unix)]
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let descriptors = None;
    descriptors.map_or(CONNECTIONS, |limit| {
        usize::try_from(limit.saturating_sub(RESERVED))
            .unwrap_or(CONNECTIONS)
            .clamp(16, CONNECTIONS)
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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_process_that_connected_is_known_from_a_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        let (here, _) = listener.accept().unwrap();
        let me = connected_by(here.as_fd()).unwrap();
        assert!(is_alive(&me));
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let held = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        assert!(is_alive(&held));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_alive(&held));
        let no_socket = std::fs::File::open("/dev/null").unwrap();
        assert!(connected_by(no_socket.as_fd()).is_none());
    }
}
