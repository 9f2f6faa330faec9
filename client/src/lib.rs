//! What crosses rolekeeper's socket, and how to reach it: the wire protocol, its frames, and the rule that finds the
//! socket. The daemon builds on this library too, so the protocol is written down once.
//!
//! It must never depend on an async runtime or an HTTP stack: every credential request starts a process made of it.

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

pub mod connect;
pub mod contract;
pub mod frame;
pub mod protocol;
