//! `rolekeeper login` and `rolekeeper unlock`: a principal's token on its way to where it is kept. It is never in argv.

use std::path::{Path, PathBuf};

use rolekeeper::connect;
use rolekeeper::protocol::{
    Code, Failure, LoginReport, Request, RotationReport, SecretText, TokenSourceInfo,
};

use super::prompt;
use crate::{autostart, command};

pub(crate) const HELP: &str = "The token is read from a prompt that does not show it, or as a line of standard input; a passphrase, if there is\n\
    one, as the next line. It is kept only if the upstream takes it, and then in the place that the configuration names: token = { keyring = \"NAME\" }, or { age = \"FILE\" },\n\
    a file encrypted to `identity`, a key that is made if it is not there, or else with a passphrase.\n\n\
    --rotate makes a new credential of the service account whose token is kept, keeps that instead, and deletes the\n\
    old one. Wherever that is interrupted, what is kept counts; the next rotation removes what was left.";

/// Put a token where the daemon keeps it, once the upstream has taken it
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The upstream [default: the only one]
    upstream: Option<String>,
    /// Replace the service account's credential that is kept by a new one
    #[arg(long)]
    rotate: bool,
    /// The credential to be replaced, where it cannot be told which one is kept
    #[arg(long, value_name = "ID", requires = "rotate")]
    old: Option<String>,
    /// Print JSON instead of prose
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    prompt::hide();
    let Arguments {
        upstream,
        rotate,
        old,
        json,
    } = arguments;
    let (socket, upstream) = (connect::socket_path(socket)?, upstream.as_deref());
    let place = place(&socket, upstream)?;
    if !place.is_writable {
        return Err(Failure::new(
            Code::Usage,
            format!("{} is not written by rolekeeper", place.location),
            format!(
                "put the token there yourself, or use token = {{ keyring = \"{}\" }}",
                place.upstream
            ),
        ));
    }
    if *rotate {
        let text = document(
            &socket,
            &Request::Rotate {
                upstream: name(upstream),
                old: name(old.as_deref()),
            },
        )?;
        return command::print_report(&text, *json, rotated);
    }
    let token = prompt::secret(&format!(
        "Token for {} at {}: ",
        place.upstream, place.endpoint
    ))?;
    let passphrase = if place.has_passphrase {
        Some(new_passphrase()?)
    } else {
        None
    };
    let request = Request::Login {
        upstream: name(upstream),
        token: hidden(&token),
        passphrase: passphrase.as_deref().map(hidden),
    };
    let text = document(&socket, &request)?;
    command::print_report(&text, *json, |done: &LoginReport| {
        format!("{}; it is in {} now\n", whose(done), done.location)
    })
}

/// Opens what only a person can open.
pub(crate) fn unlock(
    upstream: Option<&str>,
    json: bool,
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    prompt::hide();
    let socket = connect::socket_path(socket)?;
    let place = place(&socket, upstream)?;
    let passphrase = if place.has_passphrase {
        Some(prompt::secret(&format!(
            "Passphrase of {}: ",
            place.location
        ))?)
    } else {
        None
    };
    let request = Request::Unlock {
        upstream: name(upstream),
        passphrase: passphrase.as_deref().map(hidden),
    };
    let text = document(&socket, &request)?;
    command::print_report(&text, json, |done: &LoginReport| {
        format!("{} opens; {}\n", done.location, whose(done))
    })
}

/// Twice, of a person: a slip would lock it up for good.
fn new_passphrase() -> Result<String, Failure> {
    let passphrase = prompt::secret("Passphrase to encrypt it with: ")?;
    if !prompt::is_asked() || prompt::secret("The same again: ")? == passphrase {
        return Ok(passphrase);
    }
    Err(Failure::new(
        Code::Usage,
        "the two passphrases differ",
        "the same again",
    ))
}

fn place(socket: &Path, upstream: Option<&str>) -> Result<TokenSourceInfo, Failure> {
    let text = document(
        socket,
        &Request::TokenSource {
            upstream: name(upstream),
        },
    )?;
    serde_json::from_str(&text).map_err(|_| connect::out_of_place())
}

fn document(socket: &Path, request: &Request<'_>) -> Result<String, Failure> {
    autostart::ask(socket, |stream| connect::document(stream, request.clone()))
}

fn name(name: Option<&str>) -> Option<std::borrow::Cow<'_, str>> {
    name.map(Into::into)
}

fn hidden(text: &str) -> SecretText<'_> {
    SecretText(text.into())
}

fn whose(done: &LoginReport) -> String {
    match &done.principal {
        Some(principal) => format!(
            "upstream {} takes the token, which is that of {principal}",
            done.upstream
        ),
        None => {
            let why = "its owner may neither read the audit log nor assume a configured role";
            format!(
                "upstream {} takes the token; whose it is cannot be told, because {why}",
                done.upstream
            )
        }
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
        "upstream {upstream}: credential {credential_id} of {principal} is in {location} now\n"
    );
    if !deleted.is_empty() {
        text += &format!("deleted: {}\n", deleted.join(", "));
    }
    if !not_deleted.is_empty() {
        let why = failure.as_deref().unwrap_or("it is not known why");
        text += &format!(
            "not deleted yet, which the next rotation tries again: {} ({why})\n",
            not_deleted.join(", ")
        );
    }
    text
}
