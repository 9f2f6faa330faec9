//! The start of the daemon's process.

#[cfg(unix)]
use super::{descriptors, limits, signals};

/// Must be called once, before other threads start. In the background, nothing of the process that asked for the daemon
/// stays: its session, working folder, and every descriptor but the standard streams and `keep`.
pub(crate) fn prepare(in_background: bool, keep: &[i32]) {
    // Fails if one is installed already, which is fine.
    install_crypto_provider();

    #[cfg(unix)]
    {
        signals::restore(libc::SIGCHLD);
        // Until the runtime handles it.
        signals::ignore(libc::SIGHUP);
        // A write over the limit on file sizes fails instead.
        signals::ignore(libc::SIGXFSZ);
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        limits::raise();
        if in_background {
            descriptors::close_inherited(keep);
            leave_session();
        }
    }

    #[cfg(not(unix))]
    let _ = (in_background, keep);
}

/// Signals of the terminal do not reach the daemon from here on, and the folder can be unmounted.
#[cfg(unix)]
fn leave_session() {
    if let Err(error) = rustix::process::setsid() {
        eprintln!("rolekeeperd: cannot leave the terminal's session: {error}");
    }
    if let Err(error) = std::env::set_current_dir("/") {
        eprintln!("rolekeeperd: cannot leave the working folder: {error}");
    }
}

/// Must be called before an HTTP client is built.
pub(crate) fn install_crypto_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
