//! Programs that run to their end in a home.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;

use super::{Home, programs};

/// How a program ended and what it printed.
#[derive(Debug)]
pub struct Run {
    /// The exit code, or the negative number of the signal that killed it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The JSON document on standard output.
    ///
    /// # Panics
    /// If the program failed, printed anything else, or printed to standard error.
    pub fn json(&self) -> Value {
        assert!(self.code == 0 && self.stderr.is_empty(), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Home {
    /// A `rolekeeper` command.
    pub fn client(&self) -> Command {
        self.command(&programs().rolekeeper)
    }

    /// Runs a command to its end, and checks its output for leaked secrets when this home is
    /// dropped.
    pub fn run(&self, mut command: Command) -> Run {
        let output = command
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        let run = Run {
            code: exit_code(output.status),
            stdout: utf8(output.stdout),
            stderr: utf8(output.stderr),
        };
        self.leaks.add_run(&format!("{command:?}"), &run);

        run
    }

    /// Runs `rolekeeper` without autostart.
    pub fn rolekeeper(&self, args: &[&str]) -> Run {
        let mut command = self.client();
        command.env("ROLEKEEPER_AUTOSTART", "0").args(args);

        self.run(command)
    }

    /// Runs `rolekeeperd` to its end.
    pub fn rolekeeperd(&self, args: &[&str]) -> Run {
        let mut command = self.command(&programs().rolekeeperd);
        command.args(args);

        self.run(command)
    }
}

pub(super) fn utf8(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("the program prints UTF-8")
}

/// The exit code, or the negative number of the signal that killed the program.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| -status.signal().unwrap_or(0))
}
