//! What tools other than people run: what they are given, and what they are told when there is nothing to give.

use std::fs::File;
use std::io::{Seek, Write};
use std::process::{Command, Output, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use super::stand_in::StandIn;

const GIT: &str = "protocol=https\nhost=git.example.test\n\n";
const REJECTED: &str = "protocol=https\nhost=git.example.test\nusername=BYIA1\npassword=canary\n\n";

fn daemon() -> StandIn {
    StandIn::answering("BYIA1")
}

/// Gives it this much to read, and then nothing.
fn feed(mut command: Command, input: &str) -> Output {
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

fn texts(run: &Output) -> (&str, &str) {
    (
        str::from_utf8(&run.stdout).unwrap(),
        str::from_utf8(&run.stderr).unwrap(),
    )
}

fn json(run: &Output) -> Value {
    assert_eq!((run.status.code(), texts(run).1), (Some(0), ""));
    serde_json::from_slice(&run.stdout).unwrap()
}

#[test]
fn credential_process_ignores_standard_input() {
    let daemon = daemon();
    let words = ["credential-process", "dev"];
    let want = daemon.run(&words);
    assert_eq!((want.status.code(), texts(&want).1), (Some(0), ""));
    let text = texts(&want).0;
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
fn each_tool_gets_the_token_in_its_own_format() {
    let daemon = daemon();
    let v1 = "client.authentication.k8s.io/v1";
    let status = json!({ "token": "token", "expirationTimestamp": "2026-01-01T00:00:00Z" });
    let kube = json!({ "apiVersion": v1, "kind": "ExecCredential", "status": status });
    assert_eq!(json(&daemon.run(&["kube", "dev"])), kube);

    let docker = feed(
        daemon.client(&["docker-credential", "dev", "get"]),
        "registry.example.test",
    );
    assert_eq!(
        json(&docker),
        json!({ "ServerURL": "registry.example.test", "Username": "BYIA1", "Secret": "token" })
    );

    let git = feed(
        daemon.client(&["git-credential", "dev", "--username", "me", "get"]),
        GIT,
    );
    let want = "username=me\npassword=token\npassword_expiry_utc=1767225600\n";
    assert_eq!((git.status.code(), texts(&git)), (Some(0), (want, "")));

    let token = daemon.run(&["token", "dev"]);
    assert_eq!(
        (token.status.code(), texts(&token)),
        (Some(0), ("token\n", ""))
    );
    let want =
        json!({ "token": "token", "expires_at": "2026-01-01T00:00:00Z", "session_id": "s-1" });
    assert_eq!(json(&daemon.run(&["token", "dev", "--json"])), want);
}

#[test]
fn kube_answers_in_the_requested_version_for_named_clusters() {
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
    assert_eq!(daemon.asked(), 1);
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
        let (out, told) = texts(&run);
        assert_eq!((run.status.code(), out), (Some(code), ""), "{told}");
        assert!(told.contains(want) && !told.contains("canary"), "{told}");
    }
    assert_eq!(daemon.asked(), 1, "no session is asked for in vain");
}

#[test]
fn held_profile_is_reported_in_each_tools_format() {
    let daemon = daemon();
    let told = "rolekeeper: profile held is held (held)\n  try: rolekeeper resume held\n";
    for (words, input, code, out) in [
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
        let run = feed(daemon.client(words), input);
        assert_eq!(
            (run.status.code(), texts(&run)),
            (Some(code), (out, told)),
            "{words:?}"
        );
    }
}

#[test]
fn docker_helper_exits_with_0_or_1_and_stores_nothing() {
    let daemon = daemon();
    let login = r#"{"ServerURL":"registry.example.test","Username":"me","Secret":"canary"}"#;
    for (action, input, code, out) in [
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
        let run = feed(daemon.client(&words), input);
        let (said, told) = texts(&run);
        assert_eq!(
            (run.status.code(), said),
            (Some(code), out),
            "{action}: {told}"
        );
        let is_failure = code == 1 && !out.starts_with("credentials not found");
        assert!(
            told.is_empty() != is_failure && !told.contains("canary"),
            "{action}: {told}"
        );
    }
    assert_eq!(daemon.asked(), 0);
}

#[test]
fn git_erase_reports_the_rejected_password_silently() {
    let daemon = daemon();
    let reports = |words: &[&str], input: &str| {
        let before = daemon.asked();
        let run = feed(daemon.client(words), input);
        assert_eq!(
            (run.status.code(), texts(&run)),
            (Some(0), ("", "")),
            "{words:?}"
        );
        daemon.asked() - before
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
fn git_erase_does_not_start_a_daemon() {
    let daemon = daemon();
    let folder = daemon.home().join("nobody");
    let mut command = daemon.client(&["git-credential", "dev", "erase"]);
    command
        .env_remove("ROLEKEEPER_AUTOSTART")
        .env("ROLEKEEPER_SOCKET", folder.join("socket"));
    let run = feed(command, REJECTED);
    assert_eq!((run.status.code(), texts(&run)), (Some(0), ("", "")));
    assert!(
        !folder.exists(),
        "whoever starts a daemon makes its folder first"
    );
}
