//! Output that nobody reads or that cannot be written.

use std::fs::File;
use std::process::Stdio;

use super::stand_in::StandIn;

const ROLE: &str = r#"{"id":"r-1","name":"Reader","secret":"s"}"#;
/// Full whenever it is written to; only Linux has it.
const FULL: &str = "/dev/full";

/// A pipe without a reader.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    File::options().write(true).open(FULL).unwrap().into()
}

#[test]
fn reader_that_exits_early_is_not_an_error() {
    let daemon = StandIn::answering(ROLE);
    for line in [
        "--help",
        "--version",
        "iam --help",
        "status",
        "status --json",
        "iam getRole --role-id r-1",
        "credential-process dev",
        "completions bash",
    ] {
        let words: Vec<_> = line.split(' ').collect();
        let run = daemon.client(&words).stdout(unread()).output().unwrap();
        assert_eq!(
            (
                run.status.code(),
                String::from_utf8_lossy(&run.stderr).as_ref()
            ),
            (Some(0), ""),
            "{line}"
        );
    }
    let mut shell = daemon.client(&["--", "rolekeeper", "iam", "listR"]);
    let run = shell
        .env("ROLEKEEPER_COMPLETE", "fish")
        .stdout(unread())
        .output()
        .unwrap();
    assert_eq!((run.status.code(), run.stderr), (Some(0), vec![]));
}

#[test]
fn unwritable_standard_output_is_an_error() {
    let daemon = StandIn::answering(ROLE);
    for words in [
        &["status"][..],
        &["iam", "getRole", "--role-id", "r-1"],
        &["credential-process", "dev"],
    ] {
        let run = daemon.client(words).stdout(full()).output().unwrap();
        let told = String::from_utf8(run.stderr).unwrap();
        assert!(
            run.status.code() == Some(1) && told.contains("cannot write to standard output"),
            "{told}"
        );
    }
}

#[test]
fn unwritable_standard_error_changes_no_result() {
    let daemon = StandIn::answering(ROLE);
    let new_secret = [
        "iam",
        "createServiceAccountCredential",
        "--service-account-id",
        "a-1",
        "--name",
        "n",
    ];
    for (words, code) in [
        (&["--nonsense"][..], 2),
        (&["iam", "deleteRole", "--role-id", "r-1"], 2),
        (&["--socket", "/nonexistent/socket", "status"], 3),
        (&new_secret, 0),
    ] {
        for stderr in [full(), unread()] {
            let run = daemon.client(words).stderr(stderr).output().unwrap();
            assert_eq!(run.status.code(), Some(code), "{words:?}");
            assert_eq!(
                String::from_utf8(run.stdout).unwrap().contains("Reader"),
                code == 0,
                "{words:?}"
            );
        }
        let mut closed = daemon.command("/bin/sh");
        closed
            .args([
                "-c",
                "exec \"$0\" \"$@\" 2>&-",
                env!("CARGO_BIN_EXE_rolekeeper"),
            ])
            .args(words);
        assert_eq!(
            closed.output().unwrap().status.code(),
            Some(code),
            "{words:?}"
        );
    }
    let complete = || {
        let mut command = daemon.client(&["--", "rolekeeper", "iam"]);
        command.env("ROLEKEEPER_COMPLETE", "tcsh");
        command
    };
    assert!(
        String::from_utf8(complete().output().unwrap().stderr)
            .unwrap()
            .contains("unknown shell `tcsh`")
    );
    for stderr in [full(), unread()] {
        assert_eq!(complete().stderr(stderr).status().unwrap().code(), Some(0));
    }
}
