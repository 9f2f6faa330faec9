//! Commands that other tools run: their output, and their errors in each tool's format.

use std::fs::File;
use std::io::{Seek, Write};
use std::process::{Command, Output, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use super::fake_daemon::FakeDaemon;

const GIT: &str = "protocol=https\nhost=git.example.test\n\n";
const REJECTED: &str = "protocol=https\nhost=git.example.test\nusername=BYIA1\npassword=canary\n\n";

fn daemon() -> FakeDaemon {
    FakeDaemon::answering("BYIA1")
}

/// Runs a command with this standard input.
fn run_with_input(mut command: Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();

    child.wait_with_output().unwrap()
}

fn output(run: &Output) -> (&str, &str) {
    (
        str::from_utf8(&run.stdout).unwrap(),
        str::from_utf8(&run.stderr).unwrap(),
    )
}

fn json(run: &Output) -> Value {
    assert_eq!((run.status.code(), output(run).1), (Some(0), ""));

    serde_json::from_slice(&run.stdout).unwrap()
}

#[test]
fn credential_process_ignores_stdin() {
    let daemon = daemon();

    let words = ["credential-process", "dev"];
    let want = daemon.run(&words);
    assert_eq!((want.status.code(), output(&want).1), (Some(0), ""));

    let text = output(&want).0;
    assert!(
        text.starts_with("{\"Version\":1,") && text.ends_with("\"}\n") && text.lines().count() == 1,
        "{text}"
    );

    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"not to be read")
        .and_then(|()| file.rewind())
        .unwrap();
    let (reader, _never_written) = std::io::pipe().unwrap();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).and_then(|()| unlockpt(&master)).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal =
        File::from(rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap());

    let inputs = [
        Stdio::null(),
        reader.into(),
        file.try_clone().unwrap().into(),
        terminal.into(),
    ];

    let mut runs: Vec<_> = inputs
        .map(|input| daemon.client(&words).stdin(input).output().unwrap())
        .into();
    let mut closed = daemon.command("/bin/sh");
    closed
        .args([
            "-c",
            "exec \"$0\" \"$@\" <&-",
            env!("CARGO_BIN_EXE_rolekeeper"),
        ])
        .args(words);

    runs.push(closed.output().unwrap());

    assert_eq!(runs, vec![want; 5]);
    assert_eq!(file.stream_position().unwrap(), 0);
}

#[test]
fn each_tool_gets_the_token_in_its_format() {
    let daemon = daemon();

    let v1 = "client.authentication.k8s.io/v1";
    let status = json!({ "token": "token", "expirationTimestamp": "2026-01-01T00:00:00Z" });
    let kube = json!({ "apiVersion": v1, "kind": "ExecCredential", "status": status });
    assert_eq!(json(&daemon.run(&["kube", "dev"])), kube);

    let docker = run_with_input(
        daemon.client(&["docker-credential", "dev", "get"]),
        "registry.example.test",
    );

    assert_eq!(
        json(&docker),
        json!({ "ServerURL": "registry.example.test", "Username": "BYIA1", "Secret": "token" })
    );

    let git = run_with_input(
        daemon.client(&["git-credential", "dev", "--username", "me", "get"]),
        GIT,
    );
    let want = "username=me\npassword=token\npassword_expiry_utc=1767225600\n";
    assert_eq!((git.status.code(), output(&git)), (Some(0), (want, "")));

    let token = daemon.run(&["token", "dev"]);
    assert_eq!(
        (token.status.code(), output(&token)),
        (Some(0), ("token\n", ""))
    );

    let want =
        json!({ "token": "token", "expires_at": "2026-01-01T00:00:00Z", "session_id": "s-1" });
    assert_eq!(json(&daemon.run(&["token", "dev", "--json"])), want);
}

#[test]
fn kube_uses_api_version_and_allowed_clusters_only() {
    let daemon = daemon();

    let run = |words: &[&str], info: &str| {
        daemon
            .client(words)
            .env("KUBERNETES_EXEC_INFO", info)
            .output()
            .unwrap()
    };

    let info = |server: &str| {
        let spec = json!({ "interactive": false, "cluster": { "server": server, "config": null } });
        let version = "client.authentication.k8s.io/v1beta1";

        json!({ "kind": "ExecCredential", "apiVersion": version, "spec": spec }).to_string() + "\n"
    };

    let guarded = [
        "kube",
        "dev",
        "--server",
        "https://a.test:6443",
        "--server",
        "https://b.test",
    ];

    let answer = json(&run(&guarded, &info("https://b.test:443/")));
    assert_eq!(answer["apiVersion"], "client.authentication.k8s.io/v1beta1");
    assert_eq!(daemon.requests(), 1);

    for (words, info, code, want) in [
        (
            &guarded[..],
            info("https://evil.test"),
            4,
            "profile dev is not allowed for the cluster https://evil.test (not_allowed)",
        ),
        (
            &guarded,
            String::new(),
            2,
            "try: set provideClusterInfo: true",
        ),
        (
            &["kube", "dev"],
            "{\"canary".into(),
            2,
            "KUBERNETES_EXEC_INFO is not an ExecCredential",
        ),
    ] {
        let run = run(words, &info);
        let (stdout, stderr) = output(&run);

        assert_eq!((run.status.code(), stdout), (Some(code), ""), "{stderr}");
        assert!(
            stderr.contains(want) && !stderr.contains("canary"),
            "{stderr}"
        );
    }

    assert_eq!(
        daemon.requests(),
        1,
        "the daemon is not asked for a cluster that is refused"
    );
}

