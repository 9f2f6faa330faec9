//! `rolekeeper status [--json]`: the daemon, its profiles, and the state of their sessions. It does not start a daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use interprocess::local_socket::Stream;
use interprocess::local_socket::prelude::*;
use rolekeeper::connect;
use rolekeeper::protocol::{
    AwsFilesStatus, ClockStatus, DaemonStatus, FailedReload, Failure, FailureStatus, LaunchStatus,
    ProfileState, ProfileStatus, Protection, Reply, Request, SessionStatus, StatusPage,
};
use serde::Serialize;

use super::{printable, table};
use crate::{autostart, command};

/// The deadline of a reply to a shell that waits for completions.
const COMPLETION_DEADLINE: Duration = Duration::from_millis(800);

#[derive(Serialize)]
pub(crate) struct Status {
    pub(crate) daemon: DaemonStatus,
    pub(crate) profiles: Vec<ProfileStatus>,
}

pub(crate) fn run(json: bool, socket: Option<PathBuf>) -> Result<(), Failure> {
    let socket = connect::socket_path(socket)?;
    let open = || connect::open(&socket)?.ok_or_else(|| autostart::no_daemon(&socket));
    let status = autostart::ask_again(open, read)?;

    if json {
        command::print_json(&status)
    } else {
        command::print(&prose(&status))
    }
}

/// A connection to a running daemon, with the short deadline of completions.
pub(crate) fn open_for_completion(socket: &Path) -> Option<Stream> {
    let stream = connect::open(socket).ok()??;
    stream.set_recv_timeout(Some(COMPLETION_DEADLINE)).ok()?;
    Some(stream)
}

/// The daemon's status with the profiles of all pages.
pub(crate) fn read(stream: &mut Stream) -> Result<Status, Failure> {
    let mut after = None;
    let mut profiles = Vec::new();

    loop {
        let request = Request::Status {
            after: after.map(Into::into),
        };
        let text = connect::ask(stream, request)?;
        let Reply::Status(page) = connect::reply(&text)? else {
            return Err(connect::unexpected_reply());
        };
        let StatusPage {
            daemon,
            profiles: more,
            next,
        } = page;

        profiles.extend(more);
        match next {
            Some(name) => after = Some(name),
            None => return Ok(Status { daemon, profiles }),
        }
    }
}

fn prose(status: &Status) -> String {
    let daemon = daemon_lines(&status.daemon).join("\n");
    if status.profiles.is_empty() {
        return daemon + "\nno profiles are configured\n";
    }

    let mut text = daemon + "\n\n";
    let header = [
        "PROFILE",
        "STATE",
        "AGE",
        "EXPIRES IN",
        "NEXT REFRESH",
        "SESSION",
    ];

    let rows = std::iter::once(header.map(String::from)).chain(status.profiles.iter().map(row));
    let mut lines = table::lines(rows).into_iter();
    text.extend(lines.next().map(|header| header + "\n"));
    for (line, profile) in lines.zip(&status.profiles) {
        text += &(line + "\n");
        for note in notes(profile) {
            text += &format!("  {}\n", printable(&note));
        }
    }

    text
}

fn daemon_lines(daemon: &DaemonStatus) -> Vec<String> {
    let DaemonStatus {
        version,
        pid,
        uptime_seconds,
        connections,
        launch,
        endpoints,
        protection,
        clocks,
        failed_reload,
        awaiting_mfa,
        aws_files,
    } = daemon;

    let plural = if *connections == 1 { "" } else { "s" };
    let mut lines = vec![format!(
        "rolekeeperd {version}, process {pid}, up {}, {connections} connection{plural}",
        duration(*uptime_seconds),
    )];

    lines.extend(launch_lines(launch, *pid));
    if let Some(protection) = protection {
        lines.push(protection_line(protection));
        lines.extend(protection.unreadable_files.iter().cloned());
    }
    for (name, address) in endpoints {
        lines.push(match name.strip_prefix("imds.") {
            Some(profile) => format!("instance metadata of {profile}: {address}"),
            None => format!("container credentials: {address}"),
        });
    }

    lines.extend(clocks.iter().map(clock_line));
    lines.extend(failed_reload.as_ref().map(failed_reload_line));
    lines.extend(
        awaiting_mfa.iter().map(|upstream| {
            format!("programs wait for an MFA code: run rolekeeper login {upstream}")
        }),
    );
    lines.extend(aws_files.as_deref().map(aws_files_line));

    lines.iter().map(|line| printable(line)).collect()
}

