//! The daemon's program: arguments in, exit code out.

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
