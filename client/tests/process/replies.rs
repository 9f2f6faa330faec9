//! JSON that is well-formed and still cannot be represented: the exit code names the side that
//! caused it.

use std::io::Write;
use std::process::Stdio;

use super::fake_daemon::FakeDaemon;

/// Valid by the grammar of JSON, but not representable: too large, half a surrogate pair, too deep.
fn unrepresentable() -> [String; 4] {
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
    for answer in unrepresentable() {
        let daemon = FakeDaemon::answering(&answer);

        for (words, hint) in [
            (
                &["iam", "getRole", "--role-id", "r-1"][..],
                "report it to the upstream's administrator",
            ),
            (
                &["iam", "listRoles", "--all"],
                "report it to the upstream's administrator",
            ),
            (
                &["explain", "dev"],
                "report it to the upstream's administrator",
            ),
            (
                &["audit", "dev", "--json"],
                "report it to the upstream's administrator",
            ),
            (
                &["iam", "createGroup", "--name", "g"],
                "check with a list or get method",
            ),
        ] {
            let run = daemon.run(words);
            let stderr = String::from_utf8(run.stderr).unwrap();
            assert_eq!(
                (run.status.code(), run.stdout.len()),
                (Some(7), 0),
                "{words:?}: {stderr}"
            );
            assert!(
                stderr.contains("cannot show the upstream's reply: "),
                "{stderr}"
            );
            assert!(
                stderr.contains(" at line 1 column ") && stderr.contains("(upstream_unavailable)"),
                "{stderr}"
            );
            assert!(
                stderr.contains(&format!("\n  try: {hint}")) && !stderr.contains("restart"),
                "{stderr}"
            );
        }
    }
}

#[test]
fn broken_json_is_a_daemon_error_and_bad_page_an_upstream_one() {
    let broken = FakeDaemon::answering("{\"items\":").run(&["iam", "listRoles"]);
    let stderr = String::from_utf8(broken.stderr).unwrap();
    assert!(
        broken.status.code() == Some(1) && stderr.contains("restart rolekeeperd"),
        "{stderr}"
    );

    for page in [
        r#"{"roles":[]}"#,
        r#"{"items":{}}"#,
        r#"{"items":[],"next_marker":7}"#,
    ] {
        let run = FakeDaemon::answering(page).run(&["iam", "listRoles", "--all"]);
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert!(
            run.status.code() == Some(7)
                && stderr.contains("listRoles: unexpected response, not a list page"),
            "{stderr}"
        );
    }
}

#[test]
fn unrepresentable_document_is_a_usage_error() {
    let daemon = FakeDaemon::answering("{}");

    let file = daemon.home().join("policy.json");
    let at = format!("@{}", file.display());

    for document in unrepresentable() {
        // On the second line, so that the error's line number is that of the file.
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
            let stderr = String::from_utf8(run.stderr).unwrap();
            assert_eq!(run.status.code(), Some(2), "{stderr}");
            assert!(
                stderr.starts_with(&format!("rolekeeper: --document: {from} cannot be sent: ")),
                "{stderr}"
            );
            assert!(
                stderr.contains(" at line 2 column ")
                    && stderr.contains("(usage)\n  try: use numbers up to"),
                "{stderr}"
            );
        }
    }

    assert_eq!(daemon.requests(), 0);

    let deepest = format!("{}1{}", "{\"a\":".repeat(120), "}".repeat(120));
    assert!(
        daemon
            .run(&["iam", "createPolicy", "--name", "p", "--document", &deepest])
            .status
            .success()
    );
    assert_eq!(daemon.requests(), 1);
}
