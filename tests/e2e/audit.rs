//! `rolekeeper audit PROFILE`: for each call that a profile's sessions made, the programs here that may have made it.

use std::os::unix::fs::PermissionsExt;

use rolekeeper_tests::harness::{Home, SandboxProcess, programs};
use serde_json::{Value, json};

/// Two profiles of a developer who may read the audit log.
fn world() -> (SandboxProcess, Home) {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    home.configure_for(
        &sandbox,
        "dev",
        &[("dev", "S3ReadOnly"), ("other", "S3BucketAccess")],
    );
    (sandbox, home)
}

fn lease(home: &Home, profile: &str) -> String {
    home.rolekeeper(&["credential-process", profile]).json()["SessionToken"]
        .as_str()
        .unwrap()
        .into()
}

fn audit(home: &Home) -> Value {
    home.rolekeeper(&["audit", "dev", "--json"]).json()
}

/// The pids of the processes that may have made a call.
fn suspects(audit: &Value, call: usize) -> Vec<u64> {
    let indices = audit["calls"][call]["holders"].as_array().unwrap();
    let holder =
        |index: &Value| &audit["holders"][usize::try_from(index.as_u64().unwrap()).unwrap()];
    indices
        .iter()
        .map(|index| holder(index)["processes"][0]["pid"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_call_names_the_programs_that_had_the_credentials_then() {
    let (sandbox, home) = world();
    let daemon = home.daemon(&[]);
    let token = lease(&home, "dev");
    // By a shell, so that there is a parent of another name.
    let mut shell = home.command(std::path::Path::new("/bin/sh"));
    shell.arg("-c").arg(format!(
        "'{}' credential-process dev; exit $?",
        programs().rolekeeper.display()
    ));
    assert_eq!(home.run(shell).code, 0);
    assert_eq!(sandbox.api(&token, "GET", "/users", None).0, 403);
    // Somebody else's session is no business of this profile's.
    let other = lease(&home, "other");
    sandbox.api(&other, "GET", "/roles", None);
    // A call from before anybody here had the credentials.
    sandbox.control("POST", "/clock", Some(json!({ "advance_seconds": -60 })));
    assert_eq!(sandbox.api(&token, "GET", "/roles", None).0, 200);

    let seen = audit(&home);
    let calls = seen["calls"].as_array().unwrap();
    let actions: Vec<_> = calls
        .iter()
        .map(|call| {
            (
                call["action"].as_str().unwrap(),
                call["status"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        actions,
        [("iam.listRoles", "success"), ("iam.listUsers", "denied")]
    );
    assert_eq!(
        (suspects(&seen, 0).len(), suspects(&seen, 1).len()),
        (0, 2),
        "{seen}"
    );
    let by_shell = &seen["holders"][1]["processes"];
    assert!(
        by_shell[0]["program"]
            .as_str()
            .unwrap()
            .ends_with("/rolekeeper"),
        "{by_shell}"
    );
    assert!(
        by_shell[1]["program"].as_str().unwrap().contains("sh"),
        "{by_shell}"
    );
    assert!(
        !seen.to_string().contains("credential-process"),
        "arguments are not kept"
    );

    let prose = home.rolekeeper(&["audit", "dev"]).stdout;
    assert!(
        prose.starts_with("profile dev: 2 calls since ")
            && prose.contains("iam.listUsers user  denied"),
        "{prose}"
    );
    let nothing = home.rolekeeper(&["audit", "dev", "--since", "0s"]);
    assert!(
        nothing.stdout.starts_with("profile dev: 0 calls since "),
        "{nothing:?}"
    );
    let wrong = home.rolekeeper(&["audit", "dev", "--since", "yesterday"]);
    assert!(
        wrong.code == 2 && wrong.stderr.contains("invalid time span `yesterday`"),
        "{wrong:?}"
    );

    // The record outlives the daemon, and only its user reads it.
    assert_eq!(daemon.stop(), 0);
    let file = home.journal();
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let mut text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 3);
    text.push_str("half a li");
    std::fs::write(&file, text).unwrap();
    let _daemon = home.daemon(&[]);
    let again = audit(&home);
    assert_eq!(
        (&again["calls"], &again["holders"]),
        (&seen["calls"], &seen["holders"])
    );
    assert_eq!(
        std::fs::read_to_string(&file).unwrap().lines().count(),
        4,
        "the broken line stays where it is"
    );
    assert_eq!(again["journal_since"], again["holders"][0]["at"]);
}

#[test]
fn a_held_connection_is_one_holder() {
    use rolekeeper::frame;
    use std::io::Write;
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let mut stream = std::os::unix::net::UnixStream::connect(home.socket()).unwrap();
    let ask =
        frame::encode(&json!({ "v": 1, "request": { "lease": { "profile": "dev" } } })).unwrap();
    let mut token = String::new();
    for _ in 0..3 {
        stream.write_all(&ask).unwrap();
        let reply: Value = serde_json::from_slice(&frame::read(&mut stream).unwrap()).unwrap();
        token = reply["reply"]["lease"]["session_token"]
            .as_str()
            .unwrap()
            .into();
        home.secret(&token);
    }
    sandbox.api(&token, "GET", "/roles", None);
    let seen = audit(&home);
    assert_eq!(suspects(&seen, 0), [u64::from(std::process::id())]);

    let record = home.journal();
    assert_eq!(
        std::fs::read_to_string(record).unwrap().lines().count(),
        1,
        "a connection is noted once a session"
    );
}

#[test]
fn who_may_not_read_the_audit_log_is_told_so() {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    home.configure_for(&sandbox, "ci-cd-pipeline", &[("dev", "S3ReadOnly")]);
    let _daemon = home.daemon(&[]);
    let empty = audit(&home);
    assert_eq!(
        (&empty["calls"], &empty["holders"]),
        (&json!([]), &json!([])),
        "no session, nothing to look for"
    );
    lease(&home, "dev");
    // The fixture's pipeline may list everything; this takes the log from it.
    let admin = sandbox.token("admin");
    let document = json!({ "version": "2024-01-01", "statements": [{ "effect": "deny", "actions": ["iam:ListAuditLogs"] }] });
    let (_, policy) = sandbox.api(
        admin,
        "POST",
        "/policies",
        Some(&json!({ "name": "NoAudit", "document": document })),
    );
    let (_, accounts) = sandbox.api(admin, "GET", "/service-accounts", None);
    let path = format!(
        "/service-accounts/{}/policies",
        accounts["items"][0]["id"].as_str().unwrap()
    );
    sandbox.api(
        admin,
        "POST",
        &path,
        Some(&json!({ "policy_id": policy["id"] })),
    );
    let run = home.rolekeeper(&["audit", "dev"]);
    assert!(
        run.code == 8
            && run.stderr.contains("access_denied")
            && run.stderr.contains("  try: an administrator"),
        "{run:?}"
    );
}

#[test]
fn a_call_that_the_daemon_made_for_somebody_is_that_ones_alone() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    lease(&home, "dev");
    assert_eq!(
        home.rolekeeper(&["iam", "listRoles", "--profile", "dev"])
            .code,
        0
    );
    let seen = audit(&home);
    assert_eq!(seen["calls"][0]["holders"], json!([1]), "{seen}");
    assert_eq!(
        seen["holders"][1]["request_id"],
        seen["calls"][0]["request_id"]
    );
    assert!(seen["holders"][0]["request_id"].is_null());
    let prose = home.rolekeeper(&["audit", "dev"]).stdout;
    assert!(prose.contains(", by rolekeeper iam\n"), "{prose}");
}
