//! A command that is watched over: what is told of its profile, what it is told by others, and its end, one after the
//! other.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, ExitCode, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use rolekeeper::protocol::{Code, Failure, Watched};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use super::{OnRevoke, not_started, with_credentials};
use crate::command;
use crate::command::watch::follow;

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

enum Event {
    /// The profile as it is now, and whether a daemon's generations begin with this.
    Profile(Box<Watched>, bool),
    /// The daemon tells no more.
    Unwatched(Failure),
    Signal(i32),
    Ended(std::io::Result<ExitStatus>),
}

/// How a run of the command came to its end.
enum End {
    ByItself(ExitStatus),
    /// Because its credentials were revoked.
    Revoked(Box<Watched>),
}

pub(super) fn run(socket: &Path, profile: &str, on_revoke: OnRevoke, words: &[OsString]) -> Result<ExitCode, Failure> {
    let (tell, events) = mpsc::channel();
    // Before there is a child that could miss one.
    signals(tell.clone())?;
    watch(socket, profile, tell.clone());
    let mut watched = first(&events)?;
    loop {
        // What was revoked before the lease was given is no news.
        let mut command = match with_credentials(socket, profile, words) {
            Err(Failure { code: Code::Held, message, hint }) if on_revoke == OnRevoke::Restart => {
                command::tell(&format!("rolekeeper: {message}\n  try: {hint}; the command is started then"));
                match until_resumed(&events)? {
                    Ok(resumed) => watched = resumed,
                    Err(signal) => return Ok(ended_by(signal)),
                }
                continue;
            }
            command => command?,
        };
        let child = command.spawn().map_err(|error| not_started(&command, &error))?;
        match watch_over(child, watched, on_revoke, &events, &tell)? {
            End::ByItself(status) => return Ok(code(status)),
            End::Revoked(now) if on_revoke == OnRevoke::Restart => watched = now,
            End::Revoked(now) => return Err(revoked(&now)),
        }
    }
}

/// Until the child has ended.
fn watch_over(
    mut child: Child,
    mut known: Box<Watched>,
    on_revoke: OnRevoke,
    events: &Receiver<Event>,
    tell: &Sender<Event>,
) -> Result<End, Failure> {
    let pid = Pid::from_child(&child);
    let tell = tell.clone();
    thread::spawn(move || tell.send(Event::Ended(child.wait())));
    let mut is_revoked = false;
    loop {
        let event = if is_revoked {
            events.recv_timeout(GRACE).or_else(|timeout| match timeout {
                RecvTimeoutError::Timeout => {
                    // It may have ended in this moment.
                    let _ = kill_process(pid, Signal::KILL);
                    events.recv()
                }
                RecvTimeoutError::Disconnected => Err(mpsc::RecvError),
            })
        } else {
            events.recv()
        };
        match event.map_err(|_| rolekeeper::connect::out_of_place())? {
            Event::Ended(status) => {
                let status = status.map_err(|error| lost(&error))?;
                return Ok(if is_revoked { End::Revoked(known) } else { End::ByItself(status) });
            }
            Event::Signal(signal) => {
                if let Some(signal) = Signal::from_named_raw(signal) {
                    let _ = kill_process(pid, signal);
                }
            }
            Event::Unwatched(failure) => {
                command::tell(&format!("rolekeeper: revocations are no longer noticed: {failure}"));
            }
            Event::Profile(now, is_new_daemon) => {
                let is_over = now.held.is_some() || (!is_new_daemon && now.generation != known.generation);
                let was_over = known.held.is_some();
                known = now;
                if is_over && !was_over && !is_revoked {
                    command::tell(&format!("rolekeeper: {}", revoked(&known).message));
                    if on_revoke != OnRevoke::Warn {
                        is_revoked = true;
                        let _ = kill_process(pid, Signal::TERM);
                    }
                }
            }
        }
    }
}

/// Tells what becomes of the profile.
fn watch(socket: &Path, profile: &str, tell: Sender<Event>) {
    let (socket, profile) = (socket.to_owned(), profile.to_owned());
    thread::spawn(move || {
        let followed = follow(&socket, &profile, |watched, is_new_daemon| {
            Ok(tell.send(Event::Profile(Box::new(watched), is_new_daemon)).is_ok())
        });
        if let Err(failure) = followed {
            let _ = tell.send(Event::Unwatched(failure));
        }
    });
}

/// Passes on what this program is told; a terminal tells the child by itself.
fn signals(tell: Sender<Event>) -> Result<(), Failure> {
    let wanted = [SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];
    let mut signals = Signals::new(wanted).map_err(|error| lost(&error))?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let by_terminal = [SIGCONT, SIGINT, SIGQUIT, SIGWINCH].contains(&signal);
            if !by_terminal && tell.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn first(events: &Receiver<Event>) -> Result<Box<Watched>, Failure> {
    loop {
        match events.recv().map_err(|_| rolekeeper::connect::out_of_place())? {
            Event::Profile(watched, _) => return Ok(watched),
            Event::Unwatched(failure) => return Err(failure),
            Event::Signal(_) | Event::Ended(_) => {}
        }
    }
}

/// Waits until credentials are given again, or a signal says not to.
fn until_resumed(events: &Receiver<Event>) -> Result<Result<Box<Watched>, i32>, Failure> {
    loop {
        match events.recv().map_err(|_| rolekeeper::connect::out_of_place())? {
            Event::Profile(watched, _) if watched.held.is_none() => return Ok(Ok(watched)),
            Event::Signal(signal) => return Ok(Err(signal)),
            Event::Unwatched(failure) => return Err(failure),
            Event::Profile(..) | Event::Ended(_) => {}
        }
    }
}

fn revoked(watched: &Watched) -> Failure {
    let profile = &watched.profile;
    let ending = watched.held.as_ref().or(watched.ended.as_ref());
    let how = ending.map_or_else(String::new, |ending| format!(": {ending}"));
    Failure::new(
        Code::Held,
        format!("the credentials of profile {profile} were revoked while the command ran{how}"),
        format!("rolekeeper audit {profile}; then rolekeeper resume {profile}"),
    )
}

fn lost(error: &std::io::Error) -> Failure {
    Failure::new(
        Code::Unexpected,
        format!("the command cannot be watched over: {error}"),
        "the same without --on-revoke",
    )
}

/// As a shell would have it.
fn code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        (None, signal) => ended_by(signal.unwrap_or_default()),
    }
}

fn ended_by(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
}
