//! The programs under test: built once, run in a home folder of their own, stopped when dropped.

mod clock;
mod daemon;
mod home;
mod http;
mod leaks;
mod programs;
pub mod raw_client;
mod run;
mod sandbox;
mod terminal;

pub use clock::Clocks;
pub use daemon::Daemon;
pub use home::Home;
pub use http::{Endpoint, HttpResponse};
pub use programs::{Programs, programs};
pub use run::Run;
pub use sandbox::SandboxProcess;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long [`eventually`] waits.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A sandbox, and a home whose profile `dev` is a role that the developer may assume.
pub fn world() -> (SandboxProcess, Home) {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);

    (sandbox, home)
}

/// How much a test does: `long` if `tests/run --long` started it, which sets `ROLEKEEPER_TEST_LONG=1`, else `short`.
pub fn short_or_long<T>(short: T, long: T) -> T {
    if std::env::var_os("ROLEKEEPER_TEST_LONG").is_some_and(|set| set == "1") {
        long
    } else {
        short
    }
}

/// Sets a flag that stops other threads when it is dropped, also by a panic.
#[derive(Debug)]
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The canonical path of an installed program.
///
/// # Panics
/// If it is not in `PATH`.
pub fn which(program: &str) -> PathBuf {
    let folders = std::env::var_os("PATH").expect("PATH is set");

    std::env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{program} is not in PATH"))
        .canonicalize()
        .expect("a canonical path")
}

/// Polls every 20 ms until there is a value, and returns it.
///
/// # Panics
/// After 30 s.
pub fn eventually<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;

    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {TIMEOUT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
