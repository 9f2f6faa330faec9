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
#[cfg(target_os = "linux")]
pub mod desktop;
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
pub mod revoke;
pub mod serve;
pub mod status;
pub mod succession;
mod sync;
pub mod timetable;
pub mod upstream;
pub mod watch;

/// A name that somebody else chose, fit for a message.
pub(crate) fn printable(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}
