//! One file a command. Results go to standard output, everything else to standard error. For tools it stays empty on
//! success: some SDKs read both as one stream.

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
pub(crate) mod iam;
pub(crate) mod journal;
mod json;
pub(crate) mod kube;
mod lease;
pub(crate) mod login;
mod prompt;
pub(crate) mod revocation;
mod screen;
pub(crate) mod sessions;
pub(crate) mod setup;
#[cfg(unix)]
mod signals;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod watch;

use std::io::{ErrorKind, IsTerminal, Write};

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use screen::{printable, printable_lines};

/// Writes a command's result in one piece. A reader that has gone, such as `head`, had what it wanted: no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_some(text).map(|_| ())
}

/// Writes a piece of a command's result. Returns whether somebody still reads.
pub(crate) fn print_some(text: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(
            Code::Unexpected,
            format!("standard output cannot be written: {error}"),
            "see where the output of this command goes",
        )),
    }
}

/// Says something beside the result. If standard error cannot be written there is nobody to tell, and the exit code must do.
pub(crate) fn tell(text: &str) {
    let _ = std::io::stderr().write_all((printable_lines(text) + "\n").as_bytes());
}

/// Writes a command's result as JSON: on a terminal with everything visible, elsewhere as it is.
pub(crate) fn print_json(result: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(result).map_err(|_| connect::unexpected_reply())? + "\n";
    print(&for_standard_output(text))
}

/// JSON as standard output is to have it.
pub(crate) fn for_standard_output(json: String) -> String {
    if std::io::stdout().is_terminal() {
        screen::escaped(&json)
    } else {
        json
    }
}

/// Writes a report of the daemon's: as JSON, or in prose, in which whatever names it repeats cannot move the cursor or pass
/// for a line of ours.
pub(crate) fn print_report<T: DeserializeOwned>(
    report: &str,
    json: bool,
    prose: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    // It repeats what the upstream answered.
    let mut report = json::reply(report, "")?;
    if json {
        return print_json(&report);
    }
    screen::clean(&mut report);
    print(&prose(
        &serde_json::from_value(report).map_err(|_| connect::unexpected_reply())?,
    ))
}
