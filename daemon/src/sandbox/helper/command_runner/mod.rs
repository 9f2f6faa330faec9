//! Programs that print tokens, as a helper process starts them. A program that the daemon starts is as confined as the
//! daemon, and a password manager may need anything. The helper starts only the commands that the configuration named when
//! the daemon started. A token goes from the program to the daemon through a pipe, and not through the helper.

mod worker;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

pub(super) use worker::run_worker;

use super::HelperKind;
use super::client::{Helper, Response, StartedWork};
use super::pending::PendingResponse;
use worker::Work;

/// Whom all requests are for: token commands are the daemon's own.
const OWNER: u32 = 0;

/// The daemon's side of the command helper process.
#[derive(Debug)]
pub(crate) struct CommandRunner {
    helper: Arc<Helper<Outcome>>,
}

/// What became of a request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The helper may run this command.
    Allowed,
    /// The configuration did not name this command when the daemon started.
    NotAllowed,
    /// The command runs as this process. Another outcome follows.
    Started(i32),
    /// With this errno.
    NotStarted(i32),
    /// With this status, as wait(2) encodes it.
    Exited(i32),
}

impl Response for Outcome {
    fn is_interim(&self) -> bool {
        matches!(self, Self::Started(_))
    }
}

impl CommandRunner {
    /// Starts the process, which then runs these commands and no others. Must be called before the daemon confines itself.
    pub(crate) fn start(program: &Path, allowed: &[Vec<String>]) -> io::Result<Self> {
        let helper = Helper::start(HelperKind::CommandRunner, program)?;
        Self { helper }.allow(allowed)
    }

    #[cfg(test)]
    pub(crate) fn in_thread(allowed: &[Vec<String>]) -> io::Result<Self> {
        let helper = Helper::in_thread(HelperKind::CommandRunner, run_worker)?;
        Self { helper }.allow(allowed)
    }

    fn allow(self, allowed: &[Vec<String>]) -> io::Result<Self> {
        self.helper
            .request(OWNER, Work::Allow(allowed.into()), &[])?
            .into_response();
        Ok(self)
    }

    /// The process that an earlier daemon started.
    pub(crate) fn inherited(socket: OwnedFd) -> Self {
        Self {
            helper: Helper::with_socket(HelperKind::CommandRunner, socket),
        }
    }

    /// See [`Helper::listen`].
    pub(crate) fn listen(&self) -> io::Result<()> {
        self.helper.listen()
    }

    /// For the daemon process that comes next.
    pub(crate) fn try_clone_socket(&self) -> io::Result<OwnedFd> {
        self.helper.try_clone_socket()
    }

    /// Whether the helper may run a command. Blocks the thread for up to two seconds.
    pub(crate) fn allows(&self, command: &[String]) -> bool {
        let Ok(check) = self.helper.request(OWNER, Work::Check(command.into()), &[]) else {
            return false;
        };
        matches!(check.into_response().wait(), Some(Outcome::Allowed))
    }

    /// Starts a command, and returns the pipe from its standard output. Fails with `BrokenPipe` if the helper has exited.
    pub(crate) fn run(&self, command: &[String]) -> io::Result<(OwnedFd, RunningCommand)> {
        let (stdout, write_end) = pipe_with(PipeFlags::CLOEXEC)?;
        let work = Work::Run(command.into());
        let started = self.helper.request(OWNER, work, &[write_end.as_fd()])?;
        Ok((stdout, RunningCommand(started)))
    }
}

/// A command with the processes that it has started. They are killed when this is dropped.
#[derive(Debug)]
pub(crate) struct RunningCommand(StartedWork<Outcome>);

impl RunningCommand {
    /// Waits until the command has exited. None if the helper has exited.
    pub(crate) async fn outcome(&self) -> Option<&Outcome> {
        self.0.response().response().await
    }

    pub(crate) fn pid(&self) -> CommandPid {
        CommandPid(Arc::clone(self.0.response()))
    }

    /// The processes that the command has started may go on.
    pub(crate) fn accept(self) {
        self.0.finish();
    }
}

/// The process id of a command.
#[derive(Debug, Clone)]
pub(crate) struct CommandPid(Arc<PendingResponse<Outcome>>);

impl CommandPid {
    /// None until the command has started.
    pub(crate) fn get(&self) -> Option<i32> {
        match self.0.interim()? {
            Outcome::Started(pid) => Some(*pid),
            _ => None,
        }
    }
}
