//! `rolekeeper logout`, `resume`, `refresh` and `report-rejected`.

use std::fmt::Write as _;
use std::path::PathBuf;

use rolekeeper::connect;
use rolekeeper::protocol::{
    Code, Failure, LogoutReport, ProfileLogout, ProfileUpdate, Request, SessionRevocation,
    UpstreamRevocation,
};

use crate::{autostart, command};

pub(crate) fn logout(
    profile: Option<&str>,
    revoke: bool,
    json: bool,
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    let request = || Request::Logout {
        profile: profile.map(Into::into),
        revoke,
    };
    let text = autostart::ask(&connect::socket_path(socket)?, |stream| {
        connect::document(stream, request())
    })?;
    command::print_report(&text, json, logged_out)?;

    let report: LogoutReport =
        serde_json::from_str(&text).map_err(|_| connect::unexpected_reply())?;
    let sessions = report.profiles.iter().flat_map(|each| &each.sessions);
    match revoke {
        true => check_revoked(sessions),
        false => Ok(()),
    }
}

/// # Errors
/// If the upstream has still to revoke one of the sessions: their credentials work until then.
pub(super) fn check_revoked<'a>(
    sessions: impl Iterator<Item = &'a SessionRevocation>,
) -> Result<(), Failure> {
    let mut pending = 0;
    let mut not_possible = 0;
    for session in sessions {
        match session.at_upstream {
            UpstreamRevocation::Pending => pending += 1,
            UpstreamRevocation::NotPossible => not_possible += 1,
            UpstreamRevocation::NotRequested | UpstreamRevocation::Confirmed => {}
        }
    }

    match (pending, not_possible) {
        (0, 0) => Ok(()),
        (0, count) => Err(Failure::new(
            Code::UpstreamRefused,
            format!("cannot be revoked at the upstream: {count}"),
            "wait until the session expires, or revoke the role's sessions in the upstream's console",
        )),
        (count, _) => Err(Failure::new(
            Code::UpstreamUnavailable,
            format!("not revoked at the upstream yet: {count}"),
            "leave rolekeeperd running: it retries until the session is revoked or has expired",
        )),
    }
}

pub(crate) fn resume(profile: &str, json: bool, socket: Option<PathBuf>) -> Result<(), Failure> {
    let text = update(
        &Request::Resume {
            profile: profile.into(),
        },
        socket,
    )?;
    command::print_report(&text, json, |update: &ProfileUpdate| {
        format!("profile {}: resumed\n", update.profile)
    })
}

pub(crate) fn refresh(profile: &str, json: bool, socket: Option<PathBuf>) -> Result<(), Failure> {
    let text = update(
        &Request::Refresh {
            profile: profile.into(),
        },
        socket,
    )?;
    command::print_report(&text, json, prose)
}

/// Prints the profile's state.
///
/// # Errors
/// [`Code::Held`] if the profile is held.
pub(crate) fn report_rejected(
    profile: &str,
    json: bool,
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    let text = update(
        &Request::ReportRejected {
            profile: profile.into(),
        },
        socket,
    )?;

    command::print_report(&text, json, prose)?;
    let update: ProfileUpdate =
        serde_json::from_str(&text).map_err(|_| connect::unexpected_reply())?;
    match update.held {
        None => Ok(()),
        Some(_) => Err(Failure::new(
            Code::Held,
            format!("profile {profile} is held"),
            format!("run rolekeeper audit {profile}, then rolekeeper resume {profile}"),
        )),
    }
}

fn update(request: &Request<'_>, socket: Option<PathBuf>) -> Result<String, Failure> {
    autostart::ask(&connect::socket_path(socket)?, |stream| {
        connect::document(stream, request.clone())
    })
}

fn prose(update: &ProfileUpdate) -> String {
    let ProfileUpdate {
        profile,
        session,
        held,
        ended,
        ..
    } = update;

    let ended = ended
        .as_ref()
        .or(held.as_ref())
        .map(|ending| format!("profile {profile}: {ending}\n"));
    match session {
        Some(session) => {
            let now = format!(
                "profile {profile}: session {} expires at {}\n",
                session.id, session.expires_at
            );
            ended.unwrap_or_default() + &now
        }
        None => ended.unwrap_or_else(|| format!("profile {profile}: no session\n")),
    }
}

fn logged_out(report: &LogoutReport) -> String {
    let mut text = String::new();
    for ProfileLogout { profile, sessions } in &report.profiles {
        let _ = write!(text, "profile {profile}: logged out");
        for session in sessions {
            let _ = write!(text, "; {}", at_upstream(session));
        }
        text.push('\n');
    }

    for ProfileLogout { profile, .. } in &report.profiles {
        let _ = writeln!(text, "To resume: rolekeeper resume {profile}");
    }

    text
}

/// The state at the upstream of a session that was ended here.
pub(super) fn at_upstream(
    SessionRevocation {
        session_id,
        at_upstream,
        failure,
        ..
    }: &SessionRevocation,
) -> String {
    match (at_upstream, failure) {
        (UpstreamRevocation::NotRequested, _) => {
            format!(
                "session {session_id} is valid at the upstream until it expires (--revoke revokes it there)"
            )
        }
        (UpstreamRevocation::Confirmed, _) => {
            format!("session {session_id} is revoked at the upstream")
        }
        (UpstreamRevocation::Pending, Some(why)) => {
            format!(
                "session {session_id} could not be revoked at the upstream; the daemon retries: {why}"
            )
        }
        (UpstreamRevocation::NotPossible, _) => {
            format!(
                "session {session_id} is valid at the upstream, which cannot revoke one session, until it expires"
            )
        }
        (UpstreamRevocation::Pending, None) => {
            format!("session {session_id} is being revoked at the upstream")
        }
    }
}