fn launch_lines(launch: &LaunchStatus, pid: u32) -> Vec<String> {
    let LaunchStatus {
        config,
        socket,
        state,
        state_problem,
        started_by,
        ignored_variables,
        network,
    } = launch;

    // For other users than its own, the daemon names no files.
    if config.is_empty() {
        return vec![format!("socket {socket}; started by the {started_by}")];
    }

    let mut lines = vec![format!(
        "configuration {config}; socket {socket}; started by the {started_by}"
    )];
    lines.push(match (state, state_problem) {
        (Some(folder), None) => format!("state {folder}"),
        (Some(folder), Some(problem)) => {
            format!("state {folder}: read and not written, because {problem}")
        }
        (None, _) => "state: in memory only, because this user has no state folder".into(),
    });
    if !ignored_variables.is_empty() {
        lines.push(format!(
            "not used: {} of the environment that it was started from; set proxy and ca in the configuration instead",
            ignored_variables.join(", ")
        ));
    }
    lines.extend(
        autostart::other_network(network.as_deref())
            .map(|note| format!("{note}; to start it here, run kill {pid} and then any command")),
    );

    lines
}

fn protection_line(protection: &Protection) -> String {
    let Protection {
        memory,
        landlock,
        seccomp,
        peer_inspector,
        unreadable_files: _,
    } = protection;

    format!(
        "protection: memory {memory}; Landlock {landlock}; seccomp {seccomp}; peer inspector {peer_inspector}"
    )
}

fn failed_reload_line(failed: &FailedReload) -> String {
    let FailedReload { at, reason } = failed;
    format!("the reload at {at} failed, and the configuration from before is in use: {reason}")
}

fn aws_files_line(files: &AwsFilesStatus) -> String {
    let AwsFilesStatus {
        config,
        not_served_count,
        ..
    } = files;

    match not_served_count {
        0 => format!("every section of {config} is a profile"),
        1 => format!("1 section of {config} is not served: setup aws --all prints the reason"),
        count => {
            format!(
                "{count} sections of {config} are not served: setup aws --all prints the reasons"
            )
        }
    }
}

fn clock_line(clock: &ClockStatus) -> String {
    let ClockStatus {
        upstream,
        ahead_seconds,
    } = clock;

    let difference = duration(ahead_seconds.unsigned_abs());
    let direction = if *ahead_seconds > 0 {
        "ahead of"
    } else {
        "behind"
    };

    format!(
        "this machine's clock is {difference} {direction} the clock of {upstream}; services may reject signed requests"
    )
}

fn row(profile: &ProfileStatus) -> [String; 6] {
    let state = match profile.state {
        ProfileState::Idle => "idle",
        ProfileState::Fresh => "fresh",
        ProfileState::Aging => "aging",
        ProfileState::Expired => "expired",
        ProfileState::Held => "held",
        ProfileState::Fetching => "fetching",
        ProfileState::WaitingForApproval => "waiting for approval",
        ProfileState::Failing => "failing",
    };

    let [age, expiry, refresh, id] = match &profile.session {
        Some(session) => session_cells(session),
        None => [const { String::new() }; 4],
    };

    [
        profile.profile.clone(),
        state.into(),
        age,
        expiry,
        refresh,
        id,
    ]
}

fn session_cells(session: &SessionStatus) -> [String; 4] {
    let refresh = match session.refresh_in_seconds {
        Some(seconds) => format!("in {}", duration(seconds)),
        None if session.is_unused => "none, unused".into(),
        None => "-".into(),
    };

    [
        duration(session.age_seconds),
        duration(session.expires_in_seconds),
        refresh,
        printable(&session.id),
    ]
}

/// The lines below a profile's row.
fn notes(profile: &ProfileStatus) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(profile.failure.as_ref().map(failure_note));
    if let Some(held) = &profile.held {
        notes.push(format!(
            "{held}; to resume: rolekeeper resume {}",
            profile.profile
        ));
    }

    let session = profile.session.as_ref();
    let stale = session.filter(|session| session.is_view_stale);
    notes.extend(stale.and_then(stale_note));

    notes
}

fn failure_note(failure: &FailureStatus) -> String {
    let FailureStatus {
        since_seconds,
        attempts,
        retry_in_seconds,
        is_retried_on_request,
        message,
    } = failure;

    let plural = if *attempts == 1 { "" } else { "s" };
    let next = match (is_retried_on_request, retry_in_seconds) {
        (false, seconds) => format!("next in {}", duration(*seconds)),
        (true, 0) => "next at a request".into(),
        (true, seconds) => format!("next at a request in {} or later", duration(*seconds)),
    };
    format!(
        "failing for {} ({attempts} attempt{plural}, {next}): {message}",
        duration(*since_seconds),
    )
}

fn stale_note(session: &SessionStatus) -> Option<String> {
    let age = duration(session.view_age_seconds?);
    let reason = session.view_failure.as_ref();
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    Some(format!(
        "last successful revocation check {age} ago{reason}"
    ))
}

