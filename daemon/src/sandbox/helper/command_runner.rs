//! The starter: a process of its own that starts the programs which print tokens. What the daemon starts once it has confined
//! itself is as confined, and a password manager may need anything. It starts what the configuration named when the daemon
//! was started, and nothing else, whoever asks. A token goes from the program to the daemon, and not through here.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::SendFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use serde::{Deserialize, Serialize};

use crate::sandbox::helper::ipc;

/// How the daemon starts one.
pub const ARGUMENT: &str = "--start-programs";
/// The longest message, in bytes: a program and its arguments, or those of all upstreams at the beginning.
const LONGEST: usize = 128 * 1024;
/// What the daemon says when it has read all, and what else the program has started may go on.
pub(crate) const WELL: u8 = b'.';

/// The way to it.
#[derive(Debug)]
pub struct CommandRunner(OwnedFd);

/// A program that has been asked for. It is ended with this.
pub(crate) struct Running {
    /// What it prints.
    pub(crate) out: OwnedFd,
    /// An [`Outcome`] comes here, and then the end.
    pub(crate) line: UnixStream,
}

/// What became of a program. After an upgrade this is between a program of today and one of before: it may only grow.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The configuration did not name it when the daemon was started.
    Unknown,
    /// By this error of the system's.
    NotStarted(i32),
    /// As wait(2) tells it.
    Ended(i32),
}

impl Outcome {
    fn not_started(error: &io::Error) -> Self {
        Self::NotStarted(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl CommandRunner {
    /// Starts one that knows these programs. To be called before the daemon confines itself.
    pub fn start(program: &Path, known: &[Vec<String>]) -> io::Result<Self> {
        let socket = ipc::start(program, ARGUMENT, true)?;
        Self::tell(&socket, known)?;
        Ok(Self(socket))
    }

    /// In threads of this process.
    #[cfg(test)]
    pub(crate) fn within(known: &[Vec<String>]) -> io::Result<Self> {
        let (ours, theirs) = ipc::pair()?;
        thread::spawn(move || start_for(&theirs));
        Self::tell(&ours, known)?;
        Ok(Self(ours))
    }

    fn tell(socket: &OwnedFd, known: &[Vec<String>]) -> io::Result<()> {
        let known = serde_json::to_vec(known)?;
        if known.len() > LONGEST {
            return Err(io::Error::other(
                "the programs that print tokens have more arguments than can be passed on",
            ));
        }
        ipc::send(socket, &known, &[], SendFlags::empty())
    }

    /// One that an earlier process started.
    pub fn at(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Another hold on the way to it, for the process that comes next.
    pub fn leave_open(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    pub(crate) fn run(&self, words: &[String]) -> io::Result<Running> {
        let (out, print) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let line = self.ask(words, &[print.as_fd()])?;
        Ok(Running { out, line })
    }

    /// Whether it starts such a program. It answers at once, or is gone.
    pub fn knows(&self, words: &[String]) -> io::Result<bool> {
        let mut line = self.ask(words, &[])?;
        line.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut said = Vec::new();
        line.read_to_end(&mut said)?;
        Ok(matches!(serde_json::from_slice(&said)?, Outcome::Ended(_)))
    }

    fn ask(&self, words: &[String], more: &[BorrowedFd<'_>]) -> io::Result<UnixStream> {
        let (line, theirs) = UnixStream::pair()?;
        let descriptors = [&[theirs.as_fd()], more].concat();
        ipc::send(
            &self.0,
            &serde_json::to_vec(words)?,
            &descriptors,
            SendFlags::DONTWAIT,
        )?;
        Ok(line)
    }
}

/// Starts programs for whoever started this process. It goes when the daemon has gone, and not when somebody tells both to.
pub fn stand_at(socket: impl AsFd) {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        crate::platform::sys::outlive(signal);
    }
    if let Err(error) = crate::platform::sys::give_up_capabilities() {
        // What it would start would have them, too.
        eprintln!(
            "rolekeeperd: no programs are started for tokens: capabilities cannot be given up: {error}"
        );
        return;
    }
    if let Ok(socket) = socket.as_fd().try_clone_to_owned() {
        start_for(&socket);
    }
}

fn start_for(socket: &OwnedFd) {
    let mut text = vec![0; LONGEST];
    let mut next = || {
        let (length, descriptors) = ipc::receive(socket, &mut text)?;
        Some((text.get(..length)?.to_owned(), descriptors))
    };
    let known = next().and_then(|(known, _)| serde_json::from_slice(&known).ok());
    let known: Vec<Vec<String>> = known.unwrap_or_default();
    // The end waits for all of them; each goes when the daemon does not wait for it any longer.
    thread::scope(|scope| {
        while let Some((words, descriptors)) = next() {
            let asked = serde_json::from_slice(&words).ok();
            let known = known
                .iter()
                .find(|known| Some(*known) == asked.as_ref())
                .and_then(|words| words.split_first());
            let mut descriptors = descriptors.into_iter();
            let Some(mut line) = descriptors.next().map(UnixStream::from) else {
                continue;
            };
            // Of what could not be said nobody waits to hear.
            let _ = match (known, descriptors.next()) {
                (None, _) => say(&mut line, &Outcome::Unknown),
                (Some(_), None) => say(&mut line, &Outcome::Ended(0)),
                (Some((program, arguments)), Some(print)) => {
                    let to_tell = line.try_clone();
                    let work =
                        move || drop(run(Command::new(program).args(arguments), print, &mut line));
                    let started = thread::Builder::new().spawn_scoped(scope, work);
                    started
                        .map(drop)
                        .or_else(|error| say(&mut to_tell?, &Outcome::not_started(&error)))
                }
            };
        }
    });
}

/// Runs a program until its end, or the daemon's word or end.
fn run(command: &mut Command, print: OwnedFd, line: &mut UnixStream) -> io::Result<()> {
    // What it says on standard error is not read: it may repeat what it was asked for.
    command
        .stdin(Stdio::null())
        .stdout(print)
        .stderr(Stdio::null());
    // So that what it starts can be ended with it.
    command.process_group(0);
    let started = command.spawn();
    // Whoever reads what it prints waits for the last who could print.
    command.stdout(Stdio::null());
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return say(line, &Outcome::not_started(&error)),
    };
    let group = Pid::from_child(&child);
    let ended = until_end(group, line);
    let said = match &ended {
        Ok(Some(status)) => say(line, &Outcome::Ended(*status)),
        Ok(None) => Ok(()),
        Err(error) => say(line, &Outcome::not_started(error)),
    };
    let mut word = [0];
    let is_well = said.is_ok()
        && matches!(ended, Ok(Some(_)))
        && line.read(&mut word).is_ok()
        && word == [WELL];
    // Until it is waited for, no other group can have its number.
    if !is_well {
        let _ = kill_process_group(group, Signal::KILL);
    }
    child.wait().map(drop)
}

/// How it ended, or nothing if the daemon has gone before.
fn until_end(pid: Pid, line: &UnixStream) -> io::Result<Option<i32>> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let mut ready = [
            PollFd::new(&process, PollFlags::IN),
            PollFd::new(line, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) if ready[0].revents().is_empty() => return Ok(None),
            Ok(_) => break,
        }
    }
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(pid), options)?;
    Ok(status.and_then(|status| {
        let code = status.exit_status().map(|code| (code & 0xff) << 8);
        code.or_else(|| status.terminating_signal())
    }))
}

fn say(line: &mut UnixStream, outcome: &Outcome) -> io::Result<()> {
    line.write_all(&serde_json::to_vec(outcome)?)?;
    line.shutdown(std::net::Shutdown::Write)
}
