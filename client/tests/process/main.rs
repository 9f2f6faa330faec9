//! The real command against a daemon that says what a test wants said: what upstreams, readers and terminals do to it.

#![cfg(target_os = "linux")]

mod completions;
mod consumers;
mod env;
mod fake_daemon;
mod pipes;
mod replies;
mod setup;
mod terminal;
