//! `rolekeeper audit PROFILE`: what was done at the upstream with a profile's sessions, and which programs of this
//! machine had their credentials then.

use std::fmt::Write as _;
use std::path::PathBuf;

use rolekeeper::connect;
use rolekeeper::protocol::{Audit, AuditedCall, Code, Failure, HolderGroup, Request};

use crate::{autostart, command};

pub(crate) fn run(
    profile: &str,
    since: &str,
    json: bool,
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    let since_seconds = span(since)?;
    let ask = |stream: &mut _| {
        connect::document(
            stream,
            Request::Audit {
                profile: profile.into(),
                since_seconds,
            },
        )
    };
    let text = autostart::ask(&connect::socket_path(socket)?, ask)?;
    command::print_report(&text, json, prose)?;
    let audit: Audit = serde_json::from_str(&text).map_err(|_| connect::out_of_place())?;
    audit.failure.map_or(Ok(()), Err)
}

/// `90s`, `30m`, `12h`, `7d`.
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
            format!("--since: `{text}` is no span of time"),
            "a number and s, m, h or d: --since 12h",
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
    for AuditedCall {
        at,
        action,
        resource,
        status,
        ip_address,
        session_id,
        holders: indices,
        ..
    } in calls
    {
        let _ = writeln!(
            text,
            "\n{at}  {action} {resource}  {status}  from {ip_address}, session {session_id}"
        );
        for holder in indices.iter().filter_map(|index| holders.get(*index)) {
            let _ = writeln!(text, "  {}", shown(holder));
        }
        if indices.is_empty() {
            text += "  this daemon has no record of who had these credentials then\n";
        }
    }
    for ending in ended_sessions {
        let _ = writeln!(text, "\n{}  {}", ending.noticed_at, ending);
    }
    if *truncated {
        text += "\nThere are more calls: ask for a shorter time with --since\n";
    }
    text += "\nCredentials of this profile were given to";
    match journal_since {
        Some(at) if !holders.is_empty() => {
            let _ = writeln!(text, " (the record begins at {at}):");
        }
        _ => text += " nobody, as far as this daemon's record goes\n",
    }
    for holder in holders {
        let _ = writeln!(
            text,
            "  session {}: {}",
            holder.first.session_id,
            shown(holder)
        );
    }
    text
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The process that asked, and whose child it was: `/usr/bin/aws (812) < /bin/bash (640)`.
fn shown(HolderGroup { count, first }: &HolderGroup) -> String {
    let chain: Vec<_> = first
        .processes
        .iter()
        .map(|process| format!("{} ({})", process.program, process.pid))
        .collect();
    let chain = if chain.is_empty() {
        "a process that could not be seen".into()
    } else {
        chain.join(" < ")
    };
    let more = if *count > 1 {
        format!(", and {} alike", count - 1)
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
    fn spans_have_a_unit() {
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
    fn every_call_names_the_programs_that_may_have_made_it() {
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
  /usr/bin/aws (812) < /bin/bash (640), user 1000, since 2026-01-01T00:00:00Z, and 2 alike

2026-01-01T00:00:02Z  iam.listRoles role  success  from 192.0.2.1, session s-1
  this daemon has no record of who had these credentials then

2026-01-01T00:00:03Z  iam.listRoles role  success  from 192.0.2.1, session s-1
  /usr/bin/aws (812) < /bin/bash (640), user 1000, by rolekeeper iam

Credentials of this profile were given to (the record begins at 2025-12-30T00:00:00Z):
  session s-1: /usr/bin/aws (812) < /bin/bash (640), user 1000, since 2026-01-01T00:00:00Z, and 2 alike
  session s-1: /usr/bin/aws (812) < /bin/bash (640), user 1000, by rolekeeper iam
"
        );
    }
}
