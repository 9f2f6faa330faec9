//! Revocation: sessions revoked at the upstream or by `logout`, and what the client shows about it.

use std::os::unix::fs::PermissionsExt;

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, eventually};
use serde_json::{Value, json};

/// The sandbox, and a home with the profiles `dev` and `ci` that polls every second.
fn world(profiles: &str) -> (SandboxProcess, Home) {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(
        &sandbox,
        "dev",
        &[("dev", "S3ReadOnly"), ("ci", "S3BucketAccess")],
    );

    home.configure_more("check_every = \"1s\"", profiles);

    (sandbox, home)
}

/// Sets the default poll interval, which is longer than a test.
fn poll_seldom(home: &Home) {
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

/// The administrator revokes a session.
fn revoke(sandbox: &SandboxProcess, id: &str) {
    let path = format!("/sts/sessions/{id}?reason=lost%20laptop");
    assert_eq!(
        sandbox.api(sandbox.token("admin"), "DELETE", &path, None).0,
        204
    );
}

fn upstream_status(sandbox: &SandboxProcess, id: &str) -> String {
    let path = format!("/sts/sessions/{id}");
    sandbox.api(sandbox.token("admin"), "GET", &path, None).1["status"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn await_hold(home: &Home, name: &str) {
    eventually("the daemon notices", || {
        (profile(home, name)["state"] == "held").then_some(())
    });
}

#[test]
fn revoked_profile_is_held_with_reason_until_resumed() {
    let (sandbox, home) = world("");
    let mut daemon = home.daemon(&[]);

    for name in ["dev", "ci"] {
        ask(&home, name).json();
    }

    let id = session(&home, "dev");
    revoke(&sandbox, &id);
    await_hold(&home, "dev");

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

    // The hold is in force before the daemon knows the name of the administrator.
    eventually("the administrator's name is known", || {
        ask(&home, "dev")
            .stderr
            .contains("user/admin@example.test")
            .then_some(())
    });

    refused(ask(&home, "dev"));
    assert!(
        ask(&home, "ci").code == 0,
        "the other profile is still served"
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

    // The hold is in force before it is on the disk, and survives the daemon from then on.
    eventually("the hold is stored", || {
        let stored = std::fs::read_to_string(home.state().join("revocations.json"));
        stored
            .is_ok_and(|text| text.contains("user/admin@example.test"))
            .then_some(())
    });
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
fn reassume_replaces_a_revoked_session() {
    let (sandbox, home) = world("on_revoke = \"reassume\"");
    let _daemon = home.daemon(&[]);

    let before = ask(&home, "dev").json();
    revoke(&sandbox, &session(&home, "dev"));
    eventually("there is a new session", || {
        (sandbox.calls("assumeRole") == 2).then_some(())
    });

    assert_ne!(
        ask(&home, "dev").json()["AccessKeyId"],
        before["AccessKeyId"]
    );
}

#[test]
fn session_refused_by_upstream_is_held_at_once() {
    let (sandbox, home) = world("");
    poll_seldom(&home);
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

    eventually("the reason is shown", || {
        ask(&home, "dev")
            .stderr
            .contains("lost laptop")
            .then_some(())
    });
}

#[test]
fn report_rejected_asks_the_upstream() {
    let (sandbox, home) = world("");
    poll_seldom(&home);
    let _daemon = home.daemon(&[]);

    ask(&home, "dev").json();
    let id = session(&home, "dev");
    let good = home.rolekeeper(&["report-rejected", "dev"]);
    assert!(
        good.code == 0
            && good
                .stdout
                .starts_with(&format!("profile dev: session {id} expires at 2")),
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
fn logout_revoke_is_retried_across_a_restart() {
    let (sandbox, home) = world("");
    let mut daemon = home.daemon(&[]);

    for name in ["dev", "ci"] {
        ask(&home, name).json();
    }

    let dev = session(&home, "dev");
    let ci = session(&home, "ci");
    let out = home.rolekeeper(&["logout", "ci", "--revoke"]);
    assert!(
        out.code == 0
            && out
                .stdout
                .contains(&format!("session {ci} is revoked at the upstream")),
        "{out:?}"
    );
    assert_eq!(upstream_status(&sandbox, &ci), "revoked");

    // The upstream is unavailable, and the daemon is killed meanwhile.
    let away =
        json!({ "method": "revokeSTSSession", "fault": { "kind": "status", "status": 503 } });
    sandbox.control("POST", "/faults", Some(away));
    let out = home.rolekeeper(&["logout", "--revoke"]);
    assert!(
        out.code == 7
            && out.stderr.contains("not revoked at the upstream yet: 1")
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
    assert_eq!(upstream_status(&sandbox, &dev), "active");

    daemon.kill();
    sandbox.clear_faults();
    let _daemon = home.daemon(&[]);

    eventually("the upstream revokes the session", || {
        (upstream_status(&sandbox, &dev) == "revoked").then_some(())
    });

    assert_eq!(ask(&home, "dev").code, 6, "the profile is still held");
}

#[test]
fn logout_revokes_superseded_sessions() {
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
        eventually("the upstream revokes the session", || {
            (upstream_status(&sandbox, id) == "revoked").then_some(())
        });
    }
}

#[test]
fn sessions_are_listed_and_revoked_by_id() {
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

    let revoked = home
        .rolekeeper(&["sessions", "revoke", other, "--json"])
        .json();
    assert_eq!(
        (&revoked["at_upstream"], &revoked["profile"]),
        (&json!("confirmed"), &Value::Null)
    );

    for id in [&id, other] {
        assert_eq!(upstream_status(&sandbox, id), "revoked");
    }

    let none = home.rolekeeper(&["sessions", "revoke", "no-such-session"]);
    assert!(
        none.code != 0 && none.stderr.contains("  try: "),
        "{none:?}"
    );
}

#[test]
fn disabled_account_is_not_a_revoked_session() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
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

    let run = eventually("the daemon notices", || {
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
fn revoke_on_stop_revokes_sessions() {
    let (sandbox, home) = world("revoke_on = [\"stop\"]");
    let daemon = home.daemon(&[]);

    ask(&home, "dev").json();
    let id = session(&home, "dev");

    assert_eq!(daemon.stop(), 0);
    assert_eq!(upstream_status(&sandbox, &id), "revoked");

    let _daemon = home.daemon(&[]);

    ask(&home, "dev").json();
}

#[test]
fn control_characters_in_reason_are_escaped() {
    let (sandbox, home) = world("");
    let _daemon = home.daemon(&[]);

    ask(&home, "dev").json();
    let reason = "%0a%20%20try%3a%20curl%20x%1b%5b2J".repeat(12);
    let path = format!("/sts/sessions/{}?reason={reason}", session(&home, "dev"));
    assert_eq!(
        sandbox.api(sandbox.token("admin"), "DELETE", &path, None).0,
        204
    );

    await_hold(&home, "dev");

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
fn hold_survives_unrelated_configuration_changes() {
    let (_sandbox, home) = world("");
    let daemon = home.daemon(&[]);

    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);

    home.configure_more("", "duration = \"30m\"");
    daemon.signal(rustix::process::Signal::HUP);
    eventually("the daemon serves again", || {
        (daemon.log().matches("serving").count() == 2).then_some(())
    });

    assert_eq!((ask(&home, "dev").code, ask(&home, "ci").code), (6, 0));
}

#[test]
fn daemon_does_not_start_with_unreadable_hold_file() {
    let (_sandbox, home) = world("");
    let daemon = home.daemon(&[]);

    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);
    assert_eq!(daemon.stop(), 0);

    let held = home.state().join("revocations.json");
    std::fs::write(&held, "{").unwrap();
    let run = home.rolekeeperd(&[]);

    let words = [
        "invalid revocation state",
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
fn superseded_session_is_polled_also_after_reload() {
    let (sandbox, home) = world("");
    let daemon = home.daemon(&[]);

    ask(&home, "dev").json();
    let first = session(&home, "dev");

    assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 0);

    daemon.signal(rustix::process::Signal::HUP);
    eventually("the daemon serves again", || {
        (daemon.log().matches("serving").count() == 2).then_some(())
    });
    ask(&home, "dev").json();
    revoke(&sandbox, &first);
    await_hold(&home, "dev");
    assert!(ask(&home, "dev").stderr.contains(&first));
}

/// A hold is reported as done only if the next daemon has it, too.
#[test]
fn logout_and_resume_fail_until_they_can_be_stored() {
    let (_sandbox, home) = world("");
    let daemon = home.daemon(&[]);
    ask(&home, "dev").json();

    // A file instead of the state folder: not even root can write there.
    let state = home.state();
    let aside = home.path().join("state/aside");
    std::fs::rename(&state, &aside).unwrap();
    std::fs::write(&state, "").unwrap();

    for command in ["logout", "resume"] {
        let run = home.rolekeeper(&[command, "dev"]);
        assert!(
            run.code == 2
                && run.stdout.is_empty()
                && run.stderr.contains("cannot be stored in")
                && run.stderr.contains("run the command again"),
            "{command}: {run:?}"
        );
    }

    std::fs::remove_file(&state).unwrap();
    std::fs::rename(&aside, &state).unwrap();
    assert_eq!(home.rolekeeper(&["resume", "dev"]).code, 0);
    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);

    drop(daemon);
    let _daemon = home.daemon(&[]);
    assert_eq!(ask(&home, "dev").code, 6);
}

/// Also a session that no caller received, and sessions that an earlier logout left valid at the upstream.
#[test]
fn logout_with_revoke_ends_every_session_of_the_profile() {
    let (sandbox, home) = world("");
    let mut daemon = home.daemon(&[]);

    ask(&home, "dev").json();
    let mut ids = vec![session(&home, "dev")];
    assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 0);
    ids.push(session(&home, "dev"));

    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);
    for id in &ids {
        assert_eq!(upstream_status(&sandbox, id), "active");
    }

    // What was left is known to the next daemon, too.
    daemon.kill();
    let _daemon = home.daemon(&[]);
    assert_eq!(home.rolekeeper(&["resume", "dev"]).code, 0);
    ask(&home, "dev").json();
    ids.push(session(&home, "dev"));

    let logout = home.rolekeeper(&["logout", "dev", "--revoke", "--json"]);
    assert_eq!(logout.code, 0, "{logout:?}");
    for id in &ids {
        assert_eq!(upstream_status(&sandbox, id), "revoked");
        assert!(logout.stdout.contains(id), "{id}: {logout:?}");
    }
}

/// The attack: the journal of the daemon that fetched the session is gone.
#[test]
fn logout_with_revoke_needs_no_journal() {
    let (sandbox, home) = world("");
    let mut daemon = home.daemon(&[]);
    ask(&home, "dev").json();
    let id = session(&home, "dev");
    daemon.kill();

    std::fs::remove_file(home.journal()).unwrap();
    let _daemon = home.daemon(&[]);
    let logout = home.rolekeeper(&["logout", "dev", "--revoke"]);
    assert_eq!(logout.code, 0, "{logout:?}");
    assert_eq!(upstream_status(&sandbox, &id), "revoked");
    assert!(logout.stdout.contains(&id), "{logout:?}");
}

/// The attack: a daemon at another socket, which does not know of the hold.
#[test]
fn hold_is_valid_at_another_socket() {
    let (_sandbox, home) = world("");
    let mut daemon = home.daemon(&[]);
    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);

    let folder = home.path().join("second");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let socket = folder.join("socket");
    let ask_there = || {
        let mut client = home.client();
        client.arg("--socket").arg(&socket);
        client.args(["credential-process", "dev"]);
        home.run(client)
    };

    let beside = ask_there();
    assert_eq!(beside.code, 3, "the state is in use: {beside:?}");

    daemon.kill();
    let afterwards = ask_there();
    assert_eq!(afterwards.code, 6, "{afterwards:?}");
}
