//! A program made of an SDK, which makes a request for each line that it is given, and answers with a line of JSON.

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
            .expect("a log");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("it starts");
        let (stdin, stdout) = (
            child.stdin.take().expect("piped"),
            child.stdout.take().expect("piped"),
        );
        Self {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
        }
    }

    pub(crate) fn ask(&mut self, line: &str) -> Value {
        writeln!(self.stdin, "{line}").expect("it reads");
        let said = self.lines.next().expect("it answers").expect("a line");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file of the folder of these tests.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("consumers")
        .join(name)
}

/// A program for botocore.
pub(crate) fn botocore(home: &Home, name: &str) -> Command {
    let mut command = home.command(&installed("python"));
    command.arg(source(name));
    command
}

/// A program for the AWS SDK for JavaScript.
pub(crate) fn javascript(home: &Home, name: &str) -> Command {
    let mut command = home.command(Path::new("node"));
    command.arg(source(name));
    command
}
