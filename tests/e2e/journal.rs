//! The journal: its file, `rolekeeper journal`, and its rate limits.

use std::fs;
use std::thread;

use rolekeeper_tests::harness::{Endpoint, Home, eventually, world};
use serde_json::Value;

use crate::approve::pending_approval;

fn records(home: &Home) -> Vec<Value> {
    let text = fs::read_to_string(home.journal()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Profile `dev`, which no program may use, and profile `open`, which every program may use.
fn configure(home: &Home) {
    let rule = "callers = [{ exe = \"/usr/bin/no-such-program\" }]";
    home.configure_more("", rule);
    let text = fs::read_to_string(home.config_path()).unwrap();
    let (_, dev) = text.split_once("[profile.dev]\n").unwrap();
    let open = dev.replace(&format!("{rule}\n"), "");
    home.configure(&format!("{text}[profile.open]\n{open}"));
}

fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record[field].as_str().unwrap_or_default()
}

#[test]
fn issuances_refusals_and_endings_have_types() {
    let (_sandbox, home) = world();
    configure(&home);
    let daemon = home.daemon(&[]);

    assert_eq!(home.rolekeeper(&["credential-process", "open"]).code, 0);
    assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 4);
    assert_eq!(home.rolekeeper(&["credential-process", "opne"]).code, 2);
    assert_eq!(home.rolekeeper(&["logout", "open"]).code, 0);
    assert_eq!(daemon.stop(), 0);

    let records = records(&home);
    let types: Vec<_> = records.iter().map(|record| text(record, "type")).collect();
    assert_eq!(
        types,
        ["issued", "refused", "refused", "session_ended", "command"]
    );

    let issued = &records[0];
    assert_eq!(text(issued, "profile"), "open");
    assert_eq!(text(issued, "via"), "socket");
    assert_eq!(issued["uid"], rustix::process::geteuid().as_raw());

    let test = std::env::current_exe().unwrap();
    for record in &records[..2] {
        let program = |index: usize| text(&record["processes"][index], "program");
        assert!(program(0).ends_with("/rolekeeper"), "{record}");
        assert_eq!(program(1), test.to_str().unwrap());
    }

    let refused = &records[1];
    assert_eq!(text(refused, "profile"), "dev");
    assert_eq!(text(refused, "code"), "not_allowed");
    assert!(
        text(refused, "message").contains("profile dev"),
        "{refused}"
    );

    let unknown = &records[2];
    assert_eq!(text(unknown, "profile"), "opne");
    assert_eq!(text(unknown, "code"), "unknown_profile");

    let ended = &records[3];
    assert_eq!(text(ended, "cause"), "logged_out");
    assert_eq!(ended["session_id"], issued["session_id"]);
}

#[test]
fn command_prints_records_of_earlier_daemons() {
    let (_sandbox, home) = world();
    configure(&home);
    let daemon = home.daemon(&[]);
    assert_eq!(home.rolekeeper(&["credential-process", "open"]).code, 0);
    assert_eq!(daemon.stop(), 0);
    let _daemon = home.daemon(&[]);
    assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 4);

    let table = home.rolekeeper(&["journal"]);
    let lines: Vec<_> = table.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{table:?}");
    assert!(lines[0].starts_with("TIME "), "{table:?}");
    assert!(lines[1].contains(" issued "), "{table:?}");
    assert!(lines[2].contains(" code=not_allowed "), "{table:?}");

    let json = home.rolekeeper(&["journal", "--json", "--profile", "dev", "--since", "1h"]);
    let record: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(record, records(&home)[1]);

    let recent = home.rolekeeper(&["journal", "--since", "0s"]);
    assert_eq!(recent.stdout, "no records\n");
}

