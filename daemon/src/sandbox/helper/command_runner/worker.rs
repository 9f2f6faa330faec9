//! The command helper process.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::platform::limits;
use crate::sandbox::helper::ipc::{self, Frame, Request};
use crate::sandbox::helper::worker::{self, Worker};

/// How long a command may run, and then wait for the daemon to accept its output. The daemon waits for 30 s; this is for
/// commands of a daemon that has been replaced meanwhile.
const LIMIT: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Work {
    /// Run only these commands from now on. The first request of a helper's life; later ones are ignored.
    Allow(Vec<Vec<String>>),
    /// Respond whether this command is allowed.
    Check(Vec<String>),
    /// Run this command, with its standard output to the descriptor beside it.
    Run(Vec<String>),
}

/// Runs commands for the daemon at the other end of this socket.
pub(in crate::sandbox::helper) fn run_worker(socket: &OwnedFd) {
    // The commands would inherit them.
    if let Err(error) = limits::drop_capabilities() {
        eprintln!("rolekeeperd: token commands are off: cannot drop capabilities: {error}");
        return;
    }

    let Ok(responses) = socket.try_clone() else {
        return;
    };

    let mut runner = Runner {
        responses: Arc::new(responses),
        allowed: None,
        controls: BTreeMap::new(),
        threads: Vec::new(),
    };

    worker::run(socket, &mut runner);
    runner.stop();
}

struct Runner {
    responses: Arc<OwnedFd>,
    allowed: Option<Vec<Vec<String>>>,
    /// One for each command that is neither accepted nor cancelled.
    controls: BTreeMap<u64, UnixStream>,
    threads: Vec<JoinHandle<()>>,
}

impl Worker for Runner {
    type Work = Work;

    fn accept(&mut self, request: Frame<Request<Work>>, descriptors: Vec<OwnedFd>) {
        let id = request.id;
        let outcome = match request.body {
            Request::Start(Work::Allow(allowed)) => {
                self.allowed.get_or_insert(allowed);
                Some(Outcome::Allowed)
            }
            Request::Start(Work::Check(command)) if self.allows(&command) => Some(Outcome::Allowed),
            Request::Start(Work::Run(command)) if self.allows(&command) => {
                let started = self.start(id, &command, descriptors);
                started.err().as_ref().map(not_started)
            }
            Request::Start(Work::Check(_) | Work::Run(_)) => Some(Outcome::NotAllowed),
            Request::Finish => {
                if let Some(mut control) = self.controls.remove(&id) {
                    // The command has timed out if nothing reads it.
                    let _ = control.write_all(&[ACCEPTED]);
                }
                None
            }
            Request::Cancel => {
                self.controls.remove(&id);
                None
            }
        };

        if let Some(outcome) = outcome {
            let _ = respond(&self.responses, id, outcome);
        }
    }
}

/// What a control stream carries if the daemon accepts a command's output. Its end cancels the command.
const ACCEPTED: u8 = 1;

impl Runner {
    fn allows(&self, command: &Vec<String>) -> bool {
        self.allowed
            .as_ref()
            .is_some_and(|allowed| allowed.contains(command))
    }

    fn start(&mut self, id: u64, words: &[String], stdout: Vec<OwnedFd>) -> io::Result<()> {
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let stdout = stdout
            .into_iter()
            .next()
            .ok_or(io::ErrorKind::InvalidInput)?;
        // The output of a command may repeat its arguments on standard error, so nothing reads that.
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::null())
            .process_group(0);

        let (control, controlled) = UnixStream::pair()?;
        let responses = Arc::clone(&self.responses);
        let supervise = move || {
            supervise(command, &controlled, |outcome| {
                respond(&responses, id, outcome)
            });
        };

        let thread = thread::Builder::new().spawn(supervise)?;

        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread);
        self.controls.insert(id, control);

        Ok(())
    }

    /// Cancels all commands, and waits until they are killed.
    fn stop(self) {
        drop(self.controls);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Runs a command until it exits, or is cancelled.
fn supervise(
    mut command: Command,
    control: &UnixStream,
    respond: impl Fn(Outcome) -> io::Result<()>,
) {
    let spawned = command.spawn();
    // It holds the write end of the pipe, which would keep the daemon waiting for more.
    drop(command);
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let _ = respond(not_started(&error));
            return;
        }
    };

    let group = Pid::from_child(&child);
    // If it fails the daemon has exited, which ends the command below.
    let _ = respond(Outcome::Started(group.as_raw_nonzero().get()));

    let is_accepted = match await_exit(group, control) {
        Ok(Some(status)) => respond(Outcome::Exited(status)).is_ok() && await_accepted(control),
        Ok(None) => false,
        Err(error) => {
            let _ = respond(not_started(&error));
            false
        }
    };

    // No other group can have this id before the wait.
    if !is_accepted {
        let _ = kill_process_group(group, Signal::KILL);
    }

    let _ = child.wait();
}

/// The exit status, or None if the command was cancelled or the time is over.
fn await_exit(pid: Pid, control: &UnixStream) -> io::Result<Option<i32>> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let mut ready = [
        PollFd::new(&process, PollFlags::IN),
        PollFd::new(control, PollFlags::IN),
    ];

    poll_retrying(&mut ready)?;
    if ready[0].revents().is_empty() {
        return Ok(None);
    }

    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(pid), options)?;
    Ok(status.and_then(|status| {
        let code = status.exit_status().map(|code| (code & 0xff) << 8);
        code.or_else(|| status.terminating_signal())
    }))
}

fn await_accepted(mut control: &UnixStream) -> bool {
    let mut ready = [PollFd::new(&control, PollFlags::IN)];
    let polled = poll_retrying(&mut ready);
    if polled.is_err() || ready[0].revents().is_empty() {
        return false;
    }

    let mut byte = [0];
    control.read_exact(&mut byte).is_ok() && byte == [ACCEPTED]
}

fn poll_retrying(ready: &mut [PollFd<'_>]) -> io::Result<()> {
    loop {
        match poll(ready, Some(&LIMIT)) {
            Err(Errno::INTR) => {}
            polled => return Ok(polled.map(drop)?),
        }
    }
}

fn respond(socket: &OwnedFd, id: u64, outcome: Outcome) -> io::Result<()> {
    let frame = Frame {
        id,
        uid: 0,
        body: outcome,
    };
    ipc::send(socket, &frame, &[], SendFlags::empty())
}

fn not_started(error: &io::Error) -> Outcome {
    Outcome::NotStarted(error.raw_os_error().unwrap_or(libc::EIO))
}
