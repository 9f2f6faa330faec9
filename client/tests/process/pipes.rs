//! Closed pipes and full devices as output.

use std::fs::File;
use std::process::Stdio;

use super::fake_daemon::FakeDaemon;

const ROLE: &str = r#"{"id":"r-1","name":"Reader","secret":"s"}"#;
/// Every write fails with `ENOSPC`.
const FULL: &str = "/dev/full";

/// A pipe without a reader.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);

    writer.into()
}

fn full() -> Stdio {
    File::options().write(true).open(FULL).unwrap().into()
}

#[test]
fn closed_stdout_pipe_exits_with_0() {
    let daemon = FakeDaemon::answering(ROLE);

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
        let run = daemon
            .client(&words)
            .stdout(closed_pipe())
            .output()
            .unwrap();

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
        .stdout(closed_pipe())
        .output()
        .unwrap();

    assert_eq!((run.status.code(), run.stderr), (Some(0), vec![]));
}

#[test]
fn full_stdout_is_an_error() {
    let daemon = FakeDaemon::answering(ROLE);

    for words in [
        &["status"][..],
        &["iam", "getRole", "--role-id", "r-1"],
        &["credential-process", "dev"],
    ] {
        let run = daemon.client(words).stdout(full()).output().unwrap();
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert!(
            run.status.code() == Some(1) && stderr.contains("cannot write to standard output"),
            "{stderr}"
        );
    }
}

#[test]
fn unwritable_stderr_does_not_change_exit_code() {
    let daemon = FakeDaemon::answering(ROLE);

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
        for stderr in [full(), closed_pipe()] {
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

    for stderr in [full(), closed_pipe()] {
        assert_eq!(complete().stderr(stderr).status().unwrap().code(), Some(0));
    }
}
