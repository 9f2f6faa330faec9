//! `rolekeeper token PROFILE`: prints the session token, for `ByCloud`'s SDK and for scripts.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use rolekeeper::protocol::Failure;
use serde::Serialize;

use super::iam::suggest;
use super::lease;
use crate::command;

pub(crate) const HELP: &str = "\
In JavaScript, with ByCloud's SDK:

  import { execFileSync } from \"node:child_process\";
  const ask = () => JSON.parse(execFileSync(\"rolekeeper\", [\"token\", \"dev\", \"--json\"], { encoding: \"utf8\" }));
  const { token, expires_at } = ask();
  const iam = new IAM({ token });

In a shell:

  printf 'Authorization: Bearer %s' \"$(rolekeeper token dev)\" | curl -H @- https://api.example.test/

A long-running program must request a new token, and create a new client, before expires_at. Do not pass the token as an
argument, as in curl -H \"Authorization: ...\": other processes can read it.";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles))]
    profile: String,
    /// Print JSON with the token, its expiry and its session's id
    #[arg(long)]
    json: bool,
}

/// The output of `--json`. The time is the advertised expiry, RFC 3339.
#[derive(Serialize)]
struct Document {
    token: String,
    expires_at: String,
    session_id: String,
}

pub(crate) fn run(arguments: &Arguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    let document = lease::ask(&arguments.profile, socket, |lease| {
        Ok(Document {
            token: lease::token(lease)?.to_owned(),
            expires_at: lease.expires_at.to_string(),
            session_id: lease.session_id.to_string(),
        })
    })?;

    if arguments.json {
        command::print_json(&document)
    } else {
        command::print(&(document.token + "\n"))
    }
}
