//! A daemon that runs in a home.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::run::exit_code;
use super::{Home, eventually, programs};

/// Killed when it is dropped.
#[derive(Debug)]
pub struct Daemon<'a> {
    child: Child,
    home: &'a Home,
    log: PathBuf,
}

impl Home {
    /// Starts `rolekeeperd` and waits until it serves.
    pub fn daemon(&self, args: &[&str]) -> Daemon<'_> {
        let mut command = self.command(&programs().rolekeeperd);
        command.args(args);

        self.daemon_from(command)
    }

    /// Starts the daemon with a command, and waits until it serves.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn daemon_from(&self, command: Command) -> Daemon<'_> {
        self.daemon_with_stdin(command, Stdio::null())
    }

    /// Like [`Self::daemon_from`], with a standard input.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn daemon_with_stdin(&self, mut command: Command, stdin: Stdio) -> Daemon<'_> {
        let log = self.path().join("daemon.log");
        let stderr = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");

        self.set_env(&mut command);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().expect("the daemon starts");

        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("a line on standard output");
        assert!(
            line.contains("\"ready\":true"),
            "{line:?} {:?}",
            fs::read_to_string(&log)
        );

        Daemon {
            child,
            home: self,
            log,
        }
    }

    /// Kills a daemon that a client started and that the test did not stop.
    pub(super) fn kill_autostarted_daemon(&self) {
        let status = self
            .client()
            .args(["status", "--json"])
            .stderr(Stdio::null())
            .output();
        let Ok(status) = status else {
            return;
        };

        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        let pid = status["daemon"]["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Daemon<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the daemon runs");
    }

    /// How many times it has started to serve: once, and once more for each reload.
    pub fn starts(&self) -> usize {
        self.log().matches("serving").count()
    }

    /// Sends SIGHUP and waits until the new process serves.
    pub fn reload(&self) {
        let before = self.starts();
        self.signal(Signal::HUP);

        eventually("the reloaded daemon serves", || {
            (self.starts() > before).then_some(())
        });
    }

    /// Sends SIGTERM and returns the exit code.
    pub fn stop(mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end and returns the exit code.
    pub fn wait(&mut self) -> i32 {
        exit_code(self.child.wait().expect("the daemon ends"))
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("the daemon runs");
        self.wait();
    }

    /// Everything on its standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log file")
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();

        let log = fs::read_to_string(&self.log).unwrap_or_default();
        self.home.leaks.add_output("the daemon", &log);
    }
}
