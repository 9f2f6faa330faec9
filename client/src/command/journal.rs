//! `rolekeeper journal verify`: whether the daemon's own record is whole.

use std::path::PathBuf;

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, JournalReport, Request};

use crate::{autostart, command};

pub(crate) const HELP: &str = "The record has a line of JSON for every lease, refusal, question and revocation, each with the hash of the line\n\
    before it: what is changed, taken out or put in shows. It begins anew with the last 10,000 of 20,000 lines. Whoever may\n\
    write it may write all of it anew, with hashes that fit; `also_to` under [journal] in the configuration sends each line\n\
    to journald or syslog, too.";

/// What there is to do with the daemon's own record
#[derive(clap::Subcommand)]
pub(crate) enum Commands {
    /// Look through it: exit code 1 if anything was changed
    Verify {
        /// Print JSON instead of prose
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn verify(json: bool, socket: Option<PathBuf>) -> Result<(), Failure> {
    let text = autostart::ask(&connect::socket_path(socket)?, |stream| {
        connect::document(stream, Request::VerifyJournal)
    })?;
    command::print_report(&text, json, shown)?;
    let report: JournalReport = serde_json::from_str(&text).map_err(|_| connect::out_of_place())?;
    if report.problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Code::Unexpected,
        format!(
            "the record {} is not as it was written",
            report.path.display()
        ),
        "a copy of it elsewhere: `also_to` in the configuration sends each line to journald or syslog, too",
    ))
}

fn shown(report: &JournalReport) -> String {
    let JournalReport {
        path,
        lines,
        first,
        last,
        problems,
    } = report;
    let mut text = format!(
        "{}: {lines} lines, records {first} to {last}\n",
        path.display()
    );
    for problem in problems {
        text += &format!("  {problem}\n");
    }
    if problems.is_empty() {
        text + "nothing was changed, taken out or put in\n"
    } else {
        text
    }
}
