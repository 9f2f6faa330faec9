//! `rolekeeper completions SHELL`: prints the completion script of a shell. The script runs this program with a variable
//! set, so that it completes the current profiles, methods, options and ids.

use std::ffi::OsStr;
use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};
use clap_complete::env::Shells;
use rolekeeper::protocol::{Code, Failure};

use crate::command;

/// The variable with the shell's name, which requests completions.
pub(crate) const VARIABLE: &str = "ROLEKEEPER_COMPLETE";

pub(crate) fn command() -> Command {
    let shells = Shells::builtins();
    Command::new("completions")
        .display_order(100)
        .about("Print the completion script of a shell")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(PossibleValuesParser::new(
                    shells.names().map(str::to_owned).collect::<Vec<_>>(),
                ))
                .help("The shell; add the output to its start-up file"),
        )
}

pub(crate) fn run(shell: &str) -> Result<(), Failure> {
    let shells = Shells::builtins();
    let completer = shells
        .completer(shell)
        .ok_or_else(|| unwritable("unknown shell"))?;
    let mut lines = Vec::new();
    let written = completer.write_registration(
        VARIABLE,
        "rolekeeper",
        "rolekeeper",
        "rolekeeper",
        &mut lines,
    );

    written.map_err(|error| unwritable(&error.to_string()))?;

    command::print(&String::from_utf8_lossy(&lines))
}

/// Whether this is a supported shell, or the path of one.
pub(crate) fn knows(shell: &OsStr) -> bool {
    let name = Path::new(shell).file_stem().unwrap_or(shell);
    Shells::builtins()
        .completer(&name.to_string_lossy())
        .is_some()
}

fn unwritable(why: &str) -> Failure {
    Failure::new(
        Code::Unexpected,
        format!("cannot print the completion script: {why}"),
        "name another shell, and report the error",
    )
}
