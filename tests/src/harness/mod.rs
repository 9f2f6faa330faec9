//! Real programs for tests: built once, run in a home folder of their own, stopped when dropped.

mod clock;
mod home;
mod http;
mod programs;
pub mod raw_client;
mod sandbox;
mod terminal;

pub use clock::Clocks;
pub use home::{Daemon, Home, Run};
pub use http::{Endpoint, Said};
pub use programs::{Programs, programs};
pub use sandbox::SandboxProcess;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What most tests start from: a sandbox, and a home whose profile `dev` is a role that the developer may assume.
pub fn world() -> (SandboxProcess, Home) {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
    (sandbox, home)
}

/// The word, given when this is dropped, that other threads need not go on: also when the one that has it panics.
#[derive(Debug)]
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A program of this machine's, by its real path.
///
/// # Panics
/// When it is not installed.
pub fn which(program: &str) -> PathBuf {
    let folders = std::env::var_os("PATH").expect("PATH is set");
    let mut found = std::env::split_paths(&folders).map(|folder| folder.join(program));
    let found = found
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("there is no {program} in PATH"));
    found.canonicalize().expect("it is there")
}

/// Asks until there is an answer, for 30 s at the most.
///
/// # Panics
/// When there is none by then.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
