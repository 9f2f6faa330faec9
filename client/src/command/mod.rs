//! One file a command. Results go to standard output, everything else to standard error. Commands for tools print nothing
//! to standard error on success, because some SDKs read both as one stream.

mod address;
pub(crate) mod approve;
pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod credential_process;
pub(crate) mod docker_credential;
pub(crate) mod env;
pub(crate) mod environment;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod git_credential;
mod git_helpers;
pub(crate) mod iam;
pub(crate) mod import;
pub(crate) mod journal;
mod json;
pub(crate) mod kube;
mod lease;
pub(crate) mod login;
mod prompt;
mod region;
pub(crate) mod revocation;
mod sanitize;
pub(crate) mod sessions;
pub(crate) mod setup;
#[cfg(unix)]
mod signals;
pub(crate) mod status;
mod table;
pub(crate) mod token;
pub(crate) mod watch;

use std::io::{ErrorKind, Write};

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use rolekeeper::text::{escaped_json, printable, printable_lines};

/// Writes a command's result. A reader that has exited, such as `head`, is not an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_part(text).map(|_| ())
}

/// Writes a part of a command's result. Returns whether the reader still reads.
pub(crate) fn print_part(text: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(
            Code::Unexpected,
            format!("cannot write to standard output: {error}"),
            "check the file or program that receives the output",
        )),
    }
}

/// Prints a line to standard error. If that fails, the exit code is the only report.
pub(crate) fn print_error(text: &str) {
    let _ = std::io::stderr().write_all((printable_lines(text) + "\n").as_bytes());
}

/// Writes a command's result as JSON, with hidden characters as escapes: also a pipe may end at a terminal.
pub(crate) fn print_json(result: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(result).map_err(|_| connect::unexpected_reply())? + "\n";
    print(&escaped_json(&text))
}

/// Writes a report of the daemon as JSON or prose. Prose has no control characters, which could forge lines or move the
/// cursor.
pub(crate) fn print_report<T: DeserializeOwned>(
    report: &str,
    json: bool,
    prose: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let mut report = json::reply(report, "")?;
    if json {
        return print_json(&report);
    }
    sanitize::clean(&mut report);
    print(&prose(
        &serde_json::from_value(report).map_err(|_| connect::unexpected_reply())?,
    ))
}
