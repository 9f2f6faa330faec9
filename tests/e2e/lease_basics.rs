//! The basics: a role is assumed, cached, served, and refreshed before it expires; the daemon stops
//! cleanly.

use std::io::Write;
use std::os::unix::net::UnixStream;

use rolekeeper_tests::harness::raw_client::{lease_request, read_reply};
use rolekeeper_tests::harness::{Home, SandboxProcess, eventually, world};
use serde_json::json;

#[test]
fn second_request_is_served_from_cache() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let first = home.rolekeeper(&["credential-process", "dev"]).json();
    let second = home.rolekeeper(&["credential-process", "dev"]).json();

    assert_eq!(first["Version"], 1, "SDKs need a number");

    for field in ["AccessKeyId", "SecretAccessKey", "SessionToken"] {
        assert!(
            first[field].as_str().is_some_and(|text| !text.is_empty()),
            "{field}"
        );
        assert_eq!(first[field], second[field]);
    }

    let expiration = first["Expiration"].as_str().unwrap();
    assert!(
        expiration.len() == "2026-01-01T00:00:00Z".len() && expiration.ends_with('Z'),
        "{expiration}"
    );
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn upstream_accepts_leased_credentials() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let lease = home.rolekeeper(&["credential-process", "dev"]).json();
    let status = home.rolekeeper(&["status", "--json"]).json();
    let session = status["profiles"][0]["session"]["id"].as_str().unwrap();

    let path = format!("/sts/sessions/{session}");
    let (code, body) = sandbox.api(lease["SessionToken"].as_str().unwrap(), "GET", &path, None);

    assert_eq!(code, 200, "{body}");
    assert_eq!(
        (&body["id"], &body["role_name"], &body["status"]),
        (&json!(session), &json!("S3ReadOnly"), &json!("active"))
    );
}

#[test]
fn session_is_refreshed_before_it_expires() {
    // A session of 31 s is served for 16 s. Its refresh is due after 9 to 11 s.
    let sandbox = SandboxProcess::start(&["--max-session", "31"]);
    let home = Home::default();
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let _daemon = home.daemon(&[]);

    let first = home.rolekeeper(&["credential-process", "dev"]).json();

    eventually("a second assumeRole", || {
        (sandbox.calls("assumeRole") == 2).then_some(())
    });
    let second = eventually("a new session", || {
        let lease = home.rolekeeper(&["credential-process", "dev"]).json();
        (lease["AccessKeyId"] != first["AccessKeyId"]).then_some(lease)
    });

    assert!(second["Expiration"].as_str() > first["Expiration"].as_str());
    assert_eq!(sandbox.calls("assumeRole"), 2);
}

#[test]
fn lease_setting_limits_advertised_expiry() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    let token = sandbox.token_file(&home, "dev");
    let role = sandbox.role("S3ReadOnly");
    let upstream = format!(
        "[upstream.s]\nkind = \"bycloud\"\nendpoint = \"{}\"\ntoken = {{ file = {token:?} }}\n",
        sandbox.endpoint()
    );

    let profile = |name: &str, lease: &str| {
        format!(
            "[profile.{name}]\nupstream = \"s\"\nrole_id = \"{role}\"\nduration = \"2h\"\nlease = \"{lease}\"\n"
        )
    };

    home.configure(
        &(upstream + &profile("a", "full") + &profile("b", "balanced") + &profile("c", "20m")),
    );
    let _daemon = home.daemon(&[]);

    let seconds_left = |name| {
        let lease = home.rolekeeper(&["credential-process", name]).json();
        let expiry: jiff::Timestamp = lease["Expiration"].as_str().unwrap().parse().unwrap();

        expiry.duration_since(jiff::Timestamp::now()).as_secs_f64()
    };

    for (name, limit) in [("a", 7200.0), ("b", 960.0), ("c", 1200.0)] {
        let left = seconds_left(name);
        assert!(left <= limit && left > limit - 10.0, "{name}: {left}");
    }

    let status = home.rolekeeper(&["status", "--json"]).json();
    assert!(
        status["profiles"][1]["session"]["expires_in_seconds"]
            .as_u64()
            .unwrap()
            > 7100
    );
}

#[test]
fn status_shows_each_profile_and_the_daemon() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(
        &sandbox,
        "dev",
        &[("dev", "S3ReadOnly"), ("idle", "S3BucketAccess")],
    );

    let daemon = home.daemon(&[]);

    home.rolekeeper(&["credential-process", "dev"]).json();

    let json = home.rolekeeper(&["status", "--json"]).json();
    assert_eq!(json["daemon"]["pid"], daemon.pid());
    assert_eq!(
        (&json["profiles"][0]["state"], &json["profiles"][1]["state"]),
        (&json!("fresh"), &json!("idle"))
    );

    let next = json["profiles"][0]["session"]["refresh_in_seconds"]
        .as_u64()
        .unwrap();
    assert!((1900..2520).contains(&next), "{next}");

    let table = home.rolekeeper(&["status"]);
    assert_eq!((table.code, table.stderr.as_str()), (0, ""));
    assert!(
        table.stdout.contains("dev      fresh") && table.stdout.contains("idle     idle"),
        "{}",
        table.stdout
    );
}

#[test]
fn stop_does_not_wait_for_slow_upstream() {
    let (sandbox, home) = world();
    let mut daemon = home.daemon(&[]);

    sandbox.fault(&json!({ "kind": "delay", "ms": 60_000 }));
    let mut stream = UnixStream::connect(home.socket()).unwrap();
    stream.write_all(&lease_request("dev")).unwrap();

    let run = std::thread::scope(|scope| {
        let asking = scope.spawn(|| home.rolekeeper(&["credential-process", "dev"]));
        eventually("the request has reached the upstream", || {
            (sandbox.calls("assumeRole") == 1).then_some(())
        });
        daemon.signal(rustix::process::Signal::TERM);

        asking.join().unwrap()
    });

    let reply = read_reply(&mut stream).unwrap();
    assert_eq!(reply["reply"]["error"]["code"], "shutting_down", "{reply}");
    assert!(
        reply["reply"]["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("again"),
        "{reply}"
    );

    // The client retries; autostart is off in this test.
    assert!(
        run.code == 3 && run.stderr.contains("no daemon is running"),
        "{run:?}"
    );
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn stop_answers_open_requests_and_removes_socket() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let sandbox = SandboxProcess::start(&[]);
        let home = Home::default();
        home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
        let mut daemon = home.daemon(&[]);

        sandbox.fault(&json!({ "kind": "delay", "ms": 1500 }));

        let run = std::thread::scope(|scope| {
            let asking = scope.spawn(|| home.rolekeeper(&["credential-process", "dev"]));
            eventually("the request has reached the upstream", || {
                (sandbox.calls("assumeRole") == 1).then_some(())
            });
            daemon.signal(signal);
            eventually("new connections are refused", || {
                (!home.socket().exists()).then_some(())
            });

            asking.join().unwrap()
        });

        assert!(run.json()["AccessKeyId"].is_string());
        assert_eq!(daemon.wait(), 0, "{}", daemon.log());
        assert_eq!(home.rolekeeper(&["status"]).code, 3);
    }
}
