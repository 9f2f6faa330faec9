//! `rolekeeper login` and `rolekeeper unlock`: store a principal's token, and unlock it. The token is never in argv.

use std::path::{Path, PathBuf};

use clap_complete::ArgValueCandidates;
use rolekeeper::connect;
use rolekeeper::protocol::{
    Code, Failure, LoginReport, MfaReport, Request, RotationReport, SecretText, TokenSourceInfo,
};

use super::iam::suggest;
use super::prompt;
use crate::{autostart, command};

pub(crate) const HELP: &str = "Prompts for the token without echo, or reads it from a line of standard input. A passphrase is the next line.\n\
    Checks the token with the upstream, and stores it at the location in the configuration:\n\
    token = { keyring = \"NAME\" }, or token = { age = \"FILE\" }, a file encrypted to the key `identity`, which is created\n\
    if it does not exist, or else with a passphrase. At AWS, the token is an access key, KEYID:SECRET, and a code of the\n\
    MFA device follows; once a key is stored, the code is all.\n\n\
    --rotate creates a new credential of the service account or user, verifies and stores it, then deletes the old one. If\n\
    interrupted, the stored credential is always valid; the next rotation deletes what is left.";

/// Check a token with the upstream, and store it
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The upstream [default: the only one]
    #[arg(add = ArgValueCandidates::new(suggest::upstreams))]
    upstream: Option<String>,
    /// The same, as other commands have it
    #[arg(long = "upstream", value_name = "NAME", conflicts_with = "upstream", add = ArgValueCandidates::new(suggest::upstreams))]
    named: Option<String>,
    /// Enter a new token, though the stored one needs only a code of the MFA device
    #[arg(long, conflicts_with = "rotate")]
    replace: bool,
    /// Replace the stored credential of a service account, or of a user of AWS, by a new one
    #[arg(long)]
    rotate: bool,
    /// The credential to replace, if the daemon cannot identify it
    #[arg(long, value_name = "ID", requires = "rotate")]
    old: Option<String>,
    /// Print JSON instead of prose
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    prompt::disable_core_dumps();
    let Arguments {
        upstream,
        named,
        replace,
        rotate,
        old,
        json,
    } = arguments;

    let socket = connect::socket_path(socket)?;
    let upstream = upstream.as_deref().or(named.as_deref());

    let source = token_source(&socket, upstream)?;
    let device = source.mfa.as_ref();
    if let Some(device) = device.filter(|device| device.is_token_stored && !rotate && !replace) {
        return start_mfa_session(&socket, upstream, &device.serial, *json);
    }

    if !source.is_writable {
        return Err(not_writable(&source));
    }

    if *rotate {
        let request = Request::Rotate {
            upstream: name(upstream),
            old: name(old.as_deref()),
        };
        let text = document(&socket, &request)?;
        return command::print_report(&text, *json, rotated);
    }

    let token = prompt::secret(&format!(
        "{} for {} at {}: ",
        capitalized(&source.form),
        source.upstream,
        source.endpoint
    ))?;

    store(&socket, upstream, &source, &token, *json)?;

    match device {
        Some(device) => start_mfa_session(&socket, upstream, &device.serial, *json),
        None => Ok(()),
    }
}

/// Lets the daemon check a token, and store it.
pub(super) fn store(
    socket: &Path,
    upstream: Option<&str>,
    source: &TokenSourceInfo,
    token: &str,
    json: bool,
) -> Result<(), Failure> {
    let passphrase = if source.has_passphrase {
        Some(new_passphrase()?)
    } else {
        None
    };

    let request = Request::Login {
        upstream: name(upstream),
        token: secret(token),
        passphrase: passphrase.as_deref().map(secret),
    };

    let text = document(socket, &request)?;
    command::print_report(&text, json, |done: &LoginReport| {
        format!(
            "{}, and it is stored in {}\n",
            accepted(done),
            done.location
        )
    })
}

