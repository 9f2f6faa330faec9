//! `status`: what a profile waits for, why it fails, and what became of a reload.

use std::process::{Child, Stdio};

use rolekeeper_tests::harness::{Home, eventually, world};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Killed when it is dropped.
struct RunningClient(Child);

impl Drop for RunningClient {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn status(home: &Home) -> Value {
    home.rolekeeper(&["status", "--json"]).json()
}

fn wait_for_state(home: &Home, wanted: &str) {
    eventually(wanted, || {
        (status(home)["profiles"][0]["state"] == wanted).then_some(())
    });
}

fn start_client(home: &Home, args: &[&str]) -> RunningClient {
    let mut command = home.client();
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child: Child = command.spawn().unwrap();
    RunningClient(child)
}

#[test]
fn slow_upstream_is_fetching() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    assert_eq!(status(&home)["profiles"][0]["state"], "idle");

    let slow = json!({ "method": "assumeRole", "fault": { "kind": "delay", "ms": 3000 } });
    sandbox.control("POST", "/faults", Some(slow));
    let _client = start_client(&home, &["refresh", "dev"]);
    wait_for_state(&home, "fetching");
    assert!(
        home.rolekeeper(&["status"])
            .stdout
            .contains("dev      fetching")
    );
    wait_for_state(&home, "fresh");
}

#[test]
fn failing_profile_shows_its_error_and_next_attempt() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let refuse = json!({ "method": "assumeRole", "times": 1, "fault":
        { "kind": "status", "status": 404, "code": "not_found", "message": "no such role" } });
    sandbox.control("POST", "/faults", Some(refuse));
    assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 8);
    let profile = status(&home)["profiles"][0].clone();
    assert_eq!(profile["state"], "failing");
    assert_eq!(profile["failure"]["is_retried_on_request"], true);
    let text = home.rolekeeper(&["status"]).stdout;
    assert!(
        text.contains("dev      failing")
            && text.contains("next at a request")
            && text.contains("no such role"),
        "{text}"
    );
}

#[test]
fn failing_profile_in_use_is_retried_by_itself() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let down = json!({ "method": "assumeRole", "times": 1, "fault":
        { "kind": "status", "status": 503, "code": "unavailable", "message": "down" } });
    sandbox.control("POST", "/faults", Some(down));
    assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 7);
    let profile = status(&home)["profiles"][0].clone();
    assert_eq!(profile["state"], "failing");
    assert!(profile["failure"].get("is_retried_on_request").is_none());
    let left = profile["failure"]["retry_in_seconds"].as_u64().unwrap();
    assert!((1..=10).contains(&left), "{profile}");
}

#[test]
fn program_that_waits_for_approval_is_shown() {
    let (_sandbox, home) = world();
    home.configure_more("", "confirm = \"always\"");
    let _daemon = home.daemon(&[]);
    let _client = start_client(&home, &["credential-process", "dev"]);
    wait_for_state(&home, "waiting_for_approval");
    assert!(
        home.rolekeeper(&["status"])
            .stdout
            .contains("dev      waiting for approval")
    );
}

#[test]
fn failed_reload_is_shown_until_one_succeeds() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);
    let good = std::fs::read_to_string(home.config_path()).unwrap();

    home.configure(&good.replace("kind = \"bycloud\"", "kind = \"none\""));
    daemon.signal(Signal::HUP);
    let failed = eventually("the reload fails", || {
        status(&home)["daemon"].get("failed_reload").cloned()
    });
    let reason = failed["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("the configuration has 1 error: ")
            && reason.contains("`none` is not a kind of upstream"),
        "{failed}"
    );
    let text = home.rolekeeper(&["status"]).stdout;
    let at = failed["at"].as_str().unwrap();
    assert!(text.contains(&format!(
        "the reload at {at} failed, and the configuration from before"
    )));

    home.configure(&good);
    daemon.reload();
    assert!(status(&home)["daemon"].get("failed_reload").is_none());
}

#[test]
fn new_profile_is_known_right_after_a_reload() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);

    for number in 0..4 {
        let text = std::fs::read_to_string(home.config_path()).unwrap();
        let role = text
            .split("role_id = ")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        let profile = format!("new{number}");
        home.configure(&format!(
            "{text}[profile.{profile}]\nupstream = \"sandbox\"\nrole_id = {role}\n"
        ));
        daemon.signal(Signal::HUP);
        let run = home.rolekeeper(&["credential-process", &profile]);
        assert_eq!(run.code, 0, "{run:?}");
    }

    // A reload that fails does not leave it open.
    home.configure("nonsense");
    daemon.signal(Signal::HUP);
    let run = home.rolekeeper(&["credential-process", "new9"]);
    assert!(
        run.code == 2 && run.stderr.contains("there is no profile `new9`"),
        "{run:?}"
    );
}
