//! No daemon is running: the client starts one, only one, and tells what keeps it from starting.

use std::process::Command;

use rolekeeper_tests::harness::{Home, world};
use serde_json::Value;

fn credential_process(home: &Home) -> Command {
    let mut command = home.client();
    command.args(["credential-process", "dev"]);
    command
}

/// Stops the daemon that a client started, and waits until it is gone.
fn stop(home: &Home) {
    let status = home.rolekeeper(&["status", "--json"]).json();
    let pid = i32::try_from(status["daemon"]["pid"].as_u64().unwrap()).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    rolekeeper_tests::harness::eventually("it has stopped", || {
        (!home.socket().exists()).then_some(())
    });
}

#[test]
fn twenty_tools_at_once_start_one_daemon_and_make_one_call() {
    let (sandbox, home) = world();
    let runs: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| home.run(credential_process(&home))))
            .collect();
        asking.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let keys: std::collections::BTreeSet<_> = runs
        .iter()
        .map(|run| run.json()["AccessKeyId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 1);
    assert_eq!(sandbox.calls("assumeRole"), 1);
    let log =
        std::fs::read_to_string(home.path().join("state/rolekeeper/rolekeeperd.log")).unwrap();
    assert_eq!(log.matches("serving").count(), 1, "{log}");
    stop(&home);
}

#[test]
fn a_daemon_that_a_client_started_leaves_its_session_and_its_output() {
    let (_sandbox, home) = world();
    // `finish` returns at the end of the output: a daemon that kept the pipes open would hold it.
    assert!(home.run(credential_process(&home)).json()["AccessKeyId"].is_string());
    let status = home.rolekeeper(&["status", "--json"]).json();
    let pid = i32::try_from(status["daemon"]["pid"].as_u64().unwrap()).unwrap();
    let session = rustix::process::getsid(rustix::process::Pid::from_raw(pid)).unwrap();
    assert_eq!(
        session.as_raw_nonzero().get(),
        pid,
        "it leads a session of its own"
    );
    #[cfg(target_os = "linux")]
    assert_eq!(
        std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(),
        std::path::Path::new("/")
    );
    stop(&home);
}

#[test]
fn whoever_waits_for_a_pipe_that_the_tool_inherited_does_not_wait_for_the_daemon() {
    let (_sandbox, home) = world();
    let mut command = home.command(std::path::Path::new("sh"));
    // A build's pipe, say: descriptor 9 is another name of the output, and survives in children.
    command
        .args(["-c", "exec \"$0\" credential-process dev 9>&1"])
        .arg(&rolekeeper_tests::harness::programs().rolekeeper);
    let (tell, told) = std::sync::mpsc::channel();
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut out, &mut text).unwrap();
        tell.send(text).unwrap();
    });
    let said = told
        .recv_timeout(std::time::Duration::from_secs(20))
        .expect("the output ends when the tool does");
    assert!(child.wait().unwrap().success() && said.contains("AccessKeyId"));
    stop(&home);
}

#[test]
fn relative_paths_are_those_of_the_folder_where_the_tool_was_run() {
    let (_sandbox, home) = world();
    let text = std::fs::read_to_string(home.config_path()).unwrap();
    let token = format!("{:?}", home.path().join("dev.token"));
    home.private_file("here.toml", &text.replace(&token, "\"dev.token\""));
    let mut command = home.client();
    command.args([
        "--socket",
        "run/rolekeeper/socket",
        "credential-process",
        "dev",
    ]);
    command
        .env("ROLEKEEPER_CONFIG", "here.toml")
        .current_dir(home.path());
    assert!(home.run(command).json()["AccessKeyId"].is_string());
    stop(&home);
}

#[test]
fn it_is_not_started_when_that_is_switched_off_and_never_by_status() {
    let home = Home::default();
    home.configure("");
    let off = home.rolekeeper(&["credential-process", "dev"]);
    let mut status = home.client();
    status.arg("status");
    for run in [off, home.run(status)] {
        assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{run:?}");
        assert!(
            run.stderr.contains("no daemon is running at ")
                && run.stderr.contains("(no_daemon)\n  try: "),
            "{run:?}"
        );
    }
}

#[test]
fn a_configuration_that_keeps_it_from_starting_is_told_in_the_daemons_own_words() {
    let home = Home::default();
    let run = home.run(credential_process(&home));
    assert_eq!(run.code, 2, "{run:?}");
    assert!(
        run.stderr
            .starts_with("rolekeeper: rolekeeperd cannot start: the configuration "),
        "{run:?}"
    );
    assert!(
        run.stderr
            .contains("does not exist (configuration)\n  try: write "),
        "{run:?}"
    );
    home.configure("[upstream.a]\nkind = \"bycloud\"\n");
    let run = home.run(credential_process(&home));
    assert!(
        run.code == 2
            && run
                .stderr
                .contains("config.toml:1:11: `upstream.a.endpoint` is missing"),
        "{run:?}"
    );
    assert!(
        !run.stderr.contains("does not exist"),
        "only this start's words: {run:?}"
    );
}

#[test]
fn a_program_that_is_not_installed_is_named() {
    let home = Home::default();
    home.configure("");
    let alone = home.copy_of(&rolekeeper_tests::harness::programs().rolekeeper);
    let mut command = home.command(&alone);
    command
        .env("PATH", "/nonexistent")
        .args(["credential-process", "dev"]);
    let run = home.run(command);
    assert!(
        run.code == 3 && run.stderr.contains("rolekeeperd cannot be started"),
        "{run:?}"
    );
    assert!(
        run.stderr.contains("install rolekeeperd beside rolekeeper"),
        "{run:?}"
    );
}

#[test]
fn a_crash_of_the_daemon_is_mended_by_the_next_tool_that_asks() {
    let (sandbox, home) = world();
    let mut daemon = home.daemon(&[]);
    let first: Value = home.run(credential_process(&home)).json();
    daemon.kill();
    let second = home.run(credential_process(&home)).json();
    assert_ne!(first["AccessKeyId"], second["AccessKeyId"]);
    assert_eq!(sandbox.calls("assumeRole"), 2);
    stop(&home);
}
