//! `rolekeeper audit PROFILE`: the upstream's audit log of a profile's sessions, with the programs of this machine that had
//! their credentials at the time of each call.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use rolekeeper::connect;
use rolekeeper::protocol::{Audit, AuditedCall, Code, Failure, HolderGroup, Request};
use rolekeeper::text::display_path;

use super::iam::suggest;
use crate::{autostart, command};

pub(crate) const HELP: &str = "Identical processes are grouped. Times are the cloud's.\n\
    Calls made by `rolekeeper iam --profile` are attributed to that process only.";

/// Show the calls made with a profile's sessions, and the programs that may have made them
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles))]
    profile: String,
    /// The time span to show: a number with s, m, h or d
    #[arg(long, value_name = "SPAN", default_value = "12h")]
    since: String,
    /// Print JSON instead of prose
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    let since_seconds = span(&arguments.since)?;
    let ask = |stream: &mut _| {
        connect::document(
            stream,
            Request::Audit {
                profile: arguments.profile.as_str().into(),
                since_seconds,
            },
        )
    };

    let text = autostart::ask(&connect::socket_path(socket)?, ask)?;
    command::print_report(&text, arguments.json, prose)?;

    let audit: Audit = serde_json::from_str(&text).map_err(|_| connect::unexpected_reply())?;

    audit.failure.map_or(Ok(()), Err)
}

/// Seconds of a time span: `90s`, `30m`, `12h`, `7d`.
pub(crate) fn span(text: &str) -> Result<u64, Failure> {
    let unit = |last: char| match last {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(86_400),
        _ => None,
    };

    let seconds = text.char_indices().next_back().and_then(|(at, last)| {
        let number: u64 = text.get(..at)?.parse().ok()?;
        number.checked_mul(unit(last)?)
    });

    seconds.ok_or_else(|| {
        Failure::new(
            Code::Usage,
            format!("--since: invalid time span `{text}`"),
            "use a number with s, m, h or d: --since 12h",
        )
    })
}

fn prose(audit: &Audit) -> String {
    let Audit {
        profile,
        since,
        calls,
        truncated,
        journal_since,
        holders,
        ended_sessions,
        ..
    } = audit;

    let mut text = format!(
        "profile {profile}: {} since {since}\n",
        counted(calls.len(), "call")
    );

    for call in calls {
        text += &call_lines(call, holders);
    }

    for ended in ended_sessions {
        let _ = writeln!(text, "\n{}  {ended}", ended.noticed_at);
    }

    if *truncated {
        text += "\nThere are more calls; use a shorter --since\n";
    }

    match journal_since {
        Some(at) if !holders.is_empty() => {
            let _ = writeln!(
                text,
                "\nPrograms that received credentials (the journal starts at {at}):"
            );
        }
        _ => text += "\nThe journal has no program that received credentials\n",
    }

    for holder in holders {
        let _ = writeln!(
            text,
            "  session {}: {}",
            holder.first.session_id,
            holder_line(holder)
        );
    }

    text
}