#[test]
fn held_profile_is_reported_in_each_tools_format() {
    let daemon = daemon();

    let stderr = "rolekeeper: profile held is held (held)\n  try: rolekeeper resume held\n";

    for (words, input, code, expected) in [
        (&["credential-process", "held"][..], "", 6, ""),
        (&["kube", "held"], "", 6, ""),
        (&["token", "held"], "", 6, ""),
        (&["git-credential", "held", "get"], GIT, 6, "quit=1\n"),
        (
            &["docker-credential", "held", "get"],
            "registry.example.test",
            1,
            "profile held is held\n",
        ),
    ] {
        let run = run_with_input(daemon.client(words), input);
        assert_eq!(
            (run.status.code(), output(&run)),
            (Some(code), (expected, stderr)),
            "{words:?}"
        );
    }
}

#[test]
fn docker_helper_exits_with_0_or_1_and_stores_nothing() {
    let daemon = daemon();

    let login = r#"{"ServerURL":"registry.example.test","Username":"me","Secret":"canary"}"#;

    for (action, input, code, expected) in [
        ("get", "", 1, "no credentials server URL\n"),
        (
            "get",
            "other.example.test",
            1,
            "credentials not found in native keychain\n",
        ),
        (
            "store",
            login,
            1,
            "cannot store credentials: this helper returns those of profile dev\n",
        ),
        ("erase", "registry.example.test", 0, ""),
        ("list", "", 0, "{}\n"),
        (
            "version",
            "",
            0,
            concat!("rolekeeper ", env!("CARGO_PKG_VERSION"), "\n"),
        ),
        ("\u{1b}[2J", "", 1, "unknown action `\u{fffd}[2J`\n"),
    ] {
        let words = [
            "docker-credential",
            "dev",
            "--host",
            "registry.example.test",
            action,
        ];

        let run = run_with_input(daemon.client(&words), input);
        let (stdout, stderr) = output(&run);

        assert_eq!(
            (run.status.code(), stdout),
            (Some(code), expected),
            "{action}: {stderr}"
        );

        let is_failure = code == 1 && !expected.starts_with("credentials not found");
        assert!(
            stderr.is_empty() != is_failure && !stderr.contains("canary"),
            "{action}: {stderr}"
        );
    }

    assert_eq!(daemon.requests(), 0);
}

#[test]
fn git_erase_reports_rejected_password_silently() {
    let daemon = daemon();

    let reports = |words: &[&str], input: &str| {
        let before = daemon.requests();
        let run = run_with_input(daemon.client(words), input);
        assert_eq!(
            (run.status.code(), output(&run)),
            (Some(0), ("", "")),
            "{words:?}"
        );

        daemon.requests() - before
    };

    assert_eq!(reports(&["git-credential", "dev", "erase"], REJECTED), 1);
    assert_eq!(reports(&["git-credential", "dev", "erase"], GIT), 0);
    assert_eq!(
        reports(
            &["git-credential", "--host", "other.test", "dev", "erase"],
            REJECTED
        ),
        0
    );
    assert_eq!(reports(&["git-credential", "dev", "erase"], "canary"), 0);
    assert_eq!(reports(&["git-credential", "dev", "store"], REJECTED), 0);
    assert_eq!(reports(&["git-credential", "dev", "capability"], ""), 0);
}

#[test]
fn git_erase_starts_no_daemon() {
    let daemon = daemon();

    let folder = daemon.home().join("nobody");
    let mut command = daemon.client(&["git-credential", "dev", "erase"]);
    command
        .env_remove("ROLEKEEPER_AUTOSTART")
        .env("ROLEKEEPER_SOCKET", folder.join("socket"));
    let run = run_with_input(command, REJECTED);
    assert_eq!((run.status.code(), output(&run)), (Some(0), ("", "")));
    assert!(
        !folder.exists(),
        "starting a daemon would create this folder"
    );
}
