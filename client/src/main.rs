//! The command. Tools run `credential-process PROFILE` thousands of times a day, so it is handled before the command line
//! parser is built.

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
// `println!` and `eprintln!` panic if the reader has exited. `command::print` and `command::print_error` do not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod autostart;
mod cli;
mod command;

use std::process::ExitCode;

use rolekeeper::protocol::Failure;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let outcome = match (args.next(), args.next(), args.next()) {
        (Some(command), Some(profile), None)
            if command == "credential-process" && !profile.as_encoded_bytes().starts_with(b"-") =>
        {
            command::credential_process::run(&profile.to_string_lossy(), None)
                .map(|()| ExitCode::SUCCESS)
        }
        _ if cli::complete() => Ok(ExitCode::SUCCESS),
        _ => cli::run(),
    };

    outcome.unwrap_or_else(|failure| report(&failure))
}

fn report(failure: &Failure) -> ExitCode {
    command::print_error(&format!("rolekeeper: {failure}"));
    ExitCode::from(failure.code.exit_code())
}
