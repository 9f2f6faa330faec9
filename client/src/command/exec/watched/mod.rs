//! A command that is watched over. Threads of their own have credentials and hear of their revocation, hear signals, and
//! wait for the command's end; what is to be done about each is done here, one after the other, and never waits for a
//! daemon or for a reader of standard error.

mod process;
mod signals;
mod supply;
mod voice;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, ProfileUpdate};
use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use self::process::Process;
use self::supply::Supply;
use self::voice::Voice;
use super::{OnRevoke, Plan};

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// Between two looks whether anything is left of a command whose first process has ended: nobody tells.
const LOOK: Duration = Duration::from_millis(50);

enum Event {
    /// The command with credentials, ready to be started.
    Granted(Box<Command>),
    /// There are none, and waiting does not help.
    Refused(Failure),
    /// Those of the last [`Event::Granted`] were revoked: the profile as it is now.
    Revoked(Box<ProfileUpdate>),
    Signal(i32),
    /// The command is to be reaped.
    Ended,
}

/// How a run of the command came to its end.
struct End {
    status: ExitStatus,
    /// Why it was told to end, if that was for its credentials.
    revoked: Option<Box<ProfileUpdate>>,
    /// Somebody else wanted an end, too.
    is_unwanted: bool,
}

pub(super) fn run(socket: PathBuf, plan: Plan, on_revoke: OnRevoke) -> Result<ExitCode, Failure> {
    let voice = Voice::default();
    let (tell, events) = mpsc::channel();
    // A terminal's signals go to its whole foreground group, in which the command must be to read from it.
    let has_group = !std::io::stdin().is_terminal();
    // Before there is a child that could miss one.
    signals::hear(has_group, tell.clone())?;
    let supply = Supply {
        socket,
        plan,
        on_revoke,
        voice: voice.clone(),
        tell,
    };
    let outcome = supervise(&supply, has_group, &events);
    voice.finish();
    outcome
}

fn supervise(
    supply: &Supply,
    has_group: bool,
    events: &Receiver<Event>,
) -> Result<ExitCode, Failure> {
    let mut has_started = false;
    loop {
        supply.begin(has_started);
        let command = match granted(events)? {
            Ok(command) => command,
            Err(signal) => return Ok(ended_by(signal)),
        };
        let process = Process::start(*command, has_group, supply.tell.clone())?;
        has_started = true;
        let End {
            status,
            revoked,
            is_unwanted,
        } = watch_over(process, supply, events)?;
        match revoked {
            None => return Ok(code(status)),
            Some(now) if supply.on_revoke != OnRevoke::Restart => return Err(failure(&now)),
            Some(_) if is_unwanted => return Ok(code(status)),
            Some(_) => {}
        }
    }
}

/// Waits for credentials, or for a signal that ends this program.
fn granted(events: &Receiver<Event>) -> Result<Result<Box<Command>, i32>, Failure> {
    loop {
        match events.recv().map_err(|_| connect::unexpected_reply())? {
            Event::Granted(command) => return Ok(Ok(command)),
            Event::Refused(failure) => return Err(failure),
            Event::Signal(signal) if signals::ends(signal) => return Ok(Err(signal)),
            Event::Signal(signal) => signals::stop_at(signal),
            Event::Revoked(_) | Event::Ended => {}
        }
    }
}

/// Until the command has ended, and whatever of its group is to end with it.
fn watch_over(
    mut process: Process,
    supply: &Supply,
    events: &Receiver<Event>,
) -> Result<End, Failure> {
    let mut revoked = None;
    let mut kill_at = None;
    let mut is_unwanted = false;
    loop {
        if let Some(status) = process.status()
            && (kill_at.is_none() || !process.has_rest())
        {
            return Ok(End {
                status,
                revoked,
                is_unwanted,
            });
        }
        match next(events, kill_at, process.status().is_some())? {
            None if kill_at.is_some_and(|at| at <= Instant::now()) => {
                process.signal(Signal::KILL);
                kill_at = None;
            }
            Some(Event::Ended) => process.reap().map_err(|error| lost(&error))?,
            Some(Event::Signal(signal)) => {
                process.pass_on(signal);
                signals::stop_at(signal);
                // Without a revocation they may mean something else to the command.
                is_unwanted |= signal == SIGTERM
                    || (revoked.is_some() && [SIGHUP, SIGINT, SIGQUIT].contains(&signal));
            }
            Some(Event::Revoked(now)) => {
                let said = told(&now);
                if supply.on_revoke != OnRevoke::Warn {
                    process.signal(Signal::TERM);
                    kill_at = Some(Instant::now() + GRACE);
                    revoked = Some(now);
                }
                supply.voice.say(&format!("rolekeeper: {said}"));
            }
            Some(Event::Granted(_) | Event::Refused(_)) | None => {}
        }
    }
}

/// Waits for an event: no longer than until `kill_at`, and where there is something left to look after, for a moment.
fn next(
    events: &Receiver<Event>,
    kill_at: Option<Instant>,
    looks: bool,
) -> Result<Option<Event>, Failure> {
    let event = match kill_at.map(|at| at.saturating_duration_since(Instant::now())) {
        None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(left) => events.recv_timeout(if looks { left.min(LOOK) } else { left }),
    };
    match event {
        Ok(event) => Ok(Some(event)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(connect::unexpected_reply()),
    }
}

/// What is said as soon as it is known.
fn told(now: &ProfileUpdate) -> String {
    let how = now
        .held
        .as_ref()
        .or(now.ended.as_ref())
        .map_or_else(String::new, |ending| format!(": {ending}"));
    format!(
        "the credentials of profile {} were revoked while the command ran{how}",
        now.profile
    )
}

/// What is said once the command has ended for it.
fn failure(now: &ProfileUpdate) -> Failure {
    let profile = &now.profile;
    let next = match now.held {
        Some(_) => format!("rolekeeper resume {profile}"),
        None => "run the command again: it gets new credentials".into(),
    };
    Failure::new(
        Code::Held,
        format!("the command was ended with the credentials of profile {profile}"),
        format!("rolekeeper audit {profile}; then {next}"),
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
