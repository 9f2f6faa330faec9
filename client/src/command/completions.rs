//! `rolekeeper completions SHELL`: the lines that make a shell ask this program for completions. The shell then runs it
//! with a variable set, so that it can offer profiles, methods, options and ids as they are at that moment.

use std::ffi::OsStr;
use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};
use clap_complete::env::Shells;
use rolekeeper::protocol::{Code, Failure};

use crate::command;

/// The variable by which a shell says that it wants completions, and which shell it is.
pub(crate) const VARIABLE: &str = "ROLEKEEPER_COMPLETE";

pub(crate) fn command() -> Command {
    let shells = Shells::builtins();
    Command::new("completions")
        .display_order(100)
        .about("Print what makes a shell complete profiles, methods, options and ids")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(PossibleValuesParser::new(
                    shells.names().map(str::to_owned).collect::<Vec<_>>(),
                ))
                .help("Which shell; its start-up file is where the lines go"),
        )
}

pub(crate) fn run(shell: &str) -> Result<(), Failure> {
    let shells = Shells::builtins();
    let completer = shells
        .completer(shell)
        .ok_or_else(|| unwritable("it is not known"))?;
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

/// Whether it is a shell, or the path of one, that completions can be made for.
pub(crate) fn knows(shell: &OsStr) -> bool {
    let name = Path::new(shell).file_stem().unwrap_or(shell);
    Shells::builtins()
        .completer(&name.to_string_lossy())
        .is_some()
}

fn unwritable(why: &str) -> Failure {
    Failure::new(
        Code::Unexpected,
        format!("the lines for this shell cannot be made: {why}"),
        "rolekeeper completions --help",
    )
}
