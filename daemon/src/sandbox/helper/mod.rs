//! The two processes that run outside the sandbox: one inspects peers, the other runs token commands.

pub mod command_runner;
pub(crate) mod ipc;
pub mod peer_inspector;
