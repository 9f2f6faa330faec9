//! JSON that is no value: whose fault it is, and that the exit code says so.

use std::io::Write;
use std::process::Stdio;

use super::stand_in::StandIn;

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
fn unsupported_reply_is_an_error_of_the_upstream() {
    for answer in unreadable() {
        let daemon = StandIn::answering(&answer);
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
            let told = String::from_utf8(run.stderr).unwrap();
            assert_eq!(
                (run.status.code(), run.stdout.len()),
                (Some(7), 0),
                "{words:?}: {told}"
            );
            assert!(
                told.contains("cannot show the upstream's reply: "),
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
fn invalid_json_is_the_daemons_error_and_invalid_page_the_upstreams() {
    let broken = StandIn::answering("{\"items\":").run(&["iam", "listRoles"]);
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
        let run = StandIn::answering(page).run(&["iam", "listRoles", "--all"]);
        let told = String::from_utf8(run.stderr).unwrap();
        assert!(
            run.status.code() == Some(7)
                && told.contains("listRoles: unexpected response, not a list page"),
            "{told}"
        );
    }
}

#[test]
fn unsupported_document_is_a_usage_error_with_its_position() {
    let daemon = StandIn::answering("{}");
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
                    && told.contains("(usage)\n  try: use numbers up to"),
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
