//! Clients that run in the background of a test.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use rolekeeper_tests::harness::Home;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

/// A running client, in its own process group. It is killed when dropped, with its commands.
pub(super) struct ClientProcess {
    child: Child,
    pub(super) lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl ClientProcess {
    /// Starts `rolekeeper` without autostart. Its standard error goes to the file `stderr` of the
    /// home.
    pub(super) fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.client();
        command.env("ROLEKEEPER_AUTOSTART", "0").args(args);

        Self::start_by(home, command)
    }

    pub(super) fn start_by(home: &Home, mut command: Command) -> Self {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(home.path().join("stderr"))
            .unwrap();

        Self::spawn(command.stderr(log))
    }

    pub(super) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();

        let lines = BufReader::new(child.stdout.take().unwrap()).lines();

        Self {
            child,
            lines: Some(lines),
        }
    }

    pub(super) fn line(&mut self) -> String {
        self.lines
            .as_mut()
            .unwrap()
            .next()
            .expect("the client prints a line")
            .unwrap()
    }

    pub(super) fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// All further lines, until the client and its commands have closed the output.
    pub(super) fn rest(&mut self) -> Vec<String> {
        self.lines.take().unwrap().map(Result::unwrap).collect()
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(super) fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The client's child processes.
    pub(super) fn commands(&self) -> Vec<Pid> {
        let pid = self.child.id();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();

        children
            .split_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect()
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        for leader in self.commands().into_iter().chain([self.pid()]) {
            let _ = kill_process_group(leader, Signal::KILL);
        }

        let _ = self.child.wait();
    }
}
