//! Who waits for a token: a program or a prompt may take long, and a program may even wait for itself.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::TokenErrorKind;
use crate::sandbox::helper::command_runner::CommandPid;
use crate::sync::lock;

/// Where a token is awaited from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWait {
    /// The subject of a sentence.
    pub(crate) location: String,
    /// What the user can do, as an imperative.
    pub(crate) hint: String,
}

/// The reads of a token source that are under way.
#[derive(Debug, Default)]
pub(super) struct Readers {
    count: AtomicUsize,
    command: Mutex<Option<RunningTokenCommand>>,
}

/// A read, until this is dropped.
pub(super) struct Reading<'a>(&'a Readers);

/// A run of the token command, until this is dropped.
pub(super) struct CommandRun<'a> {
    readers: &'a Readers,
    command: RunningTokenCommand,
}

/// A token command that runs.
#[derive(Debug, Clone, Default)]
pub struct RunningTokenCommand(Arc<CommandState>);

#[derive(Debug, Default)]
struct CommandState {
    pid: OnceLock<CommandPid>,
    waits_for_itself: AtomicBool,
}

impl Readers {
    pub(super) fn start(&self) -> Reading<'_> {
        self.count.fetch_add(1, Ordering::Relaxed);
        Reading(self)
    }

    pub(super) fn is_reading(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub(super) fn start_command(&self) -> CommandRun<'_> {
        let command = RunningTokenCommand::default();
        *lock(&self.command) = Some(command.clone());
        CommandRun {
            readers: self,
            command,
        }
    }

    pub(super) fn command(&self) -> Option<RunningTokenCommand> {
        lock(&self.command).clone()
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl CommandRun<'_> {
    pub(super) fn set_pid(&self, pid: CommandPid) {
        let _ = self.command.0.pid.set(pid);
    }

    /// Why the command really failed.
    pub(super) fn cause(&self, kind: TokenErrorKind) -> TokenErrorKind {
        if self.command.0.waits_for_itself.load(Ordering::Relaxed) {
            TokenErrorKind::CommandRecursion
        } else {
            kind
        }
    }
}

impl Drop for CommandRun<'_> {
    fn drop(&mut self) {
        lock(&self.readers.command).take();
    }
}

impl RunningTokenCommand {
    /// None until it has started.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.0.pid.get()?.get()
    }

    /// It has asked for what needs its own output.
    pub(crate) fn set_waits_for_itself(&self) {
        self.0.waits_for_itself.store(true, Ordering::Relaxed);
    }
}
