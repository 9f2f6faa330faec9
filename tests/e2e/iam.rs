//! `rolekeeper iam`: its output, its confirmations, and the errors that it finds without the
//! upstream.

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, eventually, world};
use serde_json::{Value, json};

/// A home whose only upstream is the administrator's.
fn admin() -> (SandboxProcess, Home) {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
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
fn output_is_a_table_on_terminals_and_json_elsewhere() {
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
fn destructive_methods_ask_on_terminals_or_need_yes() {
    let (sandbox, home) = admin();
    let _daemon = home.daemon(&[]);

    let create_group = |name: &str| {
        let group = iam(&home, &["createGroup", "--name", name]).json();
        group["id"].as_str().unwrap().to_owned()
    };
    let group = create_group("one");
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

    let run = iam(
        &home,
        &["deleteGroup", "--group-id", &create_group("two"), "--yes"],
    );

    assert_eq!(
        (run.code, run.stdout.as_str(), run.stderr.as_str()),
        (0, "", "")
    );

    // Disabling an account revokes its sessions.
    let account = iam(&home, &["listServiceAccounts"]).json()["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();

    let set_enabled = |enabled| {
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

    assert_eq!((set_enabled("false"), set_enabled("true")), (2, 0));
}

#[test]
fn new_secret_is_printed_once_and_never_logged() {
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
fn documents_are_read_from_argument_file_or_stdin() {
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

    assert_eq!(
        sandbox.calls("createPolicy"),
        calls,
        "the upstream was not called"
    );

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
fn usage_errors_suggest_the_nearest_name() {
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
                .contains("`other` (unknown_upstream)\n  try: use --upstream with one of: sandbox")
    );

    let run = iam(&home, &["listRoles", "--profile", "admn"]);
    assert!(
        run.code == 2 && run.stderr.contains("(unknown_profile)\n  try: use `admin`"),
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
fn help_groups_methods_by_resource() {
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
fn long_replies_are_split_and_all_pages_are_followed() {
    let (sandbox, home) = admin();
    let _daemon = home.daemon(&[]);

    // Quotes and backslashes are escaped in a frame, which makes it longer.
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
fn change_without_reply_is_reported_as_uncertain() {
    let (sandbox, home) = admin();
    let _daemon = home.daemon(&[]);

    for (method, args, hint) in [
        (
            "createGroup",
            vec!["createGroup", "--name", "x"],
            "whether it took effect",
        ),
        ("listGroups", vec!["listGroups"], "try: retry in"),
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
        "the group was created"
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
fn change_cut_off_by_stop_is_reported_as_uncertain() {
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
            .contains("  try: check with a list or get method whether it took effect"),
        "{run:?}"
    );
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn revoked_session_of_profile_is_not_login_needed() {
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
        run.stderr
            .contains("  try: leave out --profile: that profile"),
        "{run:?}"
    );
}

#[test]
fn undocumented_refusals_are_shown() {
    let (sandbox, home) = admin();
    let _daemon = home.daemon(&[]);

    let fault = json!({
        "kind": "status",
        "status": 422,
        "code": "quota_exceeded",
        "message": "no more groups",
    });

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

    let fault = json!({ "kind": "huge", "bytes": 9_000_000 });
    sandbox.control(
        "POST",
        "/faults",
        Some(json!({ "method": "listGroups", "fault": fault, "times": 1 })),
    );

    let huge = iam(&home, &["listGroups"]);
    assert!(
        huge.code == 7 && huge.stderr.contains("try: use a smaller --limit"),
        "{huge:?}"
    );
}
