//! `rolekeeper status [--json]`: the daemon, its profiles, and the state of their sessions. It asks the daemon that is
//! running and never starts one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use interprocess::local_socket::Stream;
use interprocess::local_socket::prelude::*;
use rolekeeper::connect;
use rolekeeper::protocol::{
    ClockStatus, DaemonStatus, Failure, ProfileState, ProfileStatus, Protection, Reply, Request,
    StatusPage,
};
use serde::Serialize;

use crate::command::printable;
use crate::{autostart, command};

/// How long a daemon may take to answer somebody who waits at a prompt.
const PATIENCE: Duration = Duration::from_millis(800);

#[derive(Serialize)]
pub(crate) struct Status {
    daemon: DaemonStatus,
    pub(crate) profiles: Vec<ProfileStatus>,
}

pub(crate) fn run(json: bool, socket: Option<PathBuf>) -> Result<(), Failure> {
    let socket = connect::socket_path(socket)?;
    let open = || connect::open(&socket)?.ok_or_else(|| autostart::no_daemon(&socket));
    let status = autostart::ask_again(open, read)?;
    if json {
        command::print_json(&status)
    } else {
        command::print(&table(&status))
    }
}

/// The daemon, if there is one that answers while somebody waits at a prompt.
pub(crate) fn open_soon(socket: &Path) -> Option<Stream> {
    let stream = connect::open(socket).ok()??;
    stream.set_recv_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// All pages.
pub(crate) fn read(stream: &mut Stream) -> Result<Status, Failure> {
    let mut after = None;
    let mut profiles = Vec::new();
    loop {
        let text = connect::ask(
            stream,
            Request::Status {
                after: after.map(Into::into),
            },
        )?;
        let Reply::Status(StatusPage {
            daemon,
            profiles: page,
            next,
        }) = connect::reply(&text)?
        else {
            return Err(connect::out_of_place());
        };
        profiles.extend(page);
        match next {
            Some(name) => after = Some(name),
            None => return Ok(Status { daemon, profiles }),
        }
    }
}

fn table(status: &Status) -> String {
    let DaemonStatus {
        version,
        pid,
        uptime_seconds,
        connections,
        endpoints,
        protection,
        clocks,
    } = &status.daemon;
    let mut text = format!(
        "rolekeeperd {version}, process {pid}, up {}, {connections} connection{}\n",
        duration(*uptime_seconds),
        if *connections == 1 { "" } else { "s" }
    );
    if let Some(Protection {
        memory,
        landlock,
        seccomp,
        ..
    }) = protection
    {
        let _ = writeln!(
            text,
            "protection: memory {}; Landlock {}; seccomp {}",
            printable(memory),
            printable(landlock),
            printable(seccomp)
        );
    }
    if let Some(callers) = protection
        .as_ref()
        .map(|it| &it.peer_inspector)
        .filter(|callers| callers.starts_with("off"))
    {
        let _ = writeln!(text, "identifying callers is {}", printable(callers));
    }
    for (line, address) in endpoints {
        let _ = match line.strip_prefix("imds.") {
            Some(profile) => writeln!(
                text,
                "instance metadata of {} at {address}",
                printable(profile)
            ),
            None => writeln!(text, "container credentials at {address}"),
        };
    }
    for ClockStatus {
        upstream,
        ahead_seconds,
    } in clocks
    {
        let (by, how) = (
            duration(ahead_seconds.unsigned_abs()),
            if *ahead_seconds > 0 {
                "ahead of"
            } else {
                "behind"
            },
        );
        let _ = writeln!(
            text,
            "this machine's clock is {by} {how} that of {upstream}: what is signed by it may be refused"
        );
    }
    if status.profiles.is_empty() {
        text.push_str("no profiles are configured\n");
        return text;
    }
    let wide = status
        .profiles
        .iter()
        .map(|profile| profile.profile.len())
        .max()
        .unwrap_or(0)
        .max(7);
    let _ = writeln!(
        text,
        "\n{:wide$}  {:7}  {:>8}  {:>8}  {:>12}  SESSION",
        "PROFILE", "STATE", "AGE", "LEFT", "NEXT REFRESH"
    );
    for profile in &status.profiles {
        let _ = writeln!(text, "{}", row(profile, wide).trim_end());
        if let Some(failing) = &profile.failure {
            let _ = writeln!(
                text,
                "{:wide$}  failing for {} ({} {}, next in {}): {}",
                "",
                duration(failing.since_seconds),
                failing.attempts,
                if failing.attempts == 1 {
                    "try"
                } else {
                    "tries"
                },
                duration(failing.retry_in_seconds),
                printable(&failing.message)
            );
        }
        if let Some(held) = &profile.held {
            let _ = writeln!(
                text,
                "{:wide$}  {}; rolekeeper resume {}",
                "",
                printable(&held.to_string()),
                profile.profile
            );
        }
        if let Some(session) = profile
            .session
            .as_ref()
            .filter(|session| session.is_view_stale)
        {
            let why = session
                .view_failure
                .as_ref()
                .map_or_else(String::new, |why| format!(": {}", printable(why)));
            let _ = writeln!(
                text,
                "{:wide$}  whether it was revoked was last known {} ago{why}",
                "",
                duration(session.view_age_seconds)
            );
        }
    }
    text
}

fn row(profile: &ProfileStatus, wide: usize) -> String {
    let state = match profile.state {
        ProfileState::Idle => "idle",
        ProfileState::Fresh => "fresh",
        ProfileState::Aging => "aging",
        ProfileState::Expired => "expired",
        ProfileState::Held => "held",
    };
    let (age, left, next, id) = profile
        .session
        .as_ref()
        .map_or_else(Default::default, |session| {
            (
                duration(session.age_seconds),
                duration(session.expires_in_seconds),
                match session.refresh_in_seconds {
                    Some(seconds) => format!("in {}", duration(seconds)),
                    None if session.is_unused => "none, unused".into(),
                    None => "-".into(),
                },
                printable(&session.id),
            )
        });
    format!(
        "{:wide$}  {state:7}  {age:>8}  {left:>8}  {next:>12}  {id}",
        profile.profile
    )
}

/// Two units at the most: `47s`, `12m 5s`, `3h 20m`, `2d 4h`.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes, rest) = (
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
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
    use rolekeeper::protocol::{EndCause, FailureStatus, SessionEnded, SessionStatus};

    #[test]
    fn the_table_shows_state_times_and_failures() {
        let profile = |name: &str, state| ProfileStatus {
            profile: name.into(),
            upstream: "bycloud".into(),
            role_id: "r-1".into(),
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
            view_age_seconds: 12,
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
            view_age_seconds: 400,
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
            message: "the upstream answered 503".into(),
        });
        let status = Status {
            daemon: DaemonStatus {
                version: "0.1.0".into(),
                pid: 7,
                uptime_seconds: 90_000,
                connections: 1,
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
                }),
                clocks: vec![ClockStatus {
                    upstream: "bycloud".into(),
                    ahead_seconds: -3700,
                }],
            },
            profiles: vec![profile("ci", ProfileState::Idle), dev, lost, old],
        };
        assert_eq!(
            table(&status),
            "\
rolekeeperd 0.1.0, process 7, up 1d 1h, 1 connection
protection: memory active; Landlock active; seccomp off: no kernel
identifying callers is off: gone
container credentials at 127.0.0.1:9911
instance metadata of dev at 127.0.0.1:9912
this machine's clock is 1h 1m behind that of bycloud: what is signed by it may be refused

PROFILE  STATE         AGE      LEFT  NEXT REFRESH  SESSION
ci       idle
dev      aging      42m 5s   17m 55s         in 4s  s-1
         failing for 1m 30s (3 tries, next in 4s): the upstream answered 503
lost     held
         session s-3 was revoked by user/admin@example.test at 2026-01-01T00:00:00.000Z, because: lost laptop; rolekeeper resume lost
old      fresh       1m 0s    59m 0s  none, unused  s-2
         whether it was revoked was last known 6m 40s ago: the upstream answered 403
"
        );
    }
}
