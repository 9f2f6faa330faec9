//! The running command: one process, or the process group that it leads. Signals are sent only while the process id cannot
//! be reused.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::Sender;
use std::thread;

use rolekeeper::protocol::Failure;
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use rustix::process::{kill_process, kill_process_group, test_kill_process_group, waitid};

use super::super::not_started;
use super::{Event, signals};

pub(super) struct Process {
    child: Child,
    pid: Pid,
    has_group: bool,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts the command. Sends [`Event::Exited`] when it exits.
    pub(super) fn start(
        mut command: Command,
        has_group: bool,
        sender: Sender<Event>,
    ) -> Result<Self, Failure> {
        if has_group {
            command.process_group(0);
        }

        let child = command
            .spawn()
            .map_err(|error| not_started(&command, &error))?;
        let pid = Pid::from_child(&child);
        thread::spawn(move || {
            // Does not reap it: until then its process id cannot be reused.
            let _ = retry_on_intr(|| {
                waitid(
                    WaitId::Pid(pid),
                    WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
                )
            });
            let _ = sender.send(Event::Exited);
        });

        Ok(Self {
            child,
            pid,
            has_group,
            status: None,
        })
    }

    pub(super) fn reap(&mut self) -> io::Result<()> {
        self.status = Some(self.child.wait()?);
        Ok(())
    }

    /// How it exited, after it was reaped.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Whether other processes of its group still run. Until then the group's id cannot be reused.
    pub(super) fn has_group_members(&self) -> bool {
        self.has_group && test_kill_process_group(self.pid).is_ok()
    }

    /// Forwards a signal that this program received.
    pub(super) fn forward(&self, signal: i32) {
        if !self.has_group && signals::BY_TERMINAL.contains(&signal) {
            return;
        }
        if let Some(signal) = Signal::from_named_raw(signal) {
            self.signal(signal);
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        // An error means that it has just exited, which another event reports.
        let _ = match (self.has_group, self.status) {
            (true, None) => kill_process_group(self.pid, signal),
            (true, Some(_)) if self.has_group_members() => kill_process_group(self.pid, signal),
            (false, None) => kill_process(self.pid, signal),
            (_, Some(_)) => Ok(()),
        };
    }
}
