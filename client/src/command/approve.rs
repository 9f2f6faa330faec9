//! `rolekeeper approve`: a person's word on which program may have a profile.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use rolekeeper::connect;
use rolekeeper::protocol::{Approval, Approvals, Code, Failure, Request};

use super::printable;
use crate::{autostart, command};

pub(crate) const HELP: &str = "Without a number it shows what is asked now, and asks for an answer to each where it is run in a terminal.\n\
    A profile whose configuration says `confirm` is given on a person's word alone, and nobody's word is no. Neither the\n\
    program that asked nor what it has started can give it.";

/// Allow or refuse what programs ask of profiles that want a person's word
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The number of the question [default: show all]
    id: Option<u64>,
    /// Refuse it
    #[arg(long, requires = "id")]
    deny: bool,
    /// Print JSON instead of prose
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    let socket = connect::socket_path(socket)?;
    if let Some(id) = arguments.id {
        let text = ask(
            &socket,
            &Request::Approve {
                id,
                allow: !arguments.deny,
            },
        )?;
        let word = if arguments.deny { "refused" } else { "allowed" };
        return command::print_report(&text, arguments.json, |_: &Approvals| {
            format!("{id}: {word}\n")
        });
    }
    let text = ask(&socket, &Request::Approvals)?;
    let listed: Approvals = serde_json::from_str(&text).map_err(|_| connect::out_of_place())?;
    if arguments.json || listed.pending.is_empty() || !std::io::stdin().is_terminal() {
        return command::print_report(&text, arguments.json, shown);
    }
    for question in listed.pending {
        command::print(&(line(&question) + "  Allow it? [y/n] "))?;
        let _ = std::io::stdout().flush();
        let mut answer = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut answer)
            .map_err(|error| {
                Failure::new(
                    Code::Usage,
                    format!("no answer can be read: {error}"),
                    "rolekeeper approve ID, or with --deny",
                )
            })?;
        let yes = match answer.trim() {
            "y" | "Y" | "yes" => true,
            "n" | "N" | "no" => false,
            // It stays open.
            _ => continue,
        };
        // Somebody else may have answered it meanwhile.
        if let Err(failure) = ask(
            &socket,
            &Request::Approve {
                id: question.id,
                allow: yes,
            },
        ) {
            command::tell(&failure.to_string());
        }
    }
    Ok(())
}

fn ask(socket: &Path, request: &Request<'_>) -> Result<String, Failure> {
    autostart::ask(socket, |stream| connect::document(stream, request.clone()))
}

fn shown(listed: &Approvals) -> String {
    if listed.pending.is_empty() {
        return "nothing is asked\n".into();
    }
    let lines: String = listed.pending.iter().map(line).collect();
    lines + "rolekeeper approve ID allows it, with --deny it is refused\n"
}

fn line(question: &Approval) -> String {
    let Approval {
        id,
        profile,
        program,
        uid,
        expires_in_seconds,
        ..
    } = question;
    format!(
        "{id}: {} of user {uid} asks for profile {profile}; {expires_in_seconds} s are left\n",
        printable(program)
    )
}
