//! R8 and R9 on the real daemon: its machine sleeps between two requests, its clock on the wall is set.

use std::time::{Duration, Instant};

use rolekeeper_tests::harness::{
    Clocks, Daemon, Home, Run, SandboxProcess, eventually, programs, world,
};
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);

/// The daemon, with clocks of its own.
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

/// The cloud's clock goes on while the machine sleeps.
fn both_sleep(sandbox: &SandboxProcess, clocks: &mut Clocks, span: Duration) {
    sandbox.control(
        "POST",
        "/clock",
        Some(json!({ "advance_seconds": span.as_secs() })),
    );
    clocks.sleep(span);
}

#[test]
fn a_real_daemon_that_slept_serves_nothing_expired_and_refreshes_within_a_second() {
    let (sandbox, home) = world();
    let (daemon, mut clocks) = daemon_with_clocks(&home);
    let before = ask(&home).json();
    let slept = Instant::now();
    both_sleep(&sandbox, &mut clocks, HOUR * 8);
    // Nobody asks: it wakes up by itself.
    eventually("it has refreshed", || {
        (sandbox.calls("assumeRole") == 2).then_some(())
    });
    assert!(
        slept.elapsed() < Duration::from_secs(5),
        "{:?}",
        slept.elapsed()
    );
    assert!(daemon.log().contains("time has jumped"), "{}", daemon.log());
    let after = ask(&home).json();
    assert_ne!(after["AccessKeyId"], before["AccessKeyId"]);
    let token = after["SessionToken"].as_str().unwrap();
    let path = format!("/sts/sessions/{}", session(&home)["id"].as_str().unwrap());
    assert_eq!(
        sandbox.api(token, "GET", &path, None).0,
        200,
        "it is good at the cloud of eight hours later"
    );
    assert_eq!(sandbox.calls("assumeRole"), 2, "once each");
}

#[test]
fn the_first_request_after_a_sleep_gets_nothing_that_has_expired() {
    let (sandbox, home) = world();
    let (_daemon, mut clocks) = daemon_with_clocks(&home);
    let first = ask(&home).json();
    sandbox.fault(&json!({ "kind": "status", "status": 503 }));
    both_sleep(&sandbox, &mut clocks, HOUR * 8);
    let run = ask(&home);
    assert!(run.code == 7 && run.stdout.is_empty(), "{run:?}");
    sandbox.clear_faults();
    let second = eventually("it is back", || {
        let run = ask(&home);
        (run.code == 0).then(|| run.json())
    });
    assert_ne!(second["AccessKeyId"], first["AccessKeyId"]);
}

#[test]
fn a_clock_that_is_set_neither_prolongs_a_session_nor_ends_it() {
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
    both_sleep(&sandbox, &mut clocks, HOUR);
    let second = eventually("the end is where it was", || {
        let lease = ask(&home).json();
        (lease["AccessKeyId"] != first["AccessKeyId"]).then_some(lease)
    });
    assert!(second["SessionToken"] != first["SessionToken"]);
}
