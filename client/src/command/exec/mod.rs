//! `rolekeeper exec PROFILE -- COMMAND`: a command that finds a profile's credentials in its environment, or the way to them.
//! It takes the place of this program, unless somebody is to watch over it.

#[cfg(unix)]
mod watched;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use interprocess::local_socket::Stream;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};

use super::environment::{Environment, Mode};
use crate::autostart;

/// What is done about a command whose credentials are revoked while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnRevoke {
    /// Say so on standard error
    Warn,
    /// End it: SIGTERM, after 10 s SIGKILL
    Term,
    /// End it, and start it again as soon as there are credentials
    Restart,
}

/// What is to run, and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) profile: String,
    pub(crate) mode: Mode,
    /// The command and its arguments.
    pub(crate) words: Vec<OsString>,
}

/// Tells which profile a command runs with.
const INSIDE: &str = "ROLEKEEPER_PROFILE";

pub(crate) fn run(
    plan: Plan,
    on_revoke: Option<OnRevoke>,
    socket: Option<PathBuf>,
) -> Result<ExitCode, Failure> {
    if let Some(outer) = connect::variable(INSIDE) {
        let outer = outer.to_string_lossy();
        return Err(Failure::new(
            Code::Usage,
            format!("this runs inside of `rolekeeper exec {outer}` already"),
            format!(
                "outside of it; or, if that is what you want, env -u {INSIDE} rolekeeper exec ..."
            ),
        ));
    }
    let socket = connect::socket_path(socket)?;
    match on_revoke {
        None => Err(replace(
            autostart::ask(&socket, |stream| plan.with_credentials(stream))?.0,
        )),
        #[cfg(unix)]
        Some(on_revoke) => watched::run(socket, plan, on_revoke),
        #[cfg(not(unix))]
        Some(_) => Err(Failure::new(
            Code::Usage,
            "--on-revoke needs Unix signals",
            "the same without --on-revoke",
        )),
    }
}

impl Plan {
    /// The command with credentials, ready to be started, and the profile's generation that they are of, if that is told.
    fn with_credentials(&self, stream: &mut Stream) -> Result<(Command, Option<u64>), Failure> {
        let (program, arguments) = self.words.split_first().ok_or_else(|| {
            Failure::new(
                Code::Usage,
                "a command is missing",
                "rolekeeper exec PROFILE -- COMMAND",
            )
        })?;
        let environment = Environment::ask(stream, &self.profile, self.mode)?;
        let mut command = Command::new(program);
        environment.enter(command.args(arguments));
        command.env(INSIDE, &self.profile);
        Ok((command, environment.generation))
    }
}

/// Puts the command in the place of this program. Returns only if it cannot be started.
#[cfg(unix)]
fn replace(mut command: Command) -> Failure {
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    not_started(&command, &error)
}

#[cfg(not(unix))]
fn replace(mut command: Command) -> Failure {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => not_started(&command, &error),
    }
}

fn not_started(command: &Command, error: &std::io::Error) -> Failure {
    let is_missing = error.kind() == std::io::ErrorKind::NotFound;
    Failure::new(
        if is_missing {
            Code::CommandNotFound
        } else {
            Code::CommandNotRun
        },
        format!(
            "{} cannot be started: {error}",
            Path::new(command.get_program()).display()
        ),
        "the path of a program, or the name of one on the PATH",
    )
}
