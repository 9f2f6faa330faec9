//! `rolekeeper iam`: what it prints on a terminal and elsewhere, what it asks, and what it refuses before it asks anybody.

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, eventually, world};
use serde_json::{Value, json};

/// A home whose only upstream is the administrator's.
fn admin() -> (SandboxProcess, Home) {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    home.configure_for(&sandbox, "admin", &[("admin", "NoTrust")]);
    (sandbox, home)
}

fn iam(home: &Home, args: &[&str]) -> Run {
    home.rolekeeper(&[&["iam"], args].concat())
}

fn terminal(home: &Home, args: &[&str], typed: &str) -> Run {
    let mut command = home.client();
    command.arg("iam").args(args);
    home.on_terminal(command, 120, typed)
}

#[test]
fn a_terminal_gets_a_table_and_everything_else_json() {
    let (_sandbox, home) = admin();
    let _daemon = home.daemon(&[]);
    let json = iam(&home, &["listRoles", "--name", "S3*"]).json();
    let names: Vec<_> = json["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|role| role["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["S3ReadOnly", "S3BucketAccess"]);
    let id = json["items"][0]["id"].as_str().unwrap();

    let table = terminal(&home, &["listRoles", "--name", "S3*"], "").stdout;
    let lines: Vec<_> = table.lines().collect();
    assert!(
        lines[0].starts_with("ID") && lines[0].contains("NAME") && lines[1].contains(id),
        "{table}"
    );
    assert!(
        lines.iter().all(|line| line.chars().count() <= 120),
        "{table}"
    );
    let paged = terminal(&home, &["listRoles", "--limit", "1"], "").stdout;
    assert!(
        paged.contains(&format!(
            "There are more items; use --all, or --marker {id}"
        )),
        "{paged}"
    );
    let one = terminal(&home, &["getRole", "--role-id", id], "").stdout;
    assert!(
        one.contains("name         S3ReadOnly") && one.contains("trust_policy\n{"),
        "{one}"
    );
    let shown: Value =
        serde_json::from_str(&terminal(&home, &["getRole", "--role-id", id, "--json"], "").stdout)
            .unwrap();
    assert_eq!(shown["name"], "S3ReadOnly");
}

#[test]
fn what_takes_something_away_is_asked_about_on_a_terminal_and_needs_yes_elsewhere() {
    let (sandbox, home) = admin();
    let _daemon = home.daemon(&[]);
    let make = |name: &str| {
        let group = iam(&home, &["createGroup", "--name", name]).json();
        group["id"].as_str().unwrap().to_owned()
    };
    let group = make("one");
    let run = iam(&home, &["deleteGroup", "--group-id", &group]);
    assert!(
        run.code == 2
            && run.stderr.contains(
                "no terminal to ask for confirmation (usage)\n  try: repeat the command with --yes"
            ),
        "{run:?}"
    );
    let no = terminal(&home, &["deleteGroup", "--group-id", &group], "n\n");
    assert!(
        no.code == 2 && no.stdout.contains("Continue? [y/N]") && no.stdout.contains(&group),
        "{no:?}"
    );
    let nothing = terminal(&home, &["deleteGroup", "--group-id", &group], "\n");
    assert_eq!((nothing.code, sandbox.calls("deleteGroup")), (2, 0));
    let yes = terminal(&home, &["deleteGroup", "--group-id", &group], "y\n");
    assert!(
        yes.code == 0 && yes.stdout.contains("deleteGroup: done"),
        "{yes:?}"
    );
    let run = iam(&home, &["deleteGroup", "--group-id", &make("two"), "--yes"]);
    assert_eq!(
        (run.code, run.stdout.as_str(), run.stderr.as_str()),
        (0, "", "")
    );
    // Disabling an account revokes its sessions.
    let account = iam(&home, &["listServiceAccounts"]).json()["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let set = |enabled| {
        iam(
            &home,
            &[
                "updateServiceAccount",
                "--service-account-id",
                &account,
                "--enabled",
                enabled,
            ],
        )
        .code
    };
    assert_eq!((set("false"), set("true")), (2, 0));
}

#[test]
fn a_new_secret_is_printed_once_with_a_warning_and_is_in_no_log() {
    let (_sandbox, home) = admin();
    let daemon = home.daemon(&["--log", "trace"]);
    let account = iam(&home, &["listServiceAccounts"]).json()["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let run = iam(
        &home,
        &[
            "createServiceAccountCredential",
            "--service-account-id",
            &account,
            "--name",
            "new",
        ],
    );
    assert_eq!(run.code, 0);
    assert!(
        run.stderr
            .starts_with("rolekeeper: shown only once, and not stored: secret;"),
        "{run:?}"
    );
    let secret = serde_json::from_str::<Value>(&run.stdout).unwrap()["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        !daemon.log().contains(&secret) && daemon.log().contains("createServiceAccountCredential")
    );
    let listed = iam(
        &home,
        &[
            "listServiceAccountCredentials",
            "--service-account-id",
            &account,
        ],
    );
    assert!(!listed.stdout.contains(&secret));
}

