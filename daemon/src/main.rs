//! The daemon's program: arguments in, exit code out.

#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unreachable, clippy::unwrap_used)
)]

use std::process::ExitCode;

use clap::Parser;
use rolekeeperd::app::{self, Args};

fn main() -> ExitCode {
    match app::run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rolekeeperd: {error}\n  try: {}", error.hint());
            ExitCode::from(error.exit_code())
        }
    }
}
