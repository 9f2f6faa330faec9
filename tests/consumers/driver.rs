//! A program that uses an SDK. It makes one request for each line on standard input, and prints the result as a line of
//! JSON.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rolekeeper_tests::harness::Home;
use serde_json::Value;

use super::installed;

pub(crate) struct Driver {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Driver {
    pub(crate) fn start(home: &Home, mut command: Command) -> Self {
        command.env(
            "SDK",
            installed("python").ancestors().nth(2).expect("a folder"),
        );
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(home.path().join("sdk.log"))
            .expect("the log is writable");

        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the driver starts");
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");

        Self {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
        }
    }

    /// Makes one request, and returns its result.
    pub(crate) fn request(&mut self, line: &str) -> Value {
        writeln!(self.stdin, "{line}").expect("the driver reads");
        let output = self.lines.next().expect("a result").expect("a line");

        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of a file in `tests/consumers`.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("consumers")
        .join(name)
}

/// The command that runs a driver for botocore.
pub(crate) fn botocore(home: &Home, name: &str) -> Command {
    let mut command = home.command(&installed("python"));
    command.arg(source(name));

    command
}

/// The command that runs a driver for the AWS SDK for JavaScript.
pub(crate) fn javascript(home: &Home, name: &str) -> Command {
    let mut command = home.command(Path::new("node"));
    command.arg(source(name));

    command
}