#[test]
fn documents_come_from_the_line_a_file_or_standard_input_and_bad_ones_are_told() {
    use std::io::Write;
    let (sandbox, home) = admin();
    let _daemon = home.daemon(&[]);
    let document =
        r#"{"version":"2024-01-01","statements":[{"effect":"allow","actions":["s3:*"]}]}"#;
    let file = home.private_file("policy.json", document);
    let at = format!("@{}", file.display());
    for (name, source) in [("inline", document), ("file", at.as_str())] {
        let made = iam(
            &home,
            &["createPolicy", "--name", name, "--document", source],
        )
        .json();
        assert_eq!(made["document"]["statements"][0]["actions"][0], "s3:*");
    }
    let mut command = home.client();
    command.args(["iam", "createPolicy", "--name", "piped", "--document", "-"]);
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(document.as_bytes())
        .unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    let calls = sandbox.calls("createPolicy");
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(60_000));
    for (source, want) in [
        ("{", "the JSON is not JSON"),
        ("[]", "the JSON is not a JSON object"),
        ("@/nonexistent", "/nonexistent cannot be read"),
        (long.as_str(), "longer than 49152 bytes"),
    ] {
        let run = iam(
            &home,
            &["createPolicy", "--name", "bad", "--document", source],
        );
        assert!(
            run.code == 2 && run.stderr.contains(want) && run.stderr.contains("--document: "),
            "{run:?}"
        );
    }
    assert_eq!(sandbox.calls("createPolicy"), calls, "nobody was asked");
    let wrong = iam(
        &home,
        &["createPolicy", "--name", "bad", "--document", "{}"],
    );
    assert!(
        wrong.code == 8 && wrong.stderr.contains("document: missing field"),
        "{wrong:?}"
    );
}

#[test]
fn wrong_words_are_told_with_the_nearest_right_one() {
    let (sandbox, home) = admin();
    let _daemon = home.daemon(&[]);
    for (args, want) in [
        (vec!["listRole"], "try: use `listRoles`, if you meant it"),
        (
            vec!["listRoles", "--nam", "x"],
            "try: use `--name`, if you meant it",
        ),
        (vec!["listRoles", "--limit", "0"], "0 is not in 1..=1000"),
        (vec!["getRole"], "--role-id <ID>"),
        (
            vec![],
            "a method is missing (usage)\n  try: run rolekeeper iam --help",
        ),
    ] {
        let run = iam(&home, &args);
        assert!(
            run.code == 2 && run.stderr.contains("(usage)") && run.stderr.contains(want),
            "{args:?}: {run:?}"
        );
    }
    let run = iam(&home, &["listRoles", "--upstream", "other"]);
    assert!(
        run.code == 2
            && run
                .stderr
                .contains("`other` (unknown_upstream)\n  try: --upstream with one of: sandbox")
    );
    let run = iam(&home, &["listRoles", "--profile", "admn"]);
    assert!(
        run.code == 2 && run.stderr.contains("(unknown_profile)\n  try: `admin`"),
        "{run:?}"
    );
    assert_eq!(sandbox.calls("listRoles"), 0);
    let missing = iam(
        &home,
        &[
            "getRole",
            "--role-id",
            "019aaaaa-0000-7000-8000-000000000000",
        ],
    );
    assert!(
        missing.code == 8
            && missing.stderr.contains("not_found")
            && missing.stderr.contains("the list methods")
    );
    let path = iam(&home, &["getRole", "--role-id", "../users"]);
    assert!(
        path.code == 8 && path.stderr.contains("role_id: it must be a UUID"),
        "{path:?}"
    );
}

#[test]
fn help_groups_the_sixty_by_resource_and_shows_a_methods_parameters() {
    let home = Home::default();
    let help = iam(&home, &["--help"]).stdout;
    let methods = rolekeeper::contract::methods().unwrap();
    for method in &methods {
        let line = format!("  {:31} {}", method.name, method.summary);
        assert_eq!(help.matches(&line).count(), 1, "{line}");
    }
    let headings: Vec<_> = help
        .lines()
        .filter(|line| line.ends_with(':') && !line.starts_with(' '))
        .collect();
    assert_eq!(
        headings,
        [
            "Sessions:",
            "Roles:",
            "Policies:",
            "Service accounts:",
            "Users:",
            "Groups:",
            "Invitations:",
            "Audit log:",
            "Options:"
        ]
    );
    for name in ["assumeRole", "assume-role"] {
        let help = iam(&home, &[name, "--help"]).stdout;
        assert!(
            help.contains("--role-id <ID>")
                && help.contains("900 (15 minutes) to 43200 (12 hours)"),
            "{help}"
        );
    }
}

