//! `rolekeeper exec PROFILE -- COMMAND`: a command with a profile's credentials in its environment. It takes the place of
//! this program, unless somebody is to watch over it.

#[cfg(unix)]
mod watched;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use interprocess::local_socket::Stream;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, Reply, Request};

use crate::{autostart, command};

/// Whatever an AWS SDK might take instead of what is set here, or together with it.
const SHADOWING: [&str; 25] = [
    "AWS_ACCESS_KEY",
    "AWS_ACCOUNT_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CREDENTIAL_FILE",
    "AWS_CREDENTIAL_SCOPE",
    "AWS_DEFAULT_PROFILE",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_IMDS_USE_IPV6",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SDK_LOAD_CONFIG",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "BOTO_CONFIG",
    "SECRET_ACCESS_KEY",
    ACCESS_KEY,
    SECRET_KEY,
    TOKEN,
    EXPIRATION,
];
const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";
const EXPIRATION: &str = "AWS_CREDENTIAL_EXPIRATION";

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

pub(crate) fn run(
    profile: &str,
    on_revoke: Option<OnRevoke>,
    command: &[OsString],
    socket: Option<PathBuf>,
) -> Result<ExitCode, Failure> {
    let socket = connect::socket_path(socket)?;
    match on_revoke {
        None => Err(replace(autostart::ask(&socket, |stream| with_credentials(stream, profile, command))?.0)),
        #[cfg(unix)]
        Some(on_revoke) => watched::run(socket, profile, on_revoke, command),
        #[cfg(not(unix))]
        Some(_) => Err(Failure::new(Code::Usage, "--on-revoke needs Unix signals", "the same without --on-revoke")),
    }
}

/// The command with credentials, ready to be started, and the profile's generation that they are of. A daemon of an older
/// version does not tell it.
fn with_credentials(stream: &mut Stream, profile: &str, words: &[OsString]) -> Result<(Command, Option<u64>), Failure> {
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| Failure::new(Code::Usage, "a command is missing", "rolekeeper exec PROFILE -- COMMAND"))?;
    let text = connect::ask(stream, Request::Lease { profile: profile.into() })?;
    let Reply::Lease(lease) = connect::reply(&text)? else { return Err(connect::out_of_place()) };
    if let Some(seconds) = lease.view_age_seconds {
        command::tell(&format!("rolekeeper: whether this session has been revoked was last known {seconds} s ago"));
    }
    // An environment is never asked for again: what counts is when the session itself ends.
    let (expiration, generation) = match &*lease.ends_at {
        "" => (&lease.expires_at, None),
        _ => (&lease.ends_at, Some(lease.generation)),
    };
    let mut command = Command::new(program);
    command.args(arguments);
    for name in SHADOWING {
        command.env_remove(name);
    }
    command.env(ACCESS_KEY, &*lease.access_key_id).env(SECRET_KEY, &*lease.secret_access_key);
    command.env(TOKEN, &*lease.session_token).env(EXPIRATION, &**expiration);
    command.env("ROLEKEEPER_PROFILE", profile);
    Ok((command, generation))
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
    Failure::new(
        Code::Usage,
        format!("{} cannot be started: {error}", Path::new(command.get_program()).display()),
        "the path of a program, or the name of one on the PATH",
    )
}
