//! The wire protocol, its frames, and the path of the socket. The client and the daemon share this library, so the
//! protocol is defined once.
//!
//! It must never depend on an async runtime or an HTTP stack: every credential request starts a process that links it.

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
#![deny(clippy::print_stderr, clippy::print_stdout)]

pub mod aws_file;
pub mod connect;
pub mod contract;
pub mod frame;
pub mod places;
pub mod protocol;
pub mod shell;
pub mod socket_owner;
pub mod text;
pub mod trust;
mod waiting;
