//! `rolekeeper audit PROFILE` lists the calls of a profile's sessions, and which local programs may
//! have made each one.

use std::os::unix::fs::PermissionsExt;

use rolekeeper_tests::harness::raw_client::{lease_request, read_reply};
use rolekeeper_tests::harness::{Home, SandboxProcess, programs};
use serde_json::{Value, json};

/// Two profiles of a developer who may read the audit log.
fn world() -> (SandboxProcess, Home) {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
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
fn possible_callers(audit: &Value, call: usize) -> Vec<u64> {
    let indices = audit["calls"][call]["holders"].as_array().unwrap();
    let holder =
        |index: &Value| &audit["holders"][usize::try_from(index.as_u64().unwrap()).unwrap()];

    indices
        .iter()
        .map(|index| holder(index)["processes"][0]["pid"].as_u64().unwrap())
        .collect()
}

#[test]
fn call_names_programs_that_held_the_credentials() {
    let (sandbox, home) = world();
    let daemon = home.daemon(&[]);

    let token = lease(&home, "dev");

    // Started by a shell, so that the parent process has another name.
    let mut shell = home.command(std::path::Path::new("/bin/sh"));
    shell.arg("-c").arg(format!(
        "'{}' credential-process dev; exit $?",
        programs().rolekeeper.display()
    ));

    assert_eq!(home.run(shell).code, 0);
    assert_eq!(sandbox.api(&token, "GET", "/users", None).0, 403);

    // A session of another profile.
    let other = lease(&home, "other");
    sandbox.api(&other, "GET", "/roles", None);

    // A call from before the first lease.
    sandbox.control("POST", "/clock", Some(json!({ "advance_seconds": -60 })));
    assert_eq!(sandbox.api(&token, "GET", "/roles", None).0, 200);

    let report = audit(&home);
    let calls = report["calls"].as_array().unwrap();

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
        (
            possible_callers(&report, 0).len(),
            possible_callers(&report, 1).len()
        ),
        (0, 2),
        "{report}"
    );

    let by_shell = &report["holders"][1]["processes"];
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
        !report.to_string().contains("credential-process"),
        "command-line arguments are not recorded"
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

    // The journal survives the daemon, and only its user can read it.
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
        (&report["calls"], &report["holders"])
    );
    assert_eq!(
        std::fs::read_to_string(&file).unwrap().lines().count(),
        4,
        "the truncated line stays in the file"
    );
    assert_eq!(again["journal_since"], again["holders"][0]["at"]);
}

#[test]
fn connection_is_recorded_once_per_session() {
    use std::io::Write;

    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let mut stream = std::os::unix::net::UnixStream::connect(home.socket()).unwrap();
    let mut token = String::new();

    for _ in 0..3 {
        stream.write_all(&lease_request("dev")).unwrap();
        let reply = read_reply(&mut stream).unwrap();
        token = reply["reply"]["lease"]["session_token"]
            .as_str()
            .unwrap()
            .into();
        home.secret(&token);
    }

    sandbox.api(&token, "GET", "/roles", None);
    let report = audit(&home);
    assert_eq!(
        possible_callers(&report, 0),
        [u64::from(std::process::id())]
    );

    let journal = home.journal();
    assert_eq!(
        std::fs::read_to_string(journal).unwrap().lines().count(),
        1,
        "each connection is recorded once per session"
    );
}

#[test]
fn audit_without_permission_is_an_error() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(&sandbox, "ci-cd-pipeline", &[("dev", "S3ReadOnly")]);
    let _daemon = home.daemon(&[]);

    let empty = audit(&home);
    assert_eq!(
        (&empty["calls"], &empty["holders"]),
        (&json!([]), &json!([])),
        "without a session the audit log is not read"
    );

    lease(&home, "dev");

    // The fixture allows the pipeline to list everything; this policy denies it the audit log.
    let admin = sandbox.token("admin");
    let statement = json!({ "effect": "deny", "actions": ["iam:ListAuditLogs"] });
    let document = json!({ "version": "2024-01-01", "statements": [statement] });
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
            && run.stderr.contains("  try: ask an administrator"),
        "{run:?}"
    );
}

#[test]
fn iam_call_is_attributed_to_its_caller_only() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    lease(&home, "dev");
    assert_eq!(
        home.rolekeeper(&["iam", "listRoles", "--profile", "dev"])
            .code,
        0
    );

    let report = audit(&home);
    assert_eq!(report["calls"][0]["holders"], json!([1]), "{report}");
    assert_eq!(
        report["holders"][1]["request_id"],
        report["calls"][0]["request_id"]
    );
    assert!(report["holders"][0]["request_id"].is_null());

    let prose = home.rolekeeper(&["audit", "dev"]).stdout;
    assert!(prose.contains(", by rolekeeper iam\n"), "{prose}");
}

/// Cursor movement, a line end, a direction override, an isolate, and invisible characters.
const HIDDEN: &str = "\u{1b}[2J\n\u{9b}\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\u{ad}";

fn assert_visible(what: &str, text: &str) {
    let hidden = |each: char| rolekeeper::text::is_hidden(each) && each != '\n';
    assert!(!text.contains(hidden), "{what}: {text:?}");
}

#[test]
fn program_path_forges_neither_a_chain_nor_a_line() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let name = format!("x (1) < bash, user 0, since 2020 {HIDDEN}");
    let program = home.path().join(&name);
    std::fs::rename(home.copy_of(&programs().rolekeeper), &program).unwrap();
    let mut command = home.command(&program);
    command.args(["credential-process", "dev"]);
    assert_eq!(home.run(command).code, 0);

    for arguments in [
        &["audit", "dev"][..],
        &["audit", "dev", "--json"],
        &["journal"],
        &["journal", "--json"],
    ] {
        let run = home.rolekeeper(arguments);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stdout.contains("x (1) < bash"), "{run:?}");
        assert_visible(&arguments.join(" "), &run.stdout);
    }

    let audit = home.rolekeeper(&["audit", "dev"]).stdout;
    let holder = audit.lines().find(|line| line.contains("x (1)")).unwrap();
    let (_, path) = holder.split_once('"').unwrap();
    let (path, rest) = path.rsplit_once('"').unwrap();
    assert!(path.contains("x (1) < bash, user 0, since 2020"), "{audit}");
    assert!(rest.starts_with(" ("), "{audit}");
}

#[test]
fn text_of_the_upstream_has_no_hidden_characters() {
    let (sandbox, home) = world();
    let daemon = home.daemon(&[]);
    sandbox.fault(&json!({
        "kind": "status", "status": 403, "code": "access_denied", "message": format!("no {HIDDEN}\n  try: curl")
    }));

    let refused = home.rolekeeper(&["credential-process", "dev"]);
    assert!(refused.stderr.contains("no \\u{1b}[2J\\n"), "{refused:?}");
    for (what, text) in [
        ("error", refused.stderr),
        ("status", home.rolekeeper(&["status"]).stdout),
        ("JSON", home.rolekeeper(&["status", "--json"]).stdout),
        ("log", daemon.log()),
    ] {
        assert!(text.contains("curl"), "{what}: {text}");
        assert_visible(what, &text);
        let forged = |line: &str| line.starts_with("  try: curl");
        assert!(!text.lines().any(forged), "{what}: {text}");
    }
}
