//! The upstream is down, slow, or talks nonsense: told as what it is, no session is lost, nothing hangs, and no secret
//! leaves for anywhere else.

use std::time::{Duration, Instant};

use rolekeeper_tests::harness::{Home, SandboxProcess, eventually, world};
use serde_json::{Value, json};

/// Every way of failing that the sandbox knows, and words of the message that it must get.
fn nonsense() -> Vec<(Value, &'static str)> {
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
fn each_kind_of_nonsense_is_an_outage_and_not_a_verdict() {
    let sandbox = SandboxProcess::start(&[]);
    for (fault, words) in nonsense() {
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
        assert!(run.stderr.contains("  try: again in "), "{fault}: {run:?}");
        let status = home.rolekeeper(&["status", "--json"]).json();
        assert_eq!(status["profiles"][0]["failure"]["attempts"], 1, "{fault}");
    }
}

#[test]
fn an_upstream_that_is_not_there_is_told_so_with_its_address() {
    let home = Home::default();
    let token = home.private_file("token", "canary-token");
    home.secret("canary-token");
    // A port that was free a moment ago.
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
fn a_slow_upstream_makes_nobody_wait_longer_than_20_seconds_and_its_answer_is_used() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    sandbox.fault(&json!({ "kind": "delay", "ms": 21_500 }));
    let asked = Instant::now();
    let run = home.rolekeeper(&["credential-process", "dev"]);
    assert!(
        asked.elapsed() < Duration::from_secs(24),
        "{:?}",
        asked.elapsed()
    );
    assert!(
        run.code == 7 && run.stderr.contains("has not answered within 20 s"),
        "{run:?}"
    );
    eventually("the fetch has landed", || {
        (home.rolekeeper(&["credential-process", "dev"]).code == 0).then_some(())
    });
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn a_slow_drip_within_the_limit_is_read_to_its_end() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    sandbox.fault(&json!({ "kind": "slow_drip", "ms": 1 }));
    assert!(home.rolekeeper(&["credential-process", "dev"]).json()["AccessKeyId"].is_string());
}

#[test]
fn a_wrong_date_neither_lengthens_nor_shortens_a_session() {
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
fn an_upstream_whose_clock_is_a_day_ahead_grants_what_it_grants() {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    sandbox.control("POST", "/clock", Some(json!({ "advance_seconds": 86_400 })));
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let _daemon = home.daemon(&[]);
    let lease = home.rolekeeper(&["credential-process", "dev"]).json();
    let end: jiff::Timestamp = lease["Expiration"].as_str().unwrap().parse().unwrap();
    let left = end.duration_since(jiff::Timestamp::now()).as_secs();
    assert!(
        (940..=960).contains(&left),
        "by this machine's clock, which the consumer will ask: {left}"
    );
}

#[test]
fn an_outage_of_any_kind_keeps_a_session_that_still_has_time() {
    // 45 s of life are 30 s of service; the refresh falls due after 16 to 21.
    let sandbox = SandboxProcess::start(&["--max-session", "45"]);
    let homes: Vec<_> = nonsense()
        .into_iter()
        .map(|(fault, _)| (fault, Home::default()))
        .collect();
    for (_, home) in &homes {
        home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
    }
    // One after the other would take minutes; the faults are the method's, so each kind comes to one of the daemons.
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
fn a_session_is_refused_in_its_last_15_seconds_with_the_reason_and_the_next_try() {
    let (sandbox, home) = (
        SandboxProcess::start(&["--max-session", "30"]),
        Home::default(),
    );
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let _daemon = home.daemon(&[]);
    assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 0);
    sandbox.fault(&json!({ "kind": "status", "status": 503 }));
    let run = eventually("the session is over", || {
        let run = home.rolekeeper(&["credential-process", "dev"]);
        (run.code != 0).then_some(run)
    });
    assert!(
        run.code == 7 && run.stderr.contains("failed attempts") | run.stderr.contains("again in"),
        "{run:?}"
    );
    let status = home.rolekeeper(&["status", "--json"]).json();
    assert_eq!(status["profiles"][0]["state"], "expired");
    let left = status["profiles"][0]["session"]["expires_in_seconds"]
        .as_u64()
        .unwrap();
    assert!(left <= 15, "{left}");
}

#[test]
fn the_token_goes_to_the_endpoint_only() {
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
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        panic!("somebody else was sent {said}");
    }
}
