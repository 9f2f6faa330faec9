//! `rolekeeper exec PROFILE -- COMMAND`: runs a command with a profile's credentials in its environment. The command
//! replaces this process, except with `--on-revoke`.

#[cfg(unix)]
mod watched;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap_complete::ArgValueCandidates;
use interprocess::local_socket::Stream;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};

use super::environment::{Environment, Mode};
use super::iam::suggest;
use super::region;
use crate::autostart;

pub(crate) const HELP: &str = "--mode env (the default) sets AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and\n\
    AWS_CREDENTIAL_EXPIRATION. Every tool reads them. They take precedence over all other sources, and expire with the\n\
    session.\n\n\
    --mode http sets AWS_CONTAINER_CREDENTIALS_FULL_URI and AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE.\n\
    --mode imds sets AWS_EC2_METADATA_SERVICE_ENDPOINT.\n\
    With both, SDKs renew the credentials from the daemon: use them for commands that run longer than a session. They\n\
    disable the AWS configuration files, which would take precedence, and add this machine to NO_PROXY.\n\n\
    Every mode sets ROLEKEEPER_PROFILE. The region is that of --region, else of AWS_REGION or AWS_DEFAULT_REGION, else the\n\
    profile's. Every mode unsets variables that would take precedence.\n\n\
    The exit code is the command's. It is 128 plus the signal's number if a signal terminated the command, 127 if the\n\
    command was not found, 126 if it cannot be executed, and 6 if --on-revoke=term terminated it.\n\
    With a terminal as standard input --on-revoke signals the command, otherwise its process group. With --mode http or\n\
    imds it acts, too, if the daemon has another endpoint after a restart (exit code 3).";

/// What to do if the credentials are revoked while the command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnRevoke {
    /// Print a warning to standard error
    Warn,
    /// Terminate the command: SIGTERM, after 10 s SIGKILL
    Term,
    /// Terminate the command, and restart it when there are new credentials
    Restart,
}

/// Run a command with a profile's credentials in its environment
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// How the command gets credentials
    #[arg(long, value_name = "MODE", default_value = "env")]
    mode: Mode,
    /// The region [default: AWS_REGION or AWS_DEFAULT_REGION, else the profile's]
    #[arg(long, value_name = "REGION", value_parser = region::parse)]
    region: Option<String>,
    /// What to do if the credentials are revoked while the command runs [default: nothing]
    #[arg(long, value_name = "ACTION")]
    on_revoke: Option<OnRevoke>,
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles))]
    profile: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The profile of the command. People may set it, too.
const PROFILE_VARIABLE: &str = "ROLEKEEPER_PROFILE";
/// The same, and only set here.
const EXEC_VARIABLE: &str = "ROLEKEEPER_EXEC";

pub(crate) fn run(arguments: Arguments, socket: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let outer = connect::variable(EXEC_VARIABLE);
    if let Some(outer) = outer.filter(|_| connect::variable(PROFILE_VARIABLE).is_some()) {
        let outer = outer.to_string_lossy();
        return Err(Failure::new(
            Code::Usage,
            format!("already inside of `rolekeeper exec {outer}`"),
            format!("leave it, or run unset {EXEC_VARIABLE} and then the command again"),
        ));
    }

    let socket = connect::socket_path(socket)?;
    match arguments.on_revoke {
        None => {
            let (command, _) = autostart::ask(&socket, |stream| arguments.prepare(stream))?;
            Err(replace(command))
        }
        #[cfg(unix)]
        Some(on_revoke) => watched::run(socket, arguments, on_revoke),
        #[cfg(not(unix))]
        Some(_) => Err(Failure::new(
            Code::Usage,
            "--on-revoke requires Unix signals",
            "run the command without --on-revoke",
        )),
    }
}

impl Arguments {
    /// The command with credentials, and the generation of the credentials, if known.
    fn prepare(&self, stream: &mut Stream) -> Result<(Command, Option<u64>), Failure> {
        let (program, arguments) = self.command.split_first().ok_or_else(|| {
            Failure::new(
                Code::Usage,
                "a command is missing",
                "add the command after --",
            )
        })?;

        let environment =
            Environment::ask(stream, &self.profile, self.mode, self.region.as_deref())
                .map_err(|failure| self.name_caller(failure))?;
        let mut command = Command::new(program);
        environment.apply_to(command.args(arguments));
        command.env(PROFILE_VARIABLE, &self.profile);
        command.env(EXEC_VARIABLE, &self.profile);

        Ok((command, environment.generation))
    }
}

impl Arguments {
    /// Caller rules apply to the program that starts `exec`, because the command does not run yet.
    fn name_caller(&self, mut failure: Failure) -> Failure {
        let profile = &self.profile;
        let start = format!("profile {profile} does not allow ");
        let program = failure.message.strip_prefix(&start);
        let program = program.and_then(|rest| rest.split_once(" (process "));
        // Other paths are quoted by rules that differ from those of the configuration.
        let is_plain = |path: &str| {
            path.starts_with('/')
                && path
                    .bytes()
                    .all(|each| each.is_ascii_alphanumeric() || b"/-_.+".contains(&each))
        };
        if let Some((path, _)) = program.filter(|(path, _)| is_plain(path))
            && failure.code == Code::NotAllowed
        {
            failure.hint = format!(
                "exec asks for the program that starts it, not for its command: \
                add {{ exe = \"{path}\" }} to `callers` of [profile.{profile}], \
                if that program may use the profile"
            );
        }

        failure
    }
}

/// Replaces this process by the command. Returns only if that fails.
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
    let code = if is_missing {
        Code::CommandNotFound
    } else {
        Code::CommandNotRun
    };

    Failure::new(
        code,
        format!(
            "cannot start {}: {error}",
            Path::new(command.get_program()).display()
        ),
        "use the path of a program, or the name of one in PATH",
    )
}
