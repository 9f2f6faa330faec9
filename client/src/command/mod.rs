//! One file a command. Results go to standard output, everything else to standard error, which stays empty on success:
//! some SDKs read both as one stream.

pub(crate) mod credential_process;
pub(crate) mod status;

use std::io::Write;

use rolekeeper::protocol::{Code, Failure};

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
