//! R7: replies to a refresh. Whatever the reply is, the daemon serves the current session until its end. Only a documented reply of
//! the upstream itself has an effect.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rolekeeper_tests::harness::Home;
use rolekeeperd::access::NoInteraction;
use rolekeeperd::access::peer::Peer;
use rolekeeperd::access::policy::Policy;
use rolekeeperd::app::daemon::Daemon;
use rolekeeperd::app::stores::Stores;
use rolekeeperd::cache::session::Session;
use rolekeeperd::clock::Clock;
use rolekeeperd::config::{DEFAULT_CHECK, LeaseLimit, Profile, ProfileName, RoleId, RoleRequest};
use rolekeeperd::model::UpstreamId;
use rolekeeperd::upstream::bycloud::ByCloud;
use rolekeeperd::upstream::handle::UpstreamHandle;
use rolekeeperd::upstream::{Upstream, UpstreamError};
use serde::Deserialize;

use super::{client, run};

const HOUR: Duration = Duration::from_secs(3600);

/// A reply as on the wire.
#[derive(Debug, Deserialize)]
struct Recorded {
    name: String,
    raw: Option<String>,
    hex: Option<String>,
    means: String,
    retry_after: Option<u64>,
    /// Whether it ends the current session.
    #[serde(default)]
    drops: bool,
}

impl Recorded {
    fn bytes(&self) -> Vec<u8> {
        match (&self.raw, &self.hex) {
            (Some(raw), None) => raw.clone().into_bytes(),
            (None, Some(hex)) => {
                let byte =
                    |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
                (0..hex.len()).step_by(2).map(byte).collect()
            }
            _ => panic!("{}: one of raw and hex", self.name),
        }
    }
}

fn recorded() -> Vec<Recorded> {
    serde_json::from_str(include_str!("../data/replies.json")).expect("it is well-formed")
}

fn role() -> RoleRequest {
    RoleRequest::bycloud(RoleId::parse("r-1").expect("an id"), HOUR)
}

/// Replies to the first connection with the first reply, and to all others with the second.
fn serve(first: Vec<u8>, then: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(if number == 0 { &first } else { &then });
            let _ = stream.shutdown(Shutdown::Write);
            // Waits until the client closes. Otherwise bytes that the client has not read may be lost.
            let _ = stream.read(&mut request);
        }
    });
    url
}

fn http(date: Timestamp, status: &str, body: &str) -> Vec<u8> {
    let date = httpdate::fmt_http_date(date.into());
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );

    (head + body).into_bytes()
}

/// The server's time as the client estimates it.
fn server_time(client: &ByCloud) -> Timestamp {
    let latest = client.server_clock().latest(Clock::System.now().boot);

    latest.expect("it is known")
}

/// A `Date` can reveal that time was not counted, which ends sessions. So it must be the upstream's own.
#[test]
fn date_is_used_only_from_replies_of_the_upstream_itself() {
    let home = Home::default();
    let now = Timestamp::now();
    let hour_ahead = now + SignedDuration::from_hours(1);
    let good = format!(
        r#"{{"session":{{"id":"s","role_id":"r-1","role_name":"r","principal_id":"u","principal_type":"user","status":"active",
        "issued_at":"{now}","expires_at":"{end}"}},"credentials":{{"access_key_id":"K","secret_access_key":"S",
        "session_token":"T","expires_at":"{end}"}}}}"#,
        end = now + HOUR
    );
    let envelope =
        |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"no","request_id":"q"}}}}"#);
    let cases = [
        ("200 OK", r#"{"captive":true}"#.to_owned(), false),
        ("200 OK", String::new(), false),
        ("201 Created", "null".into(), false),
        ("200 OK", "<html>".into(), false),
        ("502 Bad Gateway", "<html>".into(), false),
        ("503 Service Unavailable", envelope("unavailable"), false),
        ("500 Internal Server Error", envelope("internal"), false),
        (
            "401 Unauthorized",
            r#"{"error":{"code":"invalid_token","message":"no"}}"#.into(),
            false,
        ),
        ("403 Forbidden", envelope("access_denied"), true),
        ("201 Created", good.clone(), true),
    ];
    for (status, body, is_used) in cases {
        let first = http(now, "201 Created", &good);
        let url = serve(first, http(hour_ahead, status, &body));
        let client = client(&home, &url, "canary-long-lived");
        run(async {
            let before = Clock::System.now().boot;
            let granted = client
                .assume(&role(), None)
                .await
                .expect("the first reply is good");
            let after = Clock::System.now().boot;
            client
                .server_clock()
                .issued(granted.issued_at, before, after);

            let time_before = server_time(&client);
            let _ = client.assume(&role(), None).await;
            let moved = server_time(&client).duration_since(time_before);
            assert_eq!(moved.as_secs() > 3000, is_used, "{status} {body}");
        });
    }
}

