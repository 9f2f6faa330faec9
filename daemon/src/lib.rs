//! The daemon: assumes roles, refreshes their sessions, polls for revocations, and serves short-lived credentials.
//!
//! `ARCHITECTURE.md` beside this folder is the map. Start at [`credentials`], the request path.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod access;
pub mod app;
pub(crate) mod audit;
pub mod cache;
pub mod clock;
pub mod config;
pub mod credentials;
#[cfg(target_os = "linux")]
pub(crate) mod desktop;
pub mod error;
pub(crate) mod explain;
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod iam;
pub mod journal;
pub(crate) mod login;
pub mod model;
pub(crate) mod platform;
pub(crate) mod refresh;
mod report;
pub(crate) mod revocation;
pub mod sandbox;
pub(crate) mod serve;
pub(crate) mod sessions;
pub(crate) mod status;
mod sync;
#[cfg(test)]
mod test_support;
mod text;
pub mod token_source;
pub mod upstream;
