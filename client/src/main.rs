//! The command. `credential-process PROFILE` is what tools run, thousands of times a day: it is looked at before
//! anything else is set up.

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
// `println!` and `eprintln!` panic where nobody reads: `command::print` and `command::tell` do not.
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
    command::tell(&format!("rolekeeper: {failure}"));
    ExitCode::from(failure.code.exit_code())
}
