//! The real daemon while the machine is suspended and while the wall clock is set.

use std::time::{Duration, Instant};

use rolekeeper_tests::harness::{
    Clocks, Daemon, Home, Run, SandboxProcess, eventually, programs, world,
};
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);

/// The daemon, with clocks that the test controls.
fn daemon_with_clocks(home: &Home) -> (Daemon<'_>, Clocks) {
    let mut command = home.command(&programs().rolekeeperd);
    let clocks = Clocks::preload(home, &mut command);

    (home.daemon_from(command), clocks)
}

fn ask(home: &Home) -> Run {
    home.rolekeeper(&["credential-process", "dev"])
}

fn session(home: &Home) -> Value {
    home.rolekeeper(&["status", "--json"]).json()["profiles"][0]["session"].clone()
}

/// Suspends the machine: time passes for the daemon and for the upstream.
fn suspend(sandbox: &SandboxProcess, clocks: &mut Clocks, span: Duration) {
    sandbox.control(
        "POST",
        "/clock",
        Some(json!({ "advance_seconds": span.as_secs() })),
    );

    clocks.sleep(span);
}

#[test]
fn daemon_refreshes_at_once_after_suspend() {
    let (sandbox, home) = world();
    let (daemon, mut clocks) = daemon_with_clocks(&home);
    let before = ask(&home).json();
    let suspended = Instant::now();
    suspend(&sandbox, &mut clocks, HOUR * 8);

    // Without a request: the daemon's timer fires after the suspend.
    eventually("the daemon has refreshed", || {
        (sandbox.calls("assumeRole") == 2).then_some(())
    });

    assert!(
        suspended.elapsed() < Duration::from_secs(5),
        "{:?}",
        suspended.elapsed()
    );
    assert!(daemon.log().contains("time jumped"), "{}", daemon.log());

    let after = ask(&home).json();
    assert_ne!(after["AccessKeyId"], before["AccessKeyId"]);

    let token = after["SessionToken"].as_str().unwrap();
    let path = format!("/sts/sessions/{}", session(&home)["id"].as_str().unwrap());
    assert_eq!(
        sandbox.api(token, "GET", &path, None).0,
        200,
        "the upstream accepts the new session"
    );
    assert_eq!(
        sandbox.calls("assumeRole"),
        2,
        "one call before and one after the suspend"
    );
}

#[test]
fn first_request_after_suspend_gets_no_expired_session() {
    let (sandbox, home) = world();
    let (_daemon, mut clocks) = daemon_with_clocks(&home);
    let first = ask(&home).json();
    sandbox.fault(&json!({ "kind": "status", "status": 503 }));
    suspend(&sandbox, &mut clocks, HOUR * 8);
    let run = ask(&home);
    assert!(run.code == 7 && run.stdout.is_empty(), "{run:?}");

    sandbox.clear_faults();
    let second = eventually("the upstream is available again", || {
        let run = ask(&home);
        (run.code == 0).then(|| run.json())
    });

    assert_ne!(second["AccessKeyId"], first["AccessKeyId"]);
}

#[test]
fn wall_clock_step_does_not_change_session_expiry() {
    let (sandbox, home) = world();
    let (_daemon, mut clocks) = daemon_with_clocks(&home);
    let first = ask(&home).json();
    let left = || session(&home)["expires_in_seconds"].as_u64().unwrap();
    let before = left();

    for step in [3600, -7200, 86_400, -2 * 86_400] {
        clocks.step(step);
        assert_eq!(
            ask(&home).json()["AccessKeyId"],
            first["AccessKeyId"],
            "{step}"
        );
        assert!(
            left() <= before && before - left() < 60,
            "{step}: {} of {before}",
            left()
        );
    }

    assert_eq!(sandbox.calls("assumeRole"), 1);

    suspend(&sandbox, &mut clocks, HOUR);
    let second = eventually("the session expires after its hour", || {
        let lease = ask(&home).json();
        (lease["AccessKeyId"] != first["AccessKeyId"]).then_some(lease)
    });

    assert!(second["SessionToken"] != first["SessionToken"]);
}