/// At most two units: `47s`, `12m 5s`, `3h 20m`, `2d 4h`.
fn duration(seconds: u64) -> String {
    let days = seconds / 86_400;
    let hours = seconds / 3600 % 24;
    let minutes = seconds / 60 % 60;
    let rest = seconds % 60;

    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rolekeeper::protocol::{EndCause, SessionEnded};

    #[test]
    fn status_shows_states_times_and_failures() {
        let profile = |name: &str, state| ProfileStatus {
            profile: name.into(),
            upstream: "bycloud".into(),
            role_id: "r-1".into(),
            region: None,
            state,
            session: None,
            failure: None,
            held: None,
        };
        let mut dev = profile("dev", ProfileState::Aging);
        dev.session = Some(SessionStatus {
            id: "s-1".into(),
            age_seconds: 2525,
            expires_in_seconds: 1075,
            refresh_in_seconds: Some(4),
            is_unused: false,
            view_age_seconds: Some(12),
            is_view_stale: false,
            view_failure: None,
        });
        let mut old = profile("old", ProfileState::Fresh);
        old.session = Some(SessionStatus {
            id: "s-2".into(),
            age_seconds: 60,
            expires_in_seconds: 3540,
            refresh_in_seconds: None,
            is_unused: true,
            view_age_seconds: Some(400),
            is_view_stale: true,
            view_failure: Some("the upstream answered 403".into()),
        });
        let mut lost = profile("lost", ProfileState::Held);
        lost.held = Some(SessionEnded {
            cause: EndCause::Revoked,
            session_id: Some("s-3".into()),
            by: Some("user/admin@example.test".into()),
            at: Some("2026-01-01T00:00:00.000Z".into()),
            reason: Some("lost laptop".into()),
            noticed_at: "2026-01-01T00:00:20.000Z".into(),
        });
        dev.failure = Some(FailureStatus {
            since_seconds: 90,
            attempts: 3,
            retry_in_seconds: 4,
            is_retried_on_request: false,
            message: "the upstream answered 503".into(),
        });
        let mut new = profile("new", ProfileState::Failing);
        new.failure = Some(FailureStatus {
            since_seconds: 1,
            attempts: 1,
            retry_in_seconds: 0,
            is_retried_on_request: true,
            message: "the role does not exist".into(),
        });
        let approval = profile("ask", ProfileState::WaitingForApproval);
        let status = Status {
            daemon: DaemonStatus {
                version: "0.1.0".into(),
                pid: 7,
                uptime_seconds: 90_000,
                connections: 1,
                launch: LaunchStatus {
                    config: "/home/me/config.toml".into(),
                    socket: "/home/me/socket".into(),
                    state: Some("/home/me/state".into()),
                    state_problem: None,
                    started_by: "client".into(),
                    ignored_variables: vec!["HTTPS_PROXY".into(), "SSL_CERT_FILE".into()],
                    network: Some("net:[1]".into()),
                },
                endpoints: [
                    ("container", "127.0.0.1:9911"),
                    ("imds.dev", "127.0.0.1:9912"),
                ]
                .map(|(line, address)| (line.into(), address.into()))
                .into(),
                protection: Some(Protection {
                    memory: "active".into(),
                    landlock: "active".into(),
                    seccomp: "off: no kernel".into(),
                    peer_inspector: "off: gone".into(),
                    unreadable_files: vec!["rolekeeperd cannot read /etc/hosts".into()],
                }),
                clocks: vec![ClockStatus {
                    upstream: "bycloud".into(),
                    ahead_seconds: -3700,
                }],
                awaiting_mfa: vec!["aws".into()],
                failed_reload: Some(FailedReload {
                    at: "2026-01-01T00:00:00Z".into(),
                    reason: "no upstream".into(),
                }),
                aws_files: None,
            },
            profiles: vec![
                approval,
                profile("ci", ProfileState::Idle),
                dev,
                lost,
                new,
                old,
            ],
        };
        assert_eq!(
            prose(&status),
            "\
rolekeeperd 0.1.0, process 7, up 1d 1h, 1 connection
configuration /home/me/config.toml; socket /home/me/socket; started by the client
state /home/me/state
not used: HTTPS_PROXY, SSL_CERT_FILE of the environment that it was started from; set proxy and ca in the configuration instead
the daemon was started in another network namespace than this one; to start it here, run kill 7 and then any command
protection: memory active; Landlock active; seccomp off: no kernel; peer inspector off: gone
rolekeeperd cannot read /etc/hosts
container credentials: 127.0.0.1:9911
instance metadata of dev: 127.0.0.1:9912
this machine's clock is 1h 1m behind the clock of bycloud; services may reject signed requests
the reload at 2026-01-01T00:00:00Z failed, and the configuration from before is in use: no upstream
programs wait for an MFA code: run rolekeeper login aws

PROFILE  STATE                 AGE     EXPIRES IN  NEXT REFRESH  SESSION
ask      waiting for approval
ci       idle
dev      aging                 42m 5s  17m 55s     in 4s         s-1
  failing for 1m 30s (3 attempts, next in 4s): the upstream answered 503
lost     held
  session s-3 was revoked by user/admin@example.test at 2026-01-01T00:00:00.000Z, reason: lost laptop; to resume: rolekeeper resume lost
new      failing
  failing for 1s (1 attempt, next at a request): the role does not exist
old      fresh                 1m 0s   59m 0s      none, unused  s-2
  last successful revocation check 6m 40s ago: the upstream answered 403
"
        );
    }
}
