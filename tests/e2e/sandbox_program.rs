//! `rolekeeper-sandbox`: its ready line, signals and exit codes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn sandbox() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rolekeeper-sandbox"));
    command.arg("serve");

    command
}

fn run(arguments: &[&str]) -> Output {
    sandbox().args(arguments).output().unwrap()
}

#[cfg(unix)]
#[test]
fn one_ready_line_is_printed_and_signals_exit_with_0() {
    use rustix::process::{Pid, Signal, kill_process};

    for signal in [Signal::TERM, Signal::INT] {
        let mut child = sandbox().stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(lines.next().is_none(), "nothing but the ready line");
        assert!(
            ready["endpoint"]
                .as_str()
                .unwrap()
                .starts_with("http://127.0.0.1:")
        );
        assert_eq!(ready["tokens"]["admin"], ready["admin_token"]);
        assert!(ready["tokens"]["ci-cd-pipeline"].is_string());
        assert_eq!(ready["roles"].as_object().unwrap().len(), 4);
    }
}

#[test]
fn invalid_arguments_exit_with_2_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none").join("file");
    let missing = missing.to_str().unwrap();
    let table = [
        (["--listen", "0.0.0.0:0"], "not a loopback address"),
        (["--control", "0.0.0.0:0"], "not a loopback address"),
        (["--data", missing], missing),
        (["--fixture", missing], missing),
    ];

    for (arguments, expected) in table {
        let output = run(&arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.starts_with("rolekeeper-sandbox: ") && stderr.contains(expected),
            "{stderr}"
        );
        assert!(stderr.contains("\n  try: "), "{stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn address_in_use_exits_with_1() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = run(&["--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains(&address));
}
