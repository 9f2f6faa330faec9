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
use rolekeeper::text::printable_lines;
use rolekeeperd::app::{self, Args};
use rolekeeperd::sandbox;
use rolekeeperd::sandbox::helper::{HelperKind, SUBCOMMAND};
use zeroizing_alloc::ZeroAlloc;

/// Zeroizes all memory when it is freed: also the buffers of libraries can contain a secret.
#[global_allocator]
static ZEROIZING: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // Before the files of this process in /proc belong to root.
    if std::env::args_os().any(|word| word == app::IN_BACKGROUND) {
        app::reset_limits();
    }
    sandbox::harden();

    let mut arguments = std::env::args_os().skip(1);
    let is_helper = arguments.next().is_some_and(|first| first == SUBCOMMAND);
    let helper = arguments.next().and_then(|name| HelperKind::parse(&name));
    if let Some(helper) = helper
        && is_helper
    {
        helper.run_worker(std::io::stdin());
        return ExitCode::SUCCESS;
    }

    match app::run(Args::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let message = format!("rolekeeperd: {error}\n  try: {}", error.hint());
            eprintln!("{}", printable_lines(&message));
            ExitCode::from(error.exit_code())
        }
    }
}
