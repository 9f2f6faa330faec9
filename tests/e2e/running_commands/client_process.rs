//! Clients that go on running while a test does something else.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use rolekeeper_tests::harness::Home;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

/// A client that goes on running, in a process group of its own.
pub(super) struct ClientProcess {
    child: Child,
    pub(super) lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl ClientProcess {
    /// It starts no daemon.
    pub(super) fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.client();
        command.env("ROLEKEEPER_AUTOSTART", "0").args(args);

        Self::by(home, command)
    }

    pub(super) fn by(home: &Home, mut command: Command) -> Self {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(home.path().join("said"))
            .unwrap();

        Self::telling(command.stderr(log))
    }

    pub(super) fn telling(command: &mut Command) -> Self {
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
            .expect("it says something")
            .unwrap()
    }

    pub(super) fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// What else is said before everybody has ended who could say something.
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

    /// What it has started and not reaped.
    pub(super) fn commands(&self) -> Vec<Pid> {
        let pid = self.child.id();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();

        children
            .split_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect()
    }

    pub(super) fn runs(&mut self) -> bool {
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
