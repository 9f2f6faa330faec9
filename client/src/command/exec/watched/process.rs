//! The command while it runs: one process, or the process group that it leads. Nothing is sent to a number that somebody
//! else may have been given.

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
    /// Its end is told as [`Event::Ended`].
    pub(super) fn start(
        mut command: Command,
        has_group: bool,
        tell: Sender<Event>,
    ) -> Result<Self, Failure> {
        if has_group {
            command.process_group(0);
        }
        let child = command
            .spawn()
            .map_err(|error| not_started(&command, &error))?;
        let pid = Pid::from_child(&child);
        thread::spawn(move || {
            // Until it is reaped, which is not done here, its number is nobody else's.
            let _ = retry_on_intr(|| {
                waitid(
                    WaitId::Pid(pid),
                    WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
                )
            });
            let _ = tell.send(Event::Ended);
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

    /// How it ended, once it has been reaped.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Whether others of its group are left after it. As long as there are, the group's number is nobody else's.
    pub(super) fn has_rest(&self) -> bool {
        self.has_group && test_kill_process_group(self.pid).is_ok()
    }

    /// Passes on a signal that this program was sent.
    pub(super) fn pass_on(&self, signal: i32) {
        if !self.has_group && signals::BY_TERMINAL.contains(&signal) {
            return;
        }
        if let Some(signal) = Signal::from_named_raw(signal) {
            self.signal(signal);
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        // It may have ended in this moment: then there is nobody to tell, and that is told by another event.
        let _ = match (self.has_group, self.status) {
            (true, None) => kill_process_group(self.pid, signal),
            (true, Some(_)) if self.has_rest() => kill_process_group(self.pid, signal),
            (false, None) => kill_process(self.pid, signal),
            (_, Some(_)) => Ok(()),
        };
    }
}
