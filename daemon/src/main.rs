//! The daemon's program: arguments in, exit code out.

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

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use rolekeeperd::app::{self, Args};
use rolekeeperd::sandbox;
use rolekeeperd::sandbox::helper::command_runner;
use rolekeeperd::sandbox::helper::peer_inspector;
use zeroizing_alloc::ZeroAlloc;

/// Whatever held a secret, be it a library's buffer, is wiped when it is freed.
#[global_allocator]
static WIPED: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    sandbox::harden();
    let purpose = std::env::args_os()
        .nth(1)
        .and_then(|argument| argument.into_string().ok());
    match purpose.as_deref() {
        Some(peer_inspector::ARGUMENT) => {
            sandbox::confine_lookout();
            peer_inspector::stand_at(std::io::stdin());
            return ExitCode::SUCCESS;
        }
        Some(command_runner::ARGUMENT) => {
            command_runner::stand_at(std::io::stdin());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    match app::run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rolekeeperd: {error}\n  try: {}", error.hint());
            ExitCode::from(error.exit_code())
        }
    }
}
