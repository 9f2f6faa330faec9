//! Commands of other programs that change their own configuration.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use rolekeeper::protocol::{Code, Failure};

use super::program::quoted;

/// Runs a command and returns its standard output. `git config` exits with 1 and prints no error if it finds no value.
pub(super) fn run(command: &[String]) -> Result<String, Failure> {
    let program = command.first().map_or("", String::as_str);
    let mut process = Command::new(program);
    process.args(command.iter().skip(1)).stdin(Stdio::null());
    let output = process.output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::new(
            Code::Configuration,
            format!("{program} is not installed: setup needs it to change its configuration"),
            format!("install {program} in a folder on PATH"),
        ),
        _ => failed(command, &error.to_string()),
    })?;

    let has_found_none = output.status.code() == Some(1) && output.stderr.is_empty();
    if output.status.success() || has_found_none {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }

    let errors = String::from_utf8_lossy(&output.stderr);
    let first = errors.lines().find(|line| !line.trim().is_empty());

    Err(failed(command, first.unwrap_or(&output.status.to_string())))
}

fn failed(command: &[String], reason: &str) -> Failure {
    let hint = match command.first() {
        Some(program) if reason.contains("unknown") => format!("install a newer {program}"),
        _ => "fix this and run the command again".into(),
    };
    let message = format!("{} failed: {reason}", quoted(command));
    Failure::new(Code::Configuration, message, hint)
}
