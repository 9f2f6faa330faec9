//! R7: what may come back when a session is refreshed. Whatever it is, the session that is held is served to its end, and
//! only the upstream's own documented words are taken for its word.

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
use rolekeeperd::clock::Clock;
use rolekeeperd::config::{DEFAULT_CHECK, LeaseLimit, Profile, ProfileName, RoleId, RoleRequest};
use rolekeeperd::model::UpstreamId;
use rolekeeperd::upstream::handle::UpstreamHandle;
use rolekeeperd::upstream::{Upstream, UpstreamError};
use serde::Deserialize;

use super::{client, run};

const HOUR: Duration = Duration::from_secs(3600);

/// A reply as it was on the wire.
#[derive(Debug, Deserialize)]
struct Recorded {
    name: String,
    raw: Option<String>,
    hex: Option<String>,
    means: String,
    retry_after: Option<u64>,
    /// Whether it ends a session that is held.
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
    RoleRequest {
        role_id: RoleId::parse("r-1").expect("an id"),
        duration: HOUR,
    }
}

/// Answers the first connection with the first reply, and all others with the second.
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
            // The client is to close first, or what it has not read yet is lost.
            let _ = stream.read(&mut request);
        }
    });
    url
}

/// A `Date` may say that time was lost and end sessions, so it has to be the upstream's.
#[test]
fn nothing_is_learnt_of_the_time_from_answers_that_need_not_be_the_upstreams() {
    let home = Home::default();
    let now = Timestamp::now();
    let http = |ahead: i64, status: &str, body: &str| {
        let date = httpdate::fmt_http_date((now + SignedDuration::from_secs(ahead)).into());
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        (head + body).into_bytes()
    };
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
    for (status, body, is_learnt) in cases {
        let url = serve(http(0, "201 Created", &good), http(3600, status, &body));
        let client = client(&home, &url, "canary-long-lived");
        run(async {
            let before = Clock::System.now().boot;
            let granted = client
                .assume(&role())
                .await
                .expect("the first answer is good");
            client
                .server_clock()
                .issued(granted.issued_at, before, Clock::System.now().boot);
            let latest = || {
                client
                    .server_clock()
                    .latest(Clock::System.now().boot)
                    .expect("it is known")
            };
            let known = latest();
            let _ = client.assume(&role()).await;
            let moved = latest().duration_since(known).as_secs() > 3000;
            assert_eq!(moved, is_learnt, "{status} {body}");
        });
    }
}

fn meaning(answer: Result<(), &UpstreamError>) -> &'static str {
    match answer {
        Ok(()) => "granted",
        Err(UpstreamError::Unavailable { .. }) => "unavailable",
        Err(UpstreamError::LoginNeeded { .. }) => "login_needed",
        Err(UpstreamError::Refused { .. }) => "refused",
    }
}

#[test]
fn whatever_comes_back_a_session_that_is_held_is_served_and_nonsense_is_no_verdict() {
    let home = Home::default();
    let all = recorded();
    assert!(all.len() >= 100, "{}", all.len());
    let good = all
        .iter()
        .find(|each| each.name == "a good one")
        .expect("there is a good one")
        .bytes();
    for case in &all {
        let url = serve(good.clone(), case.bytes());
        let upstream = UpstreamHandle::new(
            "u".into(),
            UpstreamId::new(0),
            Box::new(client(&home, &url, "canary-long-lived")),
            DEFAULT_CHECK,
        );
        let profile = Profile::new(
            ProfileName::parse("dev").expect("a name"),
            Arc::clone(&upstream.name),
            role(),
        );
        let profile = Profile {
            lease: LeaseLimit::Full,
            ..profile
        };
        let clock = Clock::virtual_from(Timestamp::UNIX_EPOCH);
        run(async {
            let daemon = Daemon::new(
                Policy::of(1),
                vec![(profile, Arc::clone(&upstream))],
                vec![Arc::clone(&upstream)],
                Stores::in_memory(),
                clock.clone(),
            );
            let services = &daemon.services;
            let peer = Peer::new(1, None);
            let held = services
                .lease(&peer, "dev", &mut NoInteraction)
                .await
                .expect("the first answer is good")
                .session;
            // Three quarters of an hour later it is due, and a quarter is left.
            let Clock::Virtual(time) = &clock else {
                unreachable!("it is virtual")
            };
            time.suspend(HOUR * 3 / 4);
            let lease = services
                .lease(&peer, "dev", &mut NoInteraction)
                .await
                .expect("it is served while it is refreshed");
            assert!(Arc::ptr_eq(&lease.session, &held));
            let landed = || {
                let status = services.status.page(&peer, None, 0).profiles.remove(0);
                status.session.is_none()
                    || status.failure.is_some()
                    || status
                        .session
                        .is_some_and(|session| session.age_seconds < 60)
            };
            while !landed() {
                tokio::task::yield_now().await;
            }
            let after = daemon
                .cache
                .find("dev")
                .expect("it is configured")
                .session();
            assert_eq!(after.is_none(), case.drops, "{}", case.name);
            let is_same = after.is_some_and(|after| Arc::ptr_eq(&after, &held));
            assert_eq!(
                is_same,
                case.means != "granted" && !case.drops,
                "{}",
                case.name
            );
            let answer = upstream.client.assume(&role()).await;
            let error = answer.as_ref().err();
            assert_eq!(
                meaning(error.map_or(Ok(()), Err)),
                case.means,
                "{}: {error:?}",
                case.name
            );
            let wait = error
                .and_then(UpstreamError::retry_after)
                .map(|wait| wait.as_secs());
            assert_eq!(wait, case.retry_after, "{}", case.name);
            assert!(
                !format!("{error:?}").contains("canary"),
                "{}: {error:?}",
                case.name
            );
        });
    }
}