#[test]
fn a_reply_longer_than_a_frame_comes_in_parts_and_pages_are_followed_to_the_end() {
    let (sandbox, home) = admin();
    let _daemon = home.daemon(&[]);
    // Quotes and backslashes are what grows in a frame.
    let description = "\"\\é".repeat(300);
    for number in 0..150 {
        let body = json!({ "name": format!("long{number:03}"), "description": description });
        assert_eq!(
            sandbox
                .api(sandbox.token("admin"), "POST", "/groups", Some(&body))
                .0,
            201
        );
    }
    let page = iam(&home, &["listGroups"]).json();
    assert_eq!(page["items"].as_array().unwrap().len(), 100);
    assert!(page.to_string().len() > 64 * 1024);
    let before = sandbox.calls("listGroups");
    let all = iam(&home, &["listGroups", "--all", "--limit", "40"]).json();
    let names: Vec<_> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        (names.len(), names[0], names[149]),
        (150, "long000", "long149")
    );
    assert!(
        all["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|group| group["description"] == *description)
    );
    assert_eq!(sandbox.calls("listGroups") - before, 4);
}

#[test]
fn an_upstream_that_does_not_answer_leaves_it_open_whether_a_change_took_effect() {
    let (sandbox, home) = admin();
    let _daemon = home.daemon(&[]);
    for (method, args, hint) in [
        (
            "createGroup",
            vec!["createGroup", "--name", "x"],
            "check with a list or get method",
        ),
        ("listGroups", vec!["listGroups"], "try: again in"),
    ] {
        let fault = json!({ "method": method, "fault": { "kind": "truncated" }, "times": 1 });
        sandbox.control("POST", "/faults", Some(fault));
        let run = iam(&home, &args);
        assert!(
            run.code == 7
                && run.stderr.contains("(upstream_unavailable)")
                && run.stderr.contains(hint),
            "{run:?}"
        );
    }
    assert_eq!(
        iam(&home, &["listGroups"]).json()["items"]
            .as_array()
            .unwrap()
            .len(),
        1,
        "it had"
    );
    home.private_file("admin.token", "byu_unknown");
    let run = iam(&home, &["listGroups"]);
    assert!(
        run.code == 5
            && run
                .stderr
                .contains("(login_needed)\n  try: put a new token"),
        "{run:?}"
    );
}

#[test]
fn a_change_under_way_when_the_daemon_stops_is_not_told_to_be_repeated() {
    let (sandbox, home) = admin();
    let mut daemon = home.daemon(&[]);
    let fault = json!({ "method": "createGroup", "fault": { "kind": "delay", "ms": 60_000 } });
    sandbox.control("POST", "/faults", Some(fault));
    let run = std::thread::scope(|scope| {
        let asking = scope.spawn(|| iam(&home, &["createGroup", "--name", "x"]));
        eventually("the call is under way", || {
            (sandbox.calls("createGroup") == 1).then_some(())
        });
        daemon.signal(rustix::process::Signal::TERM);
        asking.join().unwrap()
    });
    assert!(
        run.code == 7 && run.stderr.contains("rolekeeperd is stopping"),
        "{run:?}"
    );
    assert!(
        run.stderr
            .contains("  try: check with a list or get method"),
        "{run:?}"
    );
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn a_profiles_session_that_no_longer_counts_is_not_taken_for_a_bad_token() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let list = || iam(&home, &["listRoles", "--profile", "dev"]);
    assert_eq!(list().code, 0);
    let session =
        home.rolekeeper(&["status", "--json"]).json()["profiles"][0]["session"]["id"].clone();
    let path = format!("/sts/sessions/{}", session.as_str().unwrap());
    assert_eq!(
        sandbox.api(sandbox.token("admin"), "DELETE", &path, None).0,
        204
    );
    let run = list();
    assert!(
        run.code == 8 && run.stderr.contains("session_revoked"),
        "{run:?}"
    );
    assert!(
        run.stderr.contains("  try: without --profile dev"),
        "{run:?}"
    );
}

#[test]
fn a_refusal_that_is_not_documented_is_an_answer_all_the_same() {
    let (sandbox, home) = admin();
    let _daemon = home.daemon(&[]);
    let fault = json!({ "kind": "status", "status": 422, "code": "quota_exceeded", "message": "no more groups" });
    sandbox.control(
        "POST",
        "/faults",
        Some(json!({ "method": "createGroup", "fault": fault, "times": 1 })),
    );
    let run = iam(&home, &["createGroup", "--name", "x"]);
    assert!(
        run.code == 8 && run.stderr.contains("no more groups (quota_exceeded"),
        "{run:?}"
    );
    let empty = iam(&home, &["getGroup", "--group-id", ""]);
    assert!(
        empty.code == 2 && empty.stderr.contains("group_id is not an id (usage)"),
        "{empty:?}"
    );
    let huge = json!({ "method": "listGroups", "fault": { "kind": "huge", "bytes": 9_000_000 }, "times": 1 });
    sandbox.control("POST", "/faults", Some(huge));
    let huge = iam(&home, &["listGroups"]);
    assert!(
        huge.code == 7 && huge.stderr.contains("try: a smaller --limit"),
        "{huge:?}"
    );
}
