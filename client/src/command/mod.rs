//! One file a command. Results go to standard output, everything else to standard error, which stays empty on success:
//! some SDKs read both as one stream.

pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod credential_process;
pub(crate) mod explain;
pub(crate) mod iam;
pub(crate) mod status;

use std::io::Write;

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};
use serde::Serialize;

/// Writes a command's result in one piece.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| {
        Failure::new(
            Code::Unexpected,
            format!("standard output cannot be written: {error}"),
            "see where the output of this command goes",
        )
    })
}

/// Writes a command's result as JSON.
pub(crate) fn print_json(result: &impl Serialize) -> Result<(), Failure> {
    print(&(serde_json::to_string_pretty(result).map_err(|_| connect::out_of_place())? + "\n"))
}
