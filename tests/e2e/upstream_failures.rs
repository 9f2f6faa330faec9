//! The upstream is down, slow or replies with garbage: the error says so, sessions survive,
//! requests time out, and the token goes nowhere else.

use std::time::{Duration, Instant};

use rolekeeper_tests::harness::{Daemon, Home, SandboxProcess, eventually, world};
use serde_json::{Value, json};

/// Every fault of the sandbox, and words of the error that it causes.
fn faults() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({ "kind": "status", "status": 503, "retry_after": "2" }),
            "unavailable",
        ),
        (
            json!({ "kind": "status", "status": 429, "retry_after": "2" }),
            "rate_limited",
        ),
        (json!({ "kind": "status", "status": 500 }), "internal"),
        (json!({ "kind": "reset" }), "connection"),
        (json!({ "kind": "half_close" }), "connection"),
        (json!({ "kind": "truncated" }), "body"),
        (json!({ "kind": "garbage" }), "not the documented reply"),
        (json!({ "kind": "html" }), "not the documented reply"),
        (
            json!({ "kind": "huge", "bytes": 9_000_000 }),
            "more than 8388608 bytes",
        ),
        (
            json!({ "kind": "redirect", "location": "http://127.0.0.1:1/stolen" }),
            "302 Found, not as ByCloud IAM does",
        ),
    ]
}

#[test]
fn invalid_upstream_replies_count_as_unavailable() {
    let sandbox = SandboxProcess::start(&[]);
    for (fault, words) in faults() {
        let home = Home::default();
        home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
        let _daemon = home.daemon(&[]);

        sandbox.fault(&fault);
        let run = home.rolekeeper(&["credential-process", "dev"]);
        sandbox.clear_faults();
        assert_eq!((run.code, run.stdout.as_str()), (7, ""), "{fault}: {run:?}");
        assert!(
            run.stderr.contains("(upstream_unavailable)") && run.stderr.contains(words),
            "{fault}: {run:?}"
        );
        assert!(
            run.stderr.contains("  try: run the command again in "),
            "{fault}: {run:?}"
        );

        let status = home.rolekeeper(&["status", "--json"]).json();
        assert_eq!(status["profiles"][0]["failure"]["attempts"], 1, "{fault}");
    }
}

#[test]
fn unreachable_upstream_is_reported_with_its_address() {
    let home = Home::default();
    let token = home.private_file("token", "canary-token");
    home.secret("canary-token");

    // A free port: nothing listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    home.configure(&format!(
        "[upstream.x]\nkind = \"bycloud\"\nendpoint = \"http://{address}\"\ntoken = {{ file = {token:?} }}\n\
         [profile.dev]\nupstream = \"x\"\nrole_id = \"r-1\"\n"
    ));
    let _daemon = home.daemon(&[]);

    let run = home.rolekeeper(&["credential-process", "dev"]);
    assert_eq!(run.code, 7, "{run:?}");
    assert!(
        run.stderr.contains(&address.to_string()) && run.stderr.contains("refused"),
        "{run:?}"
    );
}

#[test]
fn request_times_out_after_20_s_and_late_reply_is_used() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    sandbox.fault(&json!({ "kind": "delay", "ms": 21_500 }));
    let started = Instant::now();
    let run = home.rolekeeper(&["credential-process", "dev"]);

    assert!(
        started.elapsed() < Duration::from_secs(24),
        "{:?}",
        started.elapsed()
    );
    assert!(
        run.code == 7
            && run
                .stderr
                .contains("no answer from the upstream within 20 s"),
        "{run:?}"
    );

    eventually("the late reply is used", || {
        (home.rolekeeper(&["credential-process", "dev"]).code == 0).then_some(())
    });

    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn slow_reply_within_the_limit_is_read() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    sandbox.fault(&json!({ "kind": "slow_drip", "ms": 1 }));
    assert!(home.rolekeeper(&["credential-process", "dev"]).json()["AccessKeyId"].is_string());
}

#[test]
fn wrong_date_header_does_not_change_session_expiry() {
    let sandbox = SandboxProcess::start(&[]);
    for seconds in [-86_400, 86_400] {
        let home = Home::default();
        home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
        let _daemon = home.daemon(&[]);

        sandbox.fault(&json!({ "kind": "wrong_date", "seconds": seconds }));
        assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 0);

        let status = home.rolekeeper(&["status", "--json"]).json();
        let left = status["profiles"][0]["session"]["expires_in_seconds"]
            .as_u64()
            .unwrap();
        assert!((3580..=3600).contains(&left), "{left}");

        sandbox.clear_faults();
    }
}

#[test]
fn upstream_clock_skew_is_corrected() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    sandbox.control("POST", "/clock", Some(json!({ "advance_seconds": 86_400 })));
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let _daemon = home.daemon(&[]);

    let lease = home.rolekeeper(&["credential-process", "dev"]).json();
    let end: jiff::Timestamp = lease["Expiration"].as_str().unwrap().parse().unwrap();
    let left = end.duration_since(jiff::Timestamp::now()).as_secs();
    assert!(
        (940..=960).contains(&left),
        "the expiry is in this machine's time, which consumers compare it with: {left}"
    );
}

