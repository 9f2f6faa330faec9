//! V1 to V5 on the real programs: sessions that are revoked at the cloud or logged out of here, and what people read of it.

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, eventually};
use serde_json::{Value, json};

/// The sandbox and a home with `dev` and `ci`, which looks every second.
fn world(profiles: &str) -> (SandboxProcess, Home) {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    home.configure_for(
        &sandbox,
        "dev",
        &[("dev", "S3ReadOnly"), ("ci", "S3BucketAccess")],
    );
    home.configure_more("check_every = \"1s\"", profiles);
    (sandbox, home)
}

/// As by default: what is noticed then is not noticed by looking.
fn look_seldom(home: &Home) {
    home.configure(
        &std::fs::read_to_string(home.config_path())
            .unwrap()
            .replace("check_every = \"1s\"", ""),
    );
}

fn ask(home: &Home, profile: &str) -> Run {
    home.rolekeeper(&["credential-process", profile])
}

fn profile(home: &Home, name: &str) -> Value {
    let status = home.rolekeeper(&["status", "--json"]).json();
    let profiles = status["profiles"].as_array().unwrap();
    profiles
        .iter()
        .find(|profile| profile["profile"] == name)
        .unwrap()
        .clone()
}

fn session(home: &Home, name: &str) -> String {
    profile(home, name)["session"]["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// As the administrator does it.
fn revoke(sandbox: &SandboxProcess, id: &str) {
    let path = format!("/sts/sessions/{id}?reason=lost%20laptop");
    assert_eq!(
        sandbox.api(sandbox.token("admin"), "DELETE", &path, None).0,
        204
    );
}

fn at_the_cloud(sandbox: &SandboxProcess, id: &str) -> String {
    let path = format!("/sts/sessions/{id}");
    sandbox.api(sandbox.token("admin"), "GET", &path, None).1["status"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn held(home: &Home, name: &str) {
    eventually("it is noticed", || {
        (profile(home, name)["state"] == "held").then_some(())
    });
}

#[test]
fn what_an_administrator_revoked_is_refused_with_who_when_and_why_until_it_is_resumed() {
    let (sandbox, home) = world("");
    let mut daemon = home.daemon(&[]);
    for name in ["dev", "ci"] {
        ask(&home, name).json();
    }
    let id = session(&home, "dev");
    revoke(&sandbox, &id);
    held(&home, "dev");
    let refused = |run: Run| {
        assert_eq!(run.code, 6, "{run:?}");
        for word in [
            "profile dev is held",
            &id,
            "user/admin@example.test",
            "lost laptop",
            "rolekeeper resume dev",
        ] {
            assert!(run.stderr.contains(word), "{word}: {run:?}");
        }
    };
    refused(ask(&home, "dev"));
    assert!(
        ask(&home, "ci").code == 0,
        "another session is another session"
    );
    let table = home.rolekeeper(&["status"]).stdout;
    assert!(
        table.contains("held") && table.contains("lost laptop"),
        "{table}"
    );
    let audit = home.rolekeeper(&["audit", "dev"]).stdout;
    assert!(
        audit.contains(&format!(
            "session {id} was revoked by user/admin@example.test"
        )),
        "{audit}"
    );
    // It is not forgotten with the daemon.
    daemon.kill();
    let _daemon = home.daemon(&[]);
    refused(ask(&home, "dev"));
    assert_eq!(sandbox.calls("assumeRole"), 2);
    let resumed = home.rolekeeper(&["resume", "dev"]);
    assert_eq!(
        (resumed.code, resumed.stdout.as_str()),
        (0, "profile dev: resumed\n")
    );
    ask(&home, "dev").json();
    assert_ne!(session(&home, "dev"), id);
}

#[test]
fn an_unattended_machine_goes_on_with_a_new_session() {
    let (sandbox, home) = world("on_revoke = \"reassume\"");
    let _daemon = home.daemon(&[]);
    let before = ask(&home, "dev").json();
    revoke(&sandbox, &session(&home, "dev"));
    eventually("there is another", || {
        (sandbox.calls("assumeRole") == 2).then_some(())
    });
    assert_ne!(
        ask(&home, "dev").json()["AccessKeyId"],
        before["AccessKeyId"]
    );
}

#[test]
fn a_session_whose_token_the_cloud_refuses_is_over_at_once() {
    let (sandbox, home) = world("");
    look_seldom(&home);
    let _daemon = home.daemon(&[]);
    ask(&home, "dev").json();
    revoke(&sandbox, &session(&home, "dev"));
    let refused = home.rolekeeper(&["iam", "listRoles", "--profile", "dev"]);
    assert!(
        refused.code == 8 && refused.stderr.contains("(session_revoked, "),
        "{refused:?}"
    );
    let run = ask(&home, "dev");
    assert!(
        run.code == 6 && run.stderr.contains("profile dev is held"),
        "{run:?}"
    );
    eventually("why is known", || {
        ask(&home, "dev")
            .stderr
            .contains("lost laptop")
            .then_some(())
    });
}

#[test]
fn a_report_of_refused_credentials_is_answered_with_what_the_cloud_says() {
    let (sandbox, home) = world("");
    look_seldom(&home);
    let _daemon = home.daemon(&[]);
    ask(&home, "dev").json();
    let id = session(&home, "dev");
    let good = home.rolekeeper(&["report-rejected", "dev"]);
    assert!(
        good.code == 0
            && good
                .stdout
                .starts_with(&format!("profile dev: session {id} until 2")),
        "{good:?}"
    );
    revoke(&sandbox, &id);
    let bad = home.rolekeeper(&["report-rejected", "dev"]);
    assert!(
        bad.code == 6 && bad.stdout.contains("lost laptop"),
        "{bad:?}"
    );
    assert_eq!(sandbox.calls("listSTSSessions"), 2);
}

#[test]
fn who_logs_out_gives_no_credentials_and_the_cloud_is_told_when_it_can_be() {
    let (sandbox, home) = world("");
    let mut daemon = home.daemon(&[]);
    for name in ["dev", "ci"] {
        ask(&home, name).json();
    }
    let (dev, ci) = (session(&home, "dev"), session(&home, "ci"));
    let out = home.rolekeeper(&["logout", "ci", "--revoke"]);
    assert!(
        out.code == 0
            && out
                .stdout
                .contains(&format!("session {ci} is revoked at the upstream")),
        "{out:?}"
    );
    assert_eq!(at_the_cloud(&sandbox, &ci), "revoked");
    // The cloud is away, and so is the daemon for a while.
    let away =
        json!({ "method": "revokeSTSSession", "fault": { "kind": "status", "status": 503 } });
    sandbox.control("POST", "/faults", Some(away));
    let out = home.rolekeeper(&["logout", "--revoke"]);
    assert!(
        out.code == 0
            && out
                .stdout
                .contains("could not be revoked at the upstream; the daemon retries"),
        "{out:?}"
    );
    let run = ask(&home, "dev");
    assert!(
        run.code == 6 && run.stderr.contains("was logged out by you"),
        "{run:?}"
    );
    assert_eq!(at_the_cloud(&sandbox, &dev), "active");
    daemon.kill();
    sandbox.clear_faults();
    let _daemon = home.daemon(&[]);
    eventually("the cloud is told", || {
        (at_the_cloud(&sandbox, &dev) == "revoked").then_some(())
    });
    assert_eq!(ask(&home, "dev").code, 6, "it is still logged out of");
}

#[test]
fn who_logs_out_ends_the_sessions_before_too_that_somebody_may_still_use() {
    let (sandbox, home) = world("");
    let _daemon = home.daemon(&[]);
    ask(&home, "dev").json();
    let first = session(&home, "dev");
    let refreshed = home.rolekeeper(&["refresh", "dev"]);
    let second = session(&home, "dev");
    assert!(
        refreshed.code == 0 && refreshed.stdout.contains(&second) && first != second,
        "{refreshed:?}"
    );
    home.rolekeeper(&["logout", "dev", "--revoke"]);
    for id in [&first, &second] {
        eventually("it is revoked", || {
            (at_the_cloud(&sandbox, id) == "revoked").then_some(())
        });
    }
}

#[test]
fn sessions_are_listed_with_their_profiles_and_ended_by_their_ids() {
    let (sandbox, home) = world("");
    let _daemon = home.daemon(&[]);
    ask(&home, "dev").json();
    let id = session(&home, "dev");
    let elsewhere = sandbox.api(
        sandbox.token("dev"),
        "POST",
        &format!("/roles/{}/assume", sandbox.role("S3BucketAccess")),
        Some(&json!({})),
    );
    home.secret(
        elsewhere.1["credentials"]["session_token"]
            .as_str()
            .unwrap(),
    );
    let other = elsewhere.1["session"]["id"].as_str().unwrap();
    let table = home.rolekeeper(&["sessions"]).stdout;
    let row = |id: &str| {
        table
            .lines()
            .find(|line| line.contains(id))
            .unwrap_or_else(|| panic!("{table}"))
    };
    assert!(
        row(&id).starts_with("dev ") && row(other).starts_with("- "),
        "{table}"
    );
    let ours = home.rolekeeper(&["sessions", "revoke", &id, "--reason", "left on a train"]);
    assert!(
        ours.code == 0 && ours.stdout.contains("is revoked at the upstream"),
        "{ours:?}"
    );
    assert!(ask(&home, "dev").stderr.contains("left on a train"));
    let other_one = home
        .rolekeeper(&["sessions", "revoke", other, "--json"])
        .json();
    assert_eq!(
        (&other_one["at_upstream"], &other_one["profile"]),
        (&json!("confirmed"), &Value::Null)
    );
    for id in [&id, other] {
        assert_eq!(at_the_cloud(&sandbox, id), "revoked");
    }
    let none = home.rolekeeper(&["sessions", "revoke", "no-such-session"]);
    assert!(
        none.code != 0 && none.stderr.contains("  try: "),
        "{none:?}"
    );
}

#[test]
fn a_disabled_account_is_told_from_a_revoked_session() {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    home.configure_for(&sandbox, "ci-cd-pipeline", &[("ci", "S3ReadOnly")]);
    home.configure_more("check_every = \"1s\"", "");
    let _daemon = home.daemon(&[]);
    ask(&home, "ci").json();
    let admin = sandbox.token("admin");
    let accounts = sandbox.api(admin, "GET", "/service-accounts", None).1;
    let path = format!(
        "/service-accounts/{}",
        accounts["items"][0]["id"].as_str().unwrap()
    );
    assert_eq!(
        sandbox
            .api(admin, "PATCH", &path, Some(&json!({ "enabled": false })))
            .0,
        200
    );
    let run = eventually("it is noticed", || {
        Some(ask(&home, "ci")).filter(|run| run.code != 0)
    });
    assert!(
        run.code == 8 && run.stderr.contains("(account_disabled)"),
        "{run:?}"
    );
    let audit = home.rolekeeper(&["audit", "ci"]).stdout;
    assert!(
        audit.contains("was revoked because its account was disabled"),
        "{audit}"
    );
}

#[test]
fn a_daemon_that_is_told_to_stop_revokes_what_it_was_asked_to() {
    let (sandbox, home) = world("revoke_on = [\"stop\"]");
    let daemon = home.daemon(&[]);
    ask(&home, "dev").json();
    let id = session(&home, "dev");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(at_the_cloud(&sandbox, &id), "revoked");
    let _daemon = home.daemon(&[]);
    ask(&home, "dev").json();
}

#[test]
fn a_reason_that_is_no_sentence_neither_forges_lines_nor_breaks_anything() {
    let (sandbox, home) = world("");
    let _daemon = home.daemon(&[]);
    ask(&home, "dev").json();
    let reason = "%0a%20%20try%3a%20curl%20x%1b%5b2J".repeat(12);
    let path = format!("/sts/sessions/{}?reason={reason}", session(&home, "dev"));
    assert_eq!(
        sandbox.api(sandbox.token("admin"), "DELETE", &path, None).0,
        204
    );
    held(&home, "dev");
    let run = ask(&home, "dev");
    assert_eq!((run.code, run.stderr.lines().count()), (6, 2), "{run:?}");
    assert!(
        run.stderr.contains("\\n  try: curl x\\u{1b}[2J") && !run.stderr.contains('\u{1b}'),
        "{run:?}"
    );
    assert!(run.stderr.len() < 2000, "{run:?}");
    assert!(home.rolekeeper(&["status"]).stdout.contains("held"));
}

#[test]
fn a_hold_outlives_changes_of_the_configuration_that_are_not_about_the_role() {
    let (_sandbox, home) = world("");
    let daemon = home.daemon(&[]);
    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);
    home.configure_more("", "duration = \"30m\"");
    daemon.signal(rustix::process::Signal::HUP);
    eventually("it serves again", || {
        (daemon.log().matches("serving").count() == 2).then_some(())
    });
    assert_eq!((ask(&home, "dev").code, ask(&home, "ci").code), (6, 0));
}

#[test]
fn a_daemon_that_cannot_read_what_is_held_does_not_start() {
    let (_sandbox, home) = world("");
    let daemon = home.daemon(&[]);
    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);
    assert_eq!(daemon.stop(), 0);
    let files = std::fs::read_dir(home.path().join("state/rolekeeper")).unwrap();
    let mut held = files.map(|file| file.unwrap().path());
    let held = held
        .find(|path| path.to_string_lossy().contains("/revocations"))
        .unwrap();
    std::fs::write(&held, "{").unwrap();
    let run = home.rolekeeperd(&[]);
    let words = [
        "which profiles are held after a revocation cannot be understood",
        held.to_str().unwrap(),
        "move it away",
    ];
    assert!(
        run.code == 1 && words.iter().all(|word| run.stderr.contains(word)),
        "{run:?}"
    );
    std::fs::remove_file(&held).unwrap();
    let _daemon = home.daemon(&[]);
    ask(&home, "dev").json();
}

#[test]
fn a_session_that_a_newer_one_has_replaced_is_still_looked_at_also_after_a_reload() {
    let (sandbox, home) = world("");
    let daemon = home.daemon(&[]);
    ask(&home, "dev").json();
    let first = session(&home, "dev");
    assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 0);
    daemon.signal(rustix::process::Signal::HUP);
    eventually("it serves again", || {
        (daemon.log().matches("serving").count() == 2).then_some(())
    });
    ask(&home, "dev").json();
    revoke(&sandbox, &first);
    held(&home, "dev");
    assert!(ask(&home, "dev").stderr.contains(&first));
}
