//! What the daemon takes from itself, so that whoever took it over would have little: it cannot be dumped or traced, reads
//! and writes where its work is, and makes no system call that its work does not need.
//!
//! [`harden`] comes first of all, in every way it is run; [`confine`] once it is known which files its work is on, and
//! before there is a second thread.

mod allowed_paths;
pub mod helper;
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod seccomp;

use std::sync::OnceLock;

use rolekeeper::protocol::Protection;

pub use allowed_paths::AllowedPaths;

use crate::platform::sys;

/// What came of it, for `rolekeeper status`.
static IN_FORCE: OnceLock<InForce> = OnceLock::new();

#[derive(Debug)]
struct InForce {
    files: Result<(), String>,
    calls: Result<(), String>,
}

/// No core files, and no other process of the same user that reads or traces this one.
pub fn harden() {
    sys::hide_memory();
}

/// Confines this thread and all that it starts. What cannot be is told, and goes on without.
pub fn confine(places: &AllowedPaths) {
    #[cfg(target_os = "linux")]
    if let Err(error) = sys::give_up_capabilities() {
        tracing::warn!(%error, "capabilities are kept");
    }
    let in_force = InForce {
        calls: calls(),
        files: files(places),
    };
    for (what, outcome) in [("Landlock", &in_force.files), ("seccomp", &in_force.calls)] {
        if let Err(why) = outcome {
            tracing::warn!(what, %why, "the daemon is not confined by it");
        }
    }
    let _ = IN_FORCE.set(in_force);
}

/// Confines the lookout: it only reads what the kernel says of processes.
pub fn confine_lookout() {
    #[cfg(target_os = "linux")]
    let _ = seccomp::forbid(seccomp::FOR_LOOKOUT);
}

/// Whether files are withheld from this process.
pub(crate) fn is_confined() -> bool {
    IN_FORCE
        .get()
        .is_some_and(|in_force| in_force.files.is_ok())
}

/// What is in force.
pub fn protection() -> Protection {
    let shown = |outcome: Option<&Result<(), String>>| match outcome {
        Some(Ok(())) => "active".to_owned(),
        Some(Err(why)) => format!("off: {why}"),
        None => "off: not yet".to_owned(),
    };
    let in_force = IN_FORCE.get();
    Protection {
        memory: sys::memory_protection(),
        files: shown(in_force.map(|in_force| &in_force.files)),
        calls: shown(in_force.map(|in_force| &in_force.calls)),
        callers: "active".into(),
    }
}

#[cfg(target_os = "linux")]
fn files(places: &AllowedPaths) -> Result<(), String> {
    landlock::restrict(places)
}

#[cfg(target_os = "linux")]
fn calls() -> Result<(), String> {
    seccomp::forbid(seccomp::FOR_DAEMON)
}

#[cfg(not(target_os = "linux"))]
fn files(_places: &AllowedPaths) -> Result<(), String> {
    Err("there is no Landlock on this system".into())
}

#[cfg(not(target_os = "linux"))]
fn calls() -> Result<(), String> {
    Err("there is no seccomp on this system".into())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
