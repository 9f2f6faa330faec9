//! `rolekeeper approve`: allows or denies the requests of programs for profiles with `confirm`.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use rolekeeper::connect;
use rolekeeper::protocol::{Approval, Approvals, Code, Failure, Request};

use super::printable;
use crate::{autostart, command};

pub(crate) const HELP: &str = "Without an ID it lists the pending requests. On a terminal it asks for a decision on each.\n\
    Profiles with `confirm` need approval for each program; no answer means denied. The requesting program cannot approve\n\
    itself.";

/// Allow or deny programs that request a profile with `confirm`
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The request's id [default: list all]
    id: Option<u64>,
    /// Deny the request
    #[arg(long, requires = "id")]
    deny: bool,
    /// Print JSON instead of prose
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    let socket = connect::socket_path(socket)?;
    if let Some(id) = arguments.id {
        return decide(&socket, id, arguments);
    }

    let text = ask(&socket, &Request::Approvals)?;
    let listed: Approvals = serde_json::from_str(&text).map_err(|_| connect::unexpected_reply())?;
    if arguments.json || listed.pending.is_empty() || !std::io::stdin().is_terminal() {
        return command::print_report(&text, arguments.json, prose);
    }

    let mut refused = None;
    for request in listed.pending {
        let Some(allow) = ask_user(&request)? else {
            continue;
        };
        let id = request.id;
        match ask(&socket, &Request::Approve { id, allow }) {
            Ok(_) => {}
            // Another terminal may have answered it meanwhile.
            Err(failure) if failure.code == Code::Usage => {
                command::print_error(&failure.to_string());
            }
            Err(failure) => {
                if let Some(earlier) = refused.replace(failure) {
                    command::print_error(&earlier.to_string());
                }
            }
        }
    }

    refused.map_or(Ok(()), Err)
}

fn decide(socket: &Path, id: u64, arguments: &Arguments) -> Result<(), Failure> {
    let allow = !arguments.deny;
    let text = ask(socket, &Request::Approve { id, allow })?;

    let decision = if allow { "allowed" } else { "denied" };
    command::print_report(&text, arguments.json, |_: &Approvals| {
        format!("{id}: {decision}\n")
    })
}

/// The user's decision. `None` leaves the request pending.
fn ask_user(request: &Approval) -> Result<Option<bool>, Failure> {
    let id = request.id;
    command::print(&(line(request) + "  Allow it? [y/n] "))?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("cannot read an answer: {error}"),
            format!("run rolekeeper approve {id}, or rolekeeper approve {id} --deny"),
        )
    })?;

    Ok(match answer.trim() {
        "y" | "Y" | "yes" => Some(true),
        "n" | "N" | "no" => Some(false),
        _ => None,
    })
}

fn ask(socket: &Path, request: &Request<'_>) -> Result<String, Failure> {
    autostart::ask(socket, |stream| connect::document(stream, request.clone()))
}

fn prose(listed: &Approvals) -> String {
    let [first, ..] = &*listed.pending else {
        return "no pending approvals\n".into();
    };

    let lines: String = listed.pending.iter().map(line).collect();
    let id = first.id;
    lines
        + &format!(
            "To allow {id}: rolekeeper approve {id}. To deny it: rolekeeper approve {id} --deny\n"
        )
}

fn line(request: &Approval) -> String {
    let Approval {
        id,
        profile,
        program,
        call,
        uid,
        expires_in_seconds,
        ..
    } = request;

    let program = printable(program);
    let wish = match call {
        None => format!("asks for profile {profile}"),
        Some(call) => format!(
            "asks to call {} with your token, which could bypass the rules of profile {profile}",
            printable(call)
        ),
    };

    format!("{id}: {program} of user {uid} {wish}; expires in {expires_in_seconds} s\n")
}
