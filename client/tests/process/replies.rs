//! JSON that is no value: whose fault it is, and that the exit code says so.

use std::io::Write;
use std::process::Stdio;

use super::fake_daemon::FakeDaemon;

/// JSON by its grammar, and no value.
fn unreadable() -> [String; 4] {
    let deep = format!("{{\"items\":{}{}}}", "[".repeat(200), "]".repeat(200));
    [
        r#"{"a":1e400}"#.into(),
        r#"{"a":"\ud800"}"#.into(),
        r#"{"a":"\udc00 "}"#.into(),
        deep,
    ]
}

#[test]
fn unrepresentable_reply_is_an_upstream_error() {
    for answer in unreadable() {
        let daemon = FakeDaemon::answering(&answer);

        for (words, hint) in [
            (
                &["iam", "getRole", "--role-id", "r-1"][..],
                "tell whoever runs the upstream",
            ),
            (
                &["iam", "listRoles", "--all"],
                "tell whoever runs the upstream",
            ),
            (&["explain", "dev"], "tell whoever runs the upstream"),
            (
                &["audit", "dev", "--json"],
                "tell whoever runs the upstream",
            ),
            (
                &["iam", "createGroup", "--name", "g"],
                "see whether it took effect",
            ),
        ] {
            let run = daemon.run(words);
            let told = String::from_utf8(run.stderr).unwrap();
            assert_eq!(
                (run.status.code(), run.stdout.len()),
                (Some(7), 0),
                "{words:?}: {told}"
            );
            assert!(
                told.contains("what the upstream answered cannot be shown: "),
                "{told}"
            );
            assert!(
                told.contains(" at line 1 column ") && told.contains("(upstream_unavailable)"),
                "{told}"
            );
            assert!(
                told.contains(&format!("\n  try: {hint}")) && !told.contains("restart"),
                "{told}"
            );
        }
    }
}

#[test]
fn broken_json_is_a_daemon_error_and_bad_page_an_upstream_one() {
    let broken = FakeDaemon::answering("{\"items\":").run(&["iam", "listRoles"]);
    let told = String::from_utf8(broken.stderr).unwrap();
    assert!(
        broken.status.code() == Some(1) && told.contains("restart rolekeeperd"),
        "{told}"
    );

    for page in [
        r#"{"roles":[]}"#,
        r#"{"items":{}}"#,
        r#"{"items":[],"next_marker":7}"#,
    ] {
        let run = FakeDaemon::answering(page).run(&["iam", "listRoles", "--all"]);
        let told = String::from_utf8(run.stderr).unwrap();
        assert!(
            run.status.code() == Some(7)
                && told.contains("listRoles: what the upstream answered is no page"),
            "{told}"
        );
    }
}

#[test]
fn unrepresentable_document_is_a_usage_error() {
    let daemon = FakeDaemon::answering("{}");

    let file = daemon.home().join("policy.json");
    let at = format!("@{}", file.display());

    for document in unreadable() {
        // On a line of its own, so that the place is one in the file.
        std::fs::write(&file, format!("\n{document}\n")).unwrap();
        let words = ["iam", "createPolicy", "--name", "p", "--document"];
        let from_file = daemon.client(&words).arg(&at).output().unwrap();

        let mut child = daemon
            .client(&words)
            .arg("-")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();

        child
            .stdin
            .take()
            .unwrap()
            .write_all(format!("\n{document}").as_bytes())
            .unwrap();

        let from_pipe = child.wait_with_output().unwrap();

        for (run, from) in [
            (from_file, file.to_str().unwrap()),
            (from_pipe, "standard input"),
        ] {
            let told = String::from_utf8(run.stderr).unwrap();
            assert_eq!(run.status.code(), Some(2), "{told}");
            assert!(
                told.starts_with(&format!("rolekeeper: --document: {from} cannot be sent: ")),
                "{told}"
            );
            assert!(
                told.contains(" at line 2 column ")
                    && told.contains("(usage)\n  try: mend it there"),
                "{told}"
            );
        }
    }

    assert_eq!(daemon.asked(), 0);

    let deepest = format!("{}1{}", "{\"a\":".repeat(120), "}".repeat(120));
    assert!(
        daemon
            .run(&["iam", "createPolicy", "--name", "p", "--document", &deepest])
            .status
            .success()
    );
    assert_eq!(daemon.asked(), 1);
}