fn meaning(result: Result<(), &UpstreamError>) -> &'static str {
    match result {
        Ok(()) => "granted",
        Err(UpstreamError::Unavailable { .. }) => "unavailable",
        Err(UpstreamError::LoginNeeded { .. }) => "login_needed",
        Err(UpstreamError::MfaNeeded { .. }) => "mfa_needed",
        Err(UpstreamError::Refused { .. }) => "refused",
    }
}

/// A daemon with one profile at one upstream.
fn daemon(upstream: &Arc<UpstreamHandle>, clock: &Clock) -> Daemon {
    let name = ProfileName::parse("dev").expect("a name");
    let profile = Profile {
        lease: LeaseLimit::Full,
        ..Profile::new(name, Arc::clone(&upstream.name), role())
    };

    Daemon::new(
        Policy::of(1),
        vec![(profile, Arc::clone(upstream))],
        vec![Arc::clone(upstream)],
        Stores::in_memory(),
        clock.clone(),
    )
}

#[test]
fn session_outlives_invalid_replies_to_its_refresh() {
    let home = Home::default();
    let all = recorded();
    assert!(all.len() >= 100, "{}", all.len());
    let good = all.iter().find(|reply| reply.name == "a good one");
    let good = good.expect("there is a good one").bytes();

    for case in &all {
        let url = serve(good.clone(), case.bytes());
        let upstream = UpstreamHandle::new(
            "u".into(),
            UpstreamId::new(0),
            Box::new(client(&home, &url, "canary-long-lived")),
            DEFAULT_CHECK,
        );

        run(async {
            check_refresh(case, &upstream).await;
            check_error(case, &upstream).await;
        });
    }
}

async fn lease(daemon: &Daemon, peer: &Peer) -> Arc<Session> {
    let leased = daemon.services.lease(peer, "dev", &mut NoInteraction).await;

    leased.expect("a lease").session
}

/// The first reply is good. The second is the case's, to a refresh.
async fn check_refresh(case: &Recorded, upstream: &Arc<UpstreamHandle>) {
    let clock = Clock::virtual_from(Timestamp::UNIX_EPOCH);
    let daemon = daemon(upstream, &clock);
    let peer = Peer::new(1, None);
    let first = lease(&daemon, &peer).await;

    // The refresh is due, and a quarter of the session is left.
    let Clock::Virtual(time) = &clock else {
        unreachable!("it is virtual")
    };
    time.suspend(HOUR * 3 / 4);
    let during = lease(&daemon, &peer).await;
    assert!(Arc::ptr_eq(&during, &first), "it is served meanwhile");

    while !has_refreshed(&daemon, &peer) {
        tokio::task::yield_now().await;
    }
    let entry = daemon.cache.find("dev").expect("it is configured");
    let after = entry.session();
    assert_eq!(after.is_none(), case.drops, "{}", case.name);
    let is_same = after.is_some_and(|after| Arc::ptr_eq(&after, &first));
    let stays = case.means != "granted" && !case.drops;
    assert_eq!(is_same, stays, "{}", case.name);
}

/// Whether the refresh has ended, with a new session or a failure.
fn has_refreshed(daemon: &Daemon, peer: &Peer) -> bool {
    let status = &daemon.services.status;
    let profile = status.page(peer, None, 0).profiles.remove(0);

    match profile.session {
        Some(session) => profile.failure.is_some() || session.age_seconds < 60,
        None => true,
    }
}

async fn check_error(case: &Recorded, upstream: &UpstreamHandle) {
    let result = upstream.client.assume(&role(), None).await;
    let error = result.as_ref().err();
    let name = &case.name;

    let meaning = meaning(error.map_or(Ok(()), Err));
    assert_eq!(meaning, case.means, "{name}: {error:?}");

    let retry_after = error.and_then(UpstreamError::retry_after);
    let seconds = retry_after.map(|wait| wait.as_secs());
    assert_eq!(seconds, case.retry_after, "{name}");

    assert!(
        !format!("{error:?}").contains("canary"),
        "{name}: {error:?}"
    );
}
