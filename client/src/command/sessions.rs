//! `rolekeeper sessions`: lists and revokes the principal's active sessions at an upstream.

use std::path::PathBuf;

use rolekeeper::connect;
use rolekeeper::protocol::{Failure, Request, SessionRevocation, Sessions, UpstreamSession};

use super::revocation::{at_upstream, check_revoked};
use super::table;
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
    command::print_report(&text, json, prose)
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
        |revocation: &SessionRevocation| match &revocation.profile {
            Some(profile) => format!("profile {profile}: {}\n", at_upstream(revocation)),
            None => at_upstream(revocation) + "\n",
        },
    )?;

    let revocation: SessionRevocation =
        serde_json::from_str(&text).map_err(|_| connect::unexpected_reply())?;
    check_revoked(std::iter::once(&revocation))
}

fn prose(report: &Sessions) -> String {
    if report.sessions.is_empty() {
        return format!("no active sessions at upstream {}\n", report.upstream);
    }

    let header = [
        "PROFILE",
        "SESSION",
        "ROLE",
        "PRINCIPAL",
        "ISSUED",
        "EXPIRES",
        "FROM",
    ];

    let text = table::text(std::iter::once(header).chain(report.sessions.iter().map(row)));

    if report.truncated {
        text + "There are more sessions\n"
    } else {
        text
    }
}

fn row(session: &UpstreamSession) -> [&str; 7] {
    [
        session.profile.as_deref().unwrap_or("-"),
        &session.id,
        &session.role_name,
        &session.principal,
        &session.issued_at,
        &session.expires_at,
        session.source_ip.as_deref().unwrap_or("-"),
    ]
}
