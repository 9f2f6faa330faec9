//! The rights that the daemon gives up, so that an attacker who takes it over gains little: no other process can trace it, it
//! reads and writes only the files of its work, and it makes only the system calls of its work.
//!
//! [`harden`] is the first call of every process. [`confine`] follows once the configuration is known, and before there is
//! a second thread.

mod allowed_paths;
pub mod helper;
// Linux alone has these two.
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod seccomp;
pub(crate) mod system_files;

use std::sync::OnceLock;

use rolekeeper::protocol::Protection;

pub(crate) use allowed_paths::AllowedPaths;

use crate::platform::{limits, memory};

static IN_FORCE: OnceLock<InForce> = OnceLock::new();

#[derive(Debug)]
struct InForce {
    landlock: Result<(), String>,
    seccomp: Result<(), String>,
}

/// Turns off core files, and tracing by processes of the same user.
pub fn harden() {
    memory::hide_memory();
}

/// Confines this thread and all that it starts. What fails is logged, and shown by `rolekeeper status`.
pub(crate) fn confine(paths: &AllowedPaths) {
    if let Err(error) = limits::drop_capabilities() {
        tracing::warn!(%error, "cannot drop capabilities");
    }

    let in_force = InForce {
        seccomp: filter_system_calls(),
        landlock: restrict_files(paths),
    };

    if let Err(error) = &in_force.landlock {
        tracing::warn!(%error, "Landlock is off");
    }

    if let Err(error) = &in_force.seccomp {
        tracing::warn!(%error, "seccomp is off");
    }

    for file in system_files::unreadable() {
        tracing::warn!("{file}");
    }

    let _ = IN_FORCE.set(in_force);
}

/// The peer inspector needs the files in `/proc`, and few system calls.
fn confine_peer_inspector() {
    #[cfg(target_os = "linux")]
    let _ = seccomp::apply(&seccomp::FOR_PEER_INSPECTOR);
}

pub(crate) fn protection() -> Protection {
    let in_force = IN_FORCE.get();
    Protection {
        memory: memory::protection(),
        landlock: status(in_force.map(|in_force| &in_force.landlock)),
        seccomp: status(in_force.map(|in_force| &in_force.seccomp)),
        peer_inspector: "active".into(),
        unreadable_files: system_files::unreadable()
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

fn status(outcome: Option<&Result<(), String>>) -> String {
    match outcome {
        Some(Ok(())) => "active".into(),
        Some(Err(reason)) => format!("off: {reason}"),
        None => "off: the daemon is starting".into(),
    }
}

#[cfg(target_os = "linux")]
fn restrict_files(paths: &AllowedPaths) -> Result<(), String> {
    landlock::restrict(paths)
}

#[cfg(target_os = "linux")]
fn filter_system_calls() -> Result<(), String> {
    seccomp::apply(&seccomp::FOR_DAEMON)
}

#[cfg(not(target_os = "linux"))]
fn restrict_files(_paths: &AllowedPaths) -> Result<(), String> {
    Err("this system has no Landlock".into())
}

#[cfg(not(target_os = "linux"))]
fn filter_system_calls() -> Result<(), String> {
    Err("this system has no seccomp".into())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