#[test]
fn refusals_of_every_adapter_are_journalled() {
    let (_sandbox, home) = world();
    configure(&home);
    let _daemon = home.daemon(&[]);

    let iam = home.rolekeeper(&["iam", "listRoles", "--profile", "dev"]);
    assert_eq!(iam.code, 4, "{iam:?}");
    let endpoint = home.rolekeeper(&["exec", "dev", "--mode", "http", "--", "true"]);
    assert_eq!(endpoint.code, 4, "{endpoint:?}");
    let unknown = home.rolekeeper(&["audit", "opne"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    let http = Endpoint::of(&home, "open", "http");
    let without_token = http.ask("GET", &http.path, &[]);
    assert_eq!(without_token.status, 403, "{without_token:?}");

    // Reading the journal waits until it is written.
    assert_eq!(home.rolekeeper(&["journal"]).code, 0);
    let refusals: Vec<_> = records(&home)
        .iter()
        .filter(|record| record["type"] == "refused")
        .map(|record| [text(record, "profile"), text(record, "code")].map(str::to_owned))
        .collect();
    assert_eq!(
        refusals,
        [
            ["dev", "not_allowed"],
            ["dev", "not_allowed"],
            ["opne", "unknown_profile"],
            ["open", "not_allowed"],
        ]
    );
}

#[test]
fn refusals_are_rate_limited() {
    let (_sandbox, home) = world();
    home.configure_more("", "callers = [{ exe = \"/usr/bin/no-such-program\" }]");
    let _daemon = home.daemon(&[]);

    let mut stream = std::os::unix::net::UnixStream::connect(home.socket()).unwrap();
    let request = serde_json::json!({ "v": 1, "request": { "lease": { "profile": "none" } } });
    for _ in 0..2_000 {
        std::io::Write::write_all(&mut stream, &rolekeeper::frame::encode(&request).unwrap())
            .unwrap();
        rolekeeper::frame::read(&mut stream).unwrap();
    }

    let written = eventually("the refusals are written", || {
        Some(records(&home).len()).filter(|count| *count >= 20)
    });

    // The rate limit may have allowed a few more meanwhile.
    assert!(written < 40, "{written}");
}

#[test]
fn command_fails_if_the_journal_is_in_memory() {
    let (_sandbox, home) = world();
    let state = home.path().join("state/rolekeeper");
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    // A file in the place of the folder stops root, too.
    fs::write(&state, "").unwrap();
    // At the default socket, the state would be beside it.
    let socket = home.path().join("s");
    let socket = socket.to_str().unwrap();
    let _daemon = home.daemon(&["--socket", socket]);

    let run = home.rolekeeper(&["--socket", socket, "journal"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(
        run.stderr.contains("the journal is in memory only"),
        "{run:?}"
    );
}

#[test]
fn each_change_leaves_one_record_with_its_caller() {
    let (sandbox, home) = world();
    configure(&home);
    let _daemon = home.daemon(&[]);
    let role = sandbox.role("S3ReadOnly");
    let policy = home.rolekeeper(&["iam", "listPolicies"]).json()["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let session = || {
        assert_eq!(home.rolekeeper(&["credential-process", "open"]).code, 0);
        home.rolekeeper(&["status", "--json"]).json()["profiles"][1]["session"]["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let id = session();

    // Beside a guarded profile, this is a refusal.
    let assume = home.rolekeeper(&["iam", "assumeRole", "--role-id", role]);
    assert_eq!(assume.code, 4, "{assume:?}");
    let detach = [
        "iam",
        "detachRolePolicy",
        "--role-id",
        role,
        "--policy-id",
        &policy,
        "--yes",
    ];
    thread::scope(|scope| {
        let asking = scope.spawn(|| home.rolekeeper(&detach));
        let approval = pending_approval(&home)["id"].to_string();
        assert_eq!(home.rolekeeper(&["approve", &approval, "--deny"]).code, 0);
        assert_eq!(asking.join().unwrap().code, 4);
    });

    for args in [
        &["refresh", "open"][..],
        &["exec", "open", "--mode", "http", "--", "true"],
        &["sessions", "revoke", &id],
        &["resume", "open"],
        &["logout", "open"],
        &["logout", "--revoke"],
        &["unlock"],
        &["iam", "revokeSTSSession", "--session-id", &id, "--yes"],
    ] {
        home.rolekeeper(args);
    }

    // Reading the journal waits until it is written.
    assert_eq!(home.rolekeeper(&["journal"]).code, 0);
    let records = records(&home);
    let me = std::env::current_exe().unwrap();
    let commands: Vec<_> = records
        .iter()
        .filter(|record| record["type"] == "command")
        .map(|record| {
            assert_eq!(record["uid"], rustix::process::geteuid().as_raw());
            assert_eq!(
                text(&record["processes"][1], "program"),
                me.to_str().unwrap()
            );
            ["command", "profile", "target", "outcome"].map(|field| text(record, field))
        })
        .collect();
    let by_role = format!("role_id={role}");
    let by_session = format!("session_id={id}");
    assert_eq!(
        commands,
        [
            ["iam listPolicies", "", "", "ok"],
            ["iam assumeRole", "", &by_role, "not_allowed"],
            ["refresh", "open", "", "ok"],
            ["endpoint", "open", "", "ok"],
            ["sessions revoke", "", &id, "ok"],
            ["resume", "open", "", "ok"],
            ["logout", "open", "", "ok"],
            ["logout --revoke", "", "", "ok"],
            ["unlock", "", "", "ok"],
            ["iam revokeSTSSession", "", &by_session, "ok"],
        ]
    );

    let refused: Vec<_> = records
        .iter()
        .filter(|record| record["type"] == "refused")
        .collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(text(refused[0], "message").contains("requires approval: denied"));
    let asked = records
        .iter()
        .find(|record| record["type"] == "approval_requested")
        .unwrap();
    assert!(text(asked, "program").contains("to call detachRolePolicy (role_id="));
}