#[test]
fn valid_session_survives_failed_refresh() {
    // A session of 45 s is served for 30 s. Its refresh is due after 16 to 21 s.
    let sandbox = SandboxProcess::start(&["--max-session", "45"]);
    let homes: Vec<_> = faults()
        .into_iter()
        .map(|(fault, _)| (fault, Home::default()))
        .collect();

    for (_, home) in &homes {
        home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
    }

    // One daemon for each fault, all at once: one after the other would take minutes.
    let daemons: Vec<_> = homes
        .iter()
        .map(|(_, home)| (home, home.daemon(&[])))
        .collect();

    for (home, _) in &daemons {
        assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 0);
    }

    for (fault, _) in &homes {
        sandbox.control(
            "POST",
            "/faults",
            Some(json!({ "method": "assumeRole", "fault": fault, "times": 1 })),
        );
    }

    for (home, _) in &daemons {
        eventually("a refresh has failed", || {
            let status = home.rolekeeper(&["status", "--json"]).json();
            let profile = &status["profiles"][0];
            assert_ne!(profile["state"], "idle", "the session is gone: {status}");
            (profile["failure"].is_object() || sandbox.calls("assumeRole") >= 20).then_some(())
        });

        let run = home.rolekeeper(&["credential-process", "dev"]);
        assert_eq!(run.code, 0, "a valid session was not served: {run:?}");
    }
}

#[test]
fn session_is_not_served_in_its_last_15_seconds() {
    let sandbox = SandboxProcess::start(&["--max-session", "30"]);
    let home = Home::default();
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let _daemon = home.daemon(&[]);

    assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 0);

    sandbox.fault(&json!({ "kind": "status", "status": 503 }));
    let run = eventually("the session is no longer served", || {
        let run = home.rolekeeper(&["credential-process", "dev"]);
        (run.code != 0).then_some(run)
    });

    assert!(
        run.code == 7 && run.stderr.contains("failed attempts") | run.stderr.contains("again in"),
        "{run:?}"
    );

    let status = home.rolekeeper(&["status", "--json"]).json();
    assert_eq!(status["profiles"][0]["state"], "failing");

    let left = status["profiles"][0]["session"]["expires_in_seconds"]
        .as_u64()
        .unwrap();
    assert!(left <= 15, "{left}");
}

#[test]
fn token_is_sent_to_the_endpoint_only() {
    use std::io::Read;

    let (sandbox, home) = world();
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = elsewhere.local_addr().unwrap();
    let mut command = home.command(&rolekeeper_tests::harness::programs().rolekeeperd);
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(variable, format!("http://{address}"));
    }

    let _daemon = home.daemon_from(command);

    sandbox.fault(&json!({ "kind": "redirect", "location": format!("http://{address}/") }));
    assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 7);

    sandbox.clear_faults();
    elsewhere.set_nonblocking(true).unwrap();

    if let Ok((mut stream, _)) = elsewhere.accept() {
        let mut request = String::new();
        let _ = stream.read_to_string(&mut request);
        panic!("another address was sent {request}");
    }
}

/// The daemon's highest memory so far, in MiB.
fn peak_memory(daemon: &Daemon<'_>) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));

    kib.unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn endless_lists_end_and_sessions_are_served_on() {
    let (sandbox, home) = world();
    home.configure_more("check_every = \"1s\"", "");
    let daemon = home.daemon(&[]);
    let lease = || home.rolekeeper(&["credential-process", "dev"]);
    assert_eq!(lease().code, 0);
    let before = peak_memory(&daemon);

    let list = |method: &str, item: Value| {
        let fault = json!({ "kind": "endless_list", "item": item, "count": 5_000 });
        let rule = json!({ "method": method, "fault": fault });
        sandbox.control("POST", "/faults", Some(rule));
    };
    list(
        "listSTSSessions",
        json!({
            "role_id": "r-1", "role_name": "r", "principal_id": "p-1", "principal_type": "user",
            "status": "active", "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T01:00:00Z",
        }),
    );
    list(
        "listAuditLogs",
        json!({
            "timestamp": "2026-01-01T00:00:00Z", "action": "iam.listRoles", "resource_type": "role",
            "status": "success", "ip_address": "192.0.2.1", "request_id": "q-1",
        }),
    );

    eventually("the poll fails by its length", || {
        let status = home.rolekeeper(&["status", "--json"]).json();
        let failure = status["profiles"][0]["session"]["view_failure"]
            .as_str()?
            .to_owned();
        assert!(failure.contains("the list has more than"), "{failure}");
        Some(())
    });
    assert_eq!(lease().code, 0, "a session that is held is served on");

    let sessions = home.rolekeeper(&["sessions", "--json"]).json();
    assert_eq!(sessions["truncated"], true);
    let audit = home.rolekeeper(&["audit", "dev"]);
    assert!(
        audit.stderr.contains("the list has more than") || audit.stdout.contains("more calls"),
        "{audit:?}"
    );
    assert_eq!(lease().code, 0);

    let after = peak_memory(&daemon);
    assert!(after < before + 100, "from {before} to {after} MiB");
}
