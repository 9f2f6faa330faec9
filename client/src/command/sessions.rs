//! `rolekeeper sessions`: the principal's active sessions at an upstream, those of this machine marked, and their end.

use std::path::PathBuf;

use rolekeeper::connect;
use rolekeeper::protocol::{Failure, Request, SessionRevocation, Sessions, UpstreamSession};

use super::revocation::at_upstream;
use crate::{autostart, command};

pub(crate) fn list(
    upstream: Option<&str>,
    json: bool,
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    let request = || Request::Sessions {
        upstream: upstream.map(Into::into),
    };
    let text = autostart::ask(&connect::socket_path(socket)?, |stream| {
        connect::document(stream, request())
    })?;
    command::print_report(&text, json, table)
}

pub(crate) fn revoke(
    session_id: &str,
    reason: Option<&str>,
    upstream: Option<&str>,
    json: bool,
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    let request = || Request::RevokeSession {
        upstream: upstream.map(Into::into),
        session_id: session_id.into(),
        reason: reason.map(Into::into),
    };
    let text = autostart::ask(&connect::socket_path(socket)?, |stream| {
        connect::document(stream, request())
    })?;
    command::print_report(
        &text,
        json,
        |withdrawn: &SessionRevocation| match &withdrawn.profile {
            Some(profile) => format!("profile {profile}: {}\n", at_upstream(withdrawn)),
            None => at_upstream(withdrawn) + "\n",
        },
    )
}

fn table(report: &Sessions) -> String {
    if report.sessions.is_empty() {
        return format!("no active sessions at upstream {}\n", report.upstream);
    }
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header([
        "PROFILE",
        "SESSION",
        "ROLE",
        "PRINCIPAL",
        "ISSUED",
        "EXPIRES",
        "FROM",
    ]);
    for session in &report.sessions {
        let UpstreamSession {
            id,
            role_name,
            principal,
            issued_at,
            expires_at,
            source_ip,
            profile,
            ..
        } = session;
        let (profile, from) = (
            profile.as_deref().unwrap_or("-"),
            source_ip.as_deref().unwrap_or("-"),
        );
        table.add_row([
            profile, id, role_name, principal, issued_at, expires_at, from,
        ]);
    }
    let lines = table
        .lines()
        .map(|line| line.trim().to_owned() + "\n")
        .collect::<String>();
    if report.truncated {
        lines + "There are more\n"
    } else {
        lines
    }
}