/// A call, and below it the programs that may have made it.
fn call_lines(call: &AuditedCall, holders: &[HolderGroup]) -> String {
    let AuditedCall {
        at,
        action,
        resource,
        status,
        ip_address,
        session_id,
        holders: indices,
        ..
    } = call;

    let mut text =
        format!("\n{at}  {action} {resource}  {status}  from {ip_address}, session {session_id}\n");
    for holder in indices.iter().filter_map(|index| holders.get(*index)) {
        let _ = writeln!(text, "  {}", holder_line(holder));
    }

    if indices.is_empty() {
        text += "  the journal has no record of who had these credentials\n";
    }

    text
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A process and its ancestors: `/usr/bin/aws (812) < /bin/bash (640)`.
fn holder_line(HolderGroup { count, first }: &HolderGroup) -> String {
    let chain: Vec<_> = first
        .processes
        .iter()
        .map(|process| format!("{} ({})", display_path(&process.program), process.pid))
        .collect();
    let chain = if chain.is_empty() {
        "unknown process".into()
    } else {
        chain.join(" < ")
    };

    let more = if *count > 1 {
        format!(", and {} more", count - 1)
    } else {
        String::new()
    };

    match first.request_id {
        Some(_) => format!("{chain}, user {}, by rolekeeper iam{more}", first.uid),
        None => format!("{chain}, user {}, since {}{more}", first.uid, first.at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rolekeeper::protocol::{CredentialHolder, Process};

    #[test]
    fn time_span_has_a_unit() {
        for (text, want) in [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(span(text).unwrap(), want);
        }
        for wrong in [
            "",
            "12",
            "h",
            "1.5h",
            "-1h",
            "1w",
            "é",
            "99999999999999999999d",
            "9999999999999999999d",
        ] {
            assert_eq!(span(wrong).unwrap_err().code, Code::Usage, "{wrong}");
        }
    }

    #[test]
    fn path_cannot_forge_a_chain() {
        let process = |pid, program: &str| Process {
            pid,
            program: program.into(),
        };
        let forged = "/tmp/x (9), user 0, since 2020 < /usr/bin/aws";
        let group = HolderGroup {
            count: 1,
            first: CredentialHolder {
                at: "2026-01-01T00:00:00Z".into(),
                session_id: "s-1".into(),
                principal: "user/u-1".into(),
                profile: "dev".into(),
                uid: 1000,
                request_id: None,
                via: None,
                processes: vec![process(812, forged), process(640, "/bin/bash")],
            },
        };
        assert_eq!(
            holder_line(&group),
            format!("\"{forged}\" (812) < /bin/bash (640), user 1000, since 2026-01-01T00:00:00Z")
        );
    }

    #[test]
    fn call_lists_the_programs_that_may_have_made_it() {
        let call = |at: &str, holders| AuditedCall {
            at: at.into(),
            action: "iam.listRoles".into(),
            resource: "role".into(),
            status: "success".into(),
            ip_address: "192.0.2.1".into(),
            session_id: "s-1".into(),
            request_id: "q-1".into(),
            holders,
        };
        let process = |pid, program: &str| Process {
            pid,
            program: program.into(),
        };
        let holder = |request_id: Option<&str>, count| HolderGroup {
            count,
            first: CredentialHolder {
                at: "2026-01-01T00:00:00Z".into(),
                session_id: "s-1".into(),
                principal: "user/u-1".into(),
                profile: "dev".into(),
                uid: 1000,
                request_id: request_id.map(Into::into),
                via: None,
                processes: vec![process(812, "/usr/bin/aws"), process(640, "/bin/bash")],
            },
        };
        let audit = Audit {
            profile: "dev".into(),
            since: "2025-12-31T00:00:00Z".into(),
            calls: vec![
                call("2026-01-01T00:00:01Z", vec![0]),
                call("2026-01-01T00:00:02Z", vec![]),
                call("2026-01-01T00:00:03Z", vec![1]),
            ],
            truncated: false,
            failure: None,
            journal_since: Some("2025-12-30T00:00:00Z".into()),
            ended_sessions: Vec::new(),
            holders: vec![holder(None, 3), holder(Some("q-1"), 1)],
        };
        assert_eq!(
            prose(&audit),
            "\
profile dev: 3 calls since 2025-12-31T00:00:00Z

2026-01-01T00:00:01Z  iam.listRoles role  success  from 192.0.2.1, session s-1
  /usr/bin/aws (812) < /bin/bash (640), user 1000, since 2026-01-01T00:00:00Z, and 2 more

2026-01-01T00:00:02Z  iam.listRoles role  success  from 192.0.2.1, session s-1
  the journal has no record of who had these credentials

2026-01-01T00:00:03Z  iam.listRoles role  success  from 192.0.2.1, session s-1
  /usr/bin/aws (812) < /bin/bash (640), user 1000, by rolekeeper iam

Programs that received credentials (the journal starts at 2025-12-30T00:00:00Z):
  session s-1: /usr/bin/aws (812) < /bin/bash (640), user 1000, since 2026-01-01T00:00:00Z, and 2 more
  session s-1: /usr/bin/aws (812) < /bin/bash (640), user 1000, by rolekeeper iam
"
        );
    }
}
