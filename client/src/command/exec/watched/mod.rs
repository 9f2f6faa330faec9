//! `exec --on-revoke`: supervises the command. Separate threads fetch credentials and follow their revocation, receive
//! signals, and wait for the command to exit. They send events to this thread, which handles one at a time and never waits
//! for the daemon or for a reader of standard error.

mod credential_supply;
mod process;
mod signals;
mod stderr;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, ProfileUpdate};
use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use self::credential_supply::CredentialSupply;
use self::process::Process;
use self::stderr::Stderr;
use super::{Arguments, OnRevoke};

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// The interval between two checks for remaining processes of the command's group, whose exit has no event.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

enum Event {
    /// The command with credentials, ready to be started.
    Granted(Box<Command>),
    /// There are no credentials, and waiting does not help.
    Refused(Failure),
    /// The command has lost the credentials of the last [`Event::Granted`].
    Lost(Box<Loss>),
    Signal(i32),
    /// The command has exited and must be reaped.
    Exited,
}

/// Why a command cannot use its credentials any more.
struct Loss {
    warning: String,
    /// The error if the command was terminated for it.
    failure: Failure,
}

/// How the command exited.
struct Exit {
    status: ExitStatus,
    /// Why the command was terminated, if it was.
    lost: Option<Box<Loss>>,
    /// A signal also asked this program to exit, so the command is not restarted.
    is_interrupted: bool,
}

pub(super) fn run(
    socket: PathBuf,
    arguments: Arguments,
    on_revoke: OnRevoke,
) -> Result<ExitCode, Failure> {
    let stderr = Stderr::default();
    let (sender, events) = mpsc::channel();

    // The command must be in the terminal's foreground group to read from it. Signals of the terminal reach that group.
    let has_group = !std::io::stdin().is_terminal();
    // Before the command starts, so that it misses no signal.
    signals::forward(has_group, sender.clone())?;

    let supply = CredentialSupply {
        socket,
        arguments,
        on_revoke,
        stderr: stderr.clone(),
        sender,
    };

    let outcome = supervise(&supply, has_group, &events);
    stderr.flush();

    outcome
}

fn supervise(
    supply: &CredentialSupply,
    has_group: bool,
    events: &Receiver<Event>,
) -> Result<ExitCode, Failure> {
    let mut has_started = false;
    loop {
        supply.start(has_started);
        let command = match wait_for_credentials(events)? {
            Ok(command) => command,
            Err(signal) => return Ok(signal_code(signal)),
        };
        let process = Process::start(*command, has_group, supply.sender.clone())?;
        has_started = true;
        let Exit {
            status,
            lost,
            is_interrupted,
        } = supervise_process(process, supply, events)?;
        match lost {
            None => return Ok(code(status)),
            Some(loss) if supply.on_revoke != OnRevoke::Restart => return Err(loss.failure),
            Some(_) if is_interrupted => return Ok(code(status)),
            Some(_) => {}
        }
    }
}

/// Waits for credentials, or for a signal that terminates this program: the error has its number.
fn wait_for_credentials(events: &Receiver<Event>) -> Result<Result<Box<Command>, i32>, Failure> {
    loop {
        match events.recv().map_err(|_| connect::unexpected_reply())? {
            Event::Granted(command) => return Ok(Ok(command)),
            Event::Refused(failure) => return Err(failure),
            Event::Signal(signal) if signals::terminates(signal) => return Ok(Err(signal)),
            Event::Signal(signal) => signals::stop_if_requested(signal),
            Event::Lost(_) | Event::Exited => {}
        }
    }
}

/// Handles events until the command has exited. After a loss waits for its whole process group.
fn supervise_process(
    mut process: Process,
    supply: &CredentialSupply,
    events: &Receiver<Event>,
) -> Result<Exit, Failure> {
    let mut lost = None;
    let mut kill_at = None;
    let mut is_interrupted = false;
    loop {
        if let Some(status) = process.status()
            && (kill_at.is_none() || !process.has_group_members())
        {
            return Ok(Exit {
                status,
                lost,
                is_interrupted,
            });
        }
        match next(events, kill_at, process.status().is_some())? {
            None if kill_at.is_some_and(|at| at <= Instant::now()) => {
                process.signal(Signal::KILL);
                kill_at = None;
            }
            Some(Event::Exited) => process.reap().map_err(|error| not_supervised(&error))?,
            Some(Event::Signal(signal)) => {
                process.forward(signal);
                signals::stop_if_requested(signal);
                // Without a loss the other signals may have another meaning for the command.
                is_interrupted |= signal == SIGTERM
                    || (lost.is_some() && [SIGHUP, SIGINT, SIGQUIT].contains(&signal));
            }
            Some(Event::Lost(loss)) => {
                let warning = format!("rolekeeper: {}", loss.warning);
                if supply.on_revoke != OnRevoke::Warn {
                    process.signal(Signal::TERM);
                    kill_at = Some(Instant::now() + GRACE);
                    lost = Some(loss);
                }
                supply.stderr.print(&warning);
            }
            Some(Event::Granted(_) | Event::Refused(_)) | None => {}
        }
    }
}

/// Waits for an event until `kill_at`, at most [`POLL_INTERVAL`] if `polls`.
fn next(
    events: &Receiver<Event>,
    kill_at: Option<Instant>,
    polls: bool,
) -> Result<Option<Event>, Failure> {
    let event = match kill_at.map(|at| at.saturating_duration_since(Instant::now())) {
        None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(left) => events.recv_timeout(if polls { left.min(POLL_INTERVAL) } else { left }),
    };
    match event {
        Ok(event) => Ok(Some(event)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(connect::unexpected_reply()),
    }
}

impl Loss {
    fn of_revocation(now: &ProfileUpdate) -> Self {
        let profile = &now.profile;
        let cause = now.held.as_ref().or(now.ended.as_ref());
        let cause = cause.map_or_else(String::new, |ending| format!(": {ending}"));
        let next = match now.held {
            Some(_) => format!("rolekeeper resume {profile}"),
            None => "run the command again with new credentials".into(),
        };

        Self {
            warning: format!(
                "the credentials of profile {profile} were revoked while the command ran{cause}"
            ),
            failure: Failure::new(
                Code::Held,
                format!(
                    "the command was terminated because the credentials of profile {profile} were revoked"
                ),
                format!("run rolekeeper audit {profile}, then {next}"),
            ),
        }
    }

    /// Another program may listen at the address that the command uses.
    fn of_endpoint(profile: &str, used: Option<&str>, now: &str) -> Self {
        let used = used.unwrap_or_default();
        Self {
            warning: format!(
                "the endpoint of profile {profile} is {now} now, and the command uses {used}, where another program may answer; restart the command"
            ),
            failure: Failure::new(
                Code::NoDaemon,
                format!(
                    "the command was terminated because the endpoint of profile {profile} is no longer {used}"
                ),
                "run the command again, and let systemd hold the port: packaging/systemd/rolekeeperd-http.socket",
            ),
        }
    }
}

fn not_supervised(error: &std::io::Error) -> Failure {
    Failure::new(
        Code::Unexpected,
        format!("cannot supervise the command: {error}"),
        "run the command without --on-revoke",
    )
}

/// The exit code as in a shell.
fn code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        (None, signal) => signal_code(signal.unwrap_or_default()),
    }
}

fn signal_code(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
}
