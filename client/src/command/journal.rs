//! `rolekeeper journal`: prints the records of the journal's file, the newest last. The daemon names the file, and this
//! process reads it, so that the file's own permissions apply.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap_complete::ArgValueCandidates;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, JournalLocation, Request};
use rolekeeper::shell::quoted_path;
use rolekeeper::text::display_path;
use serde_json::Value;

use super::{audit, iam, sanitize, table};
use crate::{autostart, command};

pub(crate) const HELP: &str = "Examples:\n  \
    rolekeeper journal --since 1h\n  \
    rolekeeper journal --profile dev --json | jq 'select(.type == \"refused\")'\n\n\
    The journal has at least the last 10,000 records, and of several users at least an equal share of each. With `also_to` under [journal] in the configuration, the daemon also\n\
    sends each record to journald or syslog.";

/// The fields with a column of their own.
const COLUMNS: [&str; 5] = ["at", "type", "profile", "uid", "via"];

/// Show the journal: issued credentials, refusals, approvals, logins, and sessions that ended early
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Show only the records of this profile
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(iam::suggest::profiles))]
    profile: Option<String>,
    /// Show only the records of this time span: a number with s, m, h or d
    #[arg(long, value_name = "SPAN")]
    since: Option<String>,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    let since_seconds = arguments.since.as_deref().map(audit::span).transpose()?;
    let text = autostart::ask(&connect::socket_path(socket)?, |stream| {
        connect::document(stream, Request::Journal { since_seconds })
    })?;

    let location: JournalLocation =
        serde_json::from_str(&text).map_err(|_| connect::unexpected_reply())?;

    let journal = std::fs::read(&location.path).map_err(|error| unreadable(&location, &error))?;
    let records = selected(
        &journal,
        arguments.profile.as_deref(),
        location.since.as_deref(),
    );

    if arguments.json {
        let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
        command::print(&command::escaped_json(&lines))
    } else {
        command::print(&prose(records))
    }
}

fn unreadable(location: &JournalLocation, error: &std::io::Error) -> Failure {
    let path = location.path.display();
    let hint = match error.kind() {
        ErrorKind::NotFound => "restart rolekeeperd, which creates the file".into(),
        ErrorKind::PermissionDenied if is_own(&location.path) => {
            format!("run chmod 600 {}", quoted_path(&location.path))
        }
        ErrorKind::PermissionDenied => "run the command as the user that owns the journal".into(),
        _ => format!("move {path} away, and restart rolekeeperd"),
    };

    Failure::new(
        Code::Unexpected,
        format!("cannot read the journal {path}: {error}"),
        hint,
    )
}

#[cfg(unix)]
fn is_own(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let me = rustix::process::geteuid().as_raw();
    std::fs::metadata(path).is_ok_and(|metadata| metadata.uid() == me)
}

#[cfg(not(unix))]
fn is_own(_path: &Path) -> bool {
    false
}

/// The records of a profile since a time, which has the same format as those in the journal. Skips incomplete lines.
fn selected(journal: &[u8], profile: Option<&str>, since: Option<&str>) -> Vec<Value> {
    journal
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .filter(|record: &Value| profile.is_none_or(|name| record["profile"] == name))
        .filter(|record| since.is_none_or(|since| record["at"].as_str() >= Some(since)))
        .collect()
}

fn prose(records: Vec<Value>) -> String {
    if records.is_empty() {
        return "no records\n".into();
    }

    let header = ["TIME", "TYPE", "PROFILE", "USER", "VIA", "DETAILS"];
    let header = header.map(String::from).to_vec();
    table::text(std::iter::once(header).chain(records.into_iter().map(row)))
}

fn row(mut record: Value) -> Vec<String> {
    sanitize::clean(&mut record);
    let mut row: Vec<_> = COLUMNS
        .iter()
        .map(|name| record.get(name).map_or_else(|| "-".into(), plain))
        .collect();
    row.push(details(&record));
    row
}

/// The other fields, in logfmt: `code=not_allowed message="profile dev is not for …"`.
fn details(record: &Value) -> String {
    let mut words = Vec::new();
    for (name, value) in record.as_object().into_iter().flatten() {
        if !COLUMNS.contains(&name.as_str()) {
            let text = value
                .as_array()
                .map_or_else(|| plain(value), |list| processes(list));
            words.push(format!("{name}={}", quoted(text)));
        }
    }

    words.join(" ")
}

/// A process and its parents: `/usr/bin/aws (812) < /bin/bash (640)`.
fn processes(list: &[Value]) -> String {
    let chain: Vec<_> = list
        .iter()
        .map(|process| {
            format!(
                "{} ({})",
                display_path(&plain(&process["program"])),
                plain(&process["pid"])
            )
        })
        .collect();
    chain.join(" < ")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

fn quoted(text: String) -> String {
    if text.is_empty() || text.contains([' ', '"', '=']) {
        Value::String(text).to_string()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOURNAL: &str = r#"{"type":"issued","at":"2026-01-01T00:00:00.000Z","profile":"dev","session_id":"s-1","uid":1000,"via":"socket","processes":[{"pid":812,"program":"/usr/bin/aws"},{"pid":640,"program":"/bin/bash"}]}
{"type":"refu
{"type":"refused","at":"2026-01-01T01:00:00.000Z","profile":"prod","code":"not_allowed","message":"profile prod is not for it","uid":1000}
{"type":"logged_in","at":"2026-01-01T02:00:00.000Z","upstream":"a\u001b[2J","uid":1000}
"#;

    #[test]
    fn table_has_a_row_for_each_record() {
        let table = prose(selected(JOURNAL.as_bytes(), None, None));
        let lines: Vec<Vec<_>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert_eq!(
            lines[0],
            ["TIME", "TYPE", "PROFILE", "USER", "VIA", "DETAILS"]
        );
        assert_eq!(
            lines[1].join(" "),
            "2026-01-01T00:00:00.000Z issued dev 1000 socket session_id=s-1 processes=\"/usr/bin/aws (812) < /bin/bash (640)\""
        );
        assert_eq!(
            lines[2].join(" "),
            "2026-01-01T01:00:00.000Z refused prod 1000 - code=not_allowed message=\"profile prod is not for it\""
        );
        assert!(lines[3].contains(&"upstream=a\u{fffd}[2J"), "{table}");
    }

    #[test]
    fn records_are_selected_by_profile_and_time() {
        let count = |profile, since| selected(JOURNAL.as_bytes(), profile, since).len();
        assert_eq!(count(None, None), 3);
        assert_eq!(count(Some("dev"), None), 1);
        assert_eq!(count(None, Some("2026-01-01T01:00:00.000Z")), 2);
        assert_eq!(count(Some("dev"), Some("2026-01-01T01:00:00.000Z")), 0);
    }

    #[test]
    fn empty_journal_has_no_records() {
        assert_eq!(prose(selected(b"", None, None)), "no records\n");
    }
}