/// One code is enough for all roles, until the session ends.
fn start_mfa_session(
    socket: &Path,
    upstream: Option<&str>,
    serial: &str,
    json: bool,
) -> Result<(), Failure> {
    let code = prompt::secret(&format!("Code of the MFA device {serial}: "))?;
    let request = Request::StartMfaSession {
        upstream: name(upstream),
        code: secret(&code),
    };

    let text = document(socket, &request)?;
    command::print_report(&text, json, |done: &MfaReport| {
        format!(
            "upstream {}: the MFA session lasts until {}\n",
            done.upstream, done.expires_at
        )
    })
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

fn not_writable(source: &TokenSourceInfo) -> Failure {
    Failure::new(
        Code::Usage,
        format!("{} cannot be written by rolekeeper", source.location),
        format!(
            "store the token there yourself, or set token = {{ keyring = \"{}\" }}",
            source.upstream
        ),
    )
}

/// Decrypts a token file with the user's passphrase, or unlocks the keyring.
pub(crate) fn unlock(
    upstream: Option<&str>,
    json: bool,
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    prompt::disable_core_dumps();
    let socket = connect::socket_path(socket)?;
    let source = token_source(&socket, upstream)?;
    let passphrase = if source.has_passphrase {
        Some(prompt::secret(&format!(
            "Passphrase of {}: ",
            source.location
        ))?)
    } else {
        None
    };

    let request = Request::Unlock {
        upstream: name(upstream),
        passphrase: passphrase.as_deref().map(secret),
    };

    let text = document(&socket, &request)?;
    command::print_report(&text, json, |done: &LoginReport| {
        format!("{} is unlocked, and {}\n", done.location, accepted(done))
    })
}

/// On a terminal asks twice, because a typing error would make the file unreadable.
fn new_passphrase() -> Result<String, Failure> {
    let passphrase = prompt::secret("New passphrase: ")?;
    if !prompt::is_interactive() || prompt::secret("Repeat the passphrase: ")? == passphrase {
        return Ok(passphrase);
    }
    Err(Failure::new(
        Code::Usage,
        "the two passphrases differ",
        "run the command again",
    ))
}

pub(super) fn token_source(
    socket: &Path,
    upstream: Option<&str>,
) -> Result<TokenSourceInfo, Failure> {
    let text = document(
        socket,
        &Request::TokenSource {
            upstream: name(upstream),
        },
    )?;
    serde_json::from_str(&text).map_err(|_| connect::unexpected_reply())
}

fn document(socket: &Path, request: &Request<'_>) -> Result<String, Failure> {
    autostart::ask(socket, |stream| connect::document(stream, request.clone()))
}

fn name(name: Option<&str>) -> Option<std::borrow::Cow<'_, str>> {
    name.map(Into::into)
}

fn secret(text: &str) -> SecretText<'_> {
    SecretText(text.into())
}

fn accepted(done: &LoginReport) -> String {
    match &done.principal {
        Some(principal) => format!(
            "upstream {} accepted the token of {principal}",
            done.upstream
        ),
        None => format!(
            "upstream {} accepted the token of an unknown owner, who can neither read the audit log nor assume a configured role",
            done.upstream
        ),
    }
}

fn rotated(done: &RotationReport) -> String {
    let RotationReport {
        upstream,
        location,
        principal,
        credential_id,
        deleted,
        not_deleted,
        failure,
    } = done;

    let mut text = format!(
        "upstream {upstream}: the new credential {credential_id} of {principal} is stored in {location}\n"
    );

    if !deleted.is_empty() {
        text += &format!("deleted: {}\n", deleted.join(", "));
    }

    if !not_deleted.is_empty() {
        let why = failure.as_deref().unwrap_or("unknown reason");
        text += &format!(
            "not deleted, retried at the next rotation: {} ({why})\n",
            not_deleted.join(", ")
        );
    }

    text
}
