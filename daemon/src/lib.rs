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
pub mod audit;
pub mod cache;
pub mod clock;
pub mod config;
pub mod credentials;
#[cfg(target_os = "linux")]
pub mod desktop;
pub mod error;
pub mod explain;
#[doc(hidden)]
pub mod fuzzing;
pub mod iam;
pub mod journal;
pub mod login;
pub mod model;
pub mod platform;
pub mod refresh;
mod report;
pub mod revocation;
pub mod sandbox;
pub mod serve;
pub mod sessions;
pub mod status;
mod sync;
#[cfg(test)]
mod test_support;
mod text;
pub mod token_source;
pub mod upstream;
