//! The real client against a fake daemon: replies, readers and terminals that misbehave.

#![cfg(target_os = "linux")]

mod completions;
mod consumers;
mod env;
mod fake_daemon;
mod pipes;
mod replies;
mod setup;
mod setup_files;
mod terminal;
