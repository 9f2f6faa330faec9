//! rolekeeperd: assumes roles at an upstream STS, keeps the sessions fresh, and hands out leases on them.
//!
//! Start at [`broker`]: it is the request path, and everything else serves it.

#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unreachable, clippy::unwrap_used)
)]

pub mod app;
pub mod audit;
pub mod broker;
pub mod cache;
pub mod clock;
pub mod config;
#[cfg(unix)]
pub mod descriptors;
pub mod explain;
#[cfg(target_os = "linux")]
pub mod handover;
pub mod iam;
pub mod journal;
pub mod keeper;
pub mod keys;
pub mod policy;
pub mod private_file;
pub mod process;
pub mod refresh;
pub mod serve;
pub mod status;
pub mod succession;
pub mod timetable;
pub mod upstream;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks for a short section that leaves the value whole at every step, so that a panic elsewhere poisons nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name that somebody else chose, fit for a message.
pub(crate) fn printable(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}
