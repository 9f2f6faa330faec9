//! Autostart: if no daemon is running, the client starts exactly one, or reports why it cannot.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use rolekeeper_tests::harness::{Home, Run, eventually, programs, world};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn credential_process(home: &Home) -> Command {
    let mut command = home.client();
    command.args(["credential-process", "dev"]);

    command
}

fn daemon_pid(home: &Home) -> Pid {
    let status = home.rolekeeper(&["status", "--json"]).json();
    let pid = i32::try_from(status["daemon"]["pid"].as_u64().unwrap()).unwrap();

    Pid::from_raw(pid).unwrap()
}

/// Stops the daemon that a client started, and waits until it is gone.
fn stop(home: &Home) {
    kill_process(daemon_pid(home), Signal::TERM).unwrap();

    eventually("the daemon has stopped", || {
        (!home.socket().exists()).then_some(())
    });
}

#[test]
fn concurrent_clients_start_one_daemon_and_make_one_call() {
    let (sandbox, home) = world();

    let runs: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| home.run(credential_process(&home))))
            .collect();

        clients.into_iter().map(|run| run.join().unwrap()).collect()
    });

    let keys: std::collections::BTreeSet<_> = runs
        .iter()
        .map(|run| run.json()["AccessKeyId"].as_str().unwrap().to_owned())
        .collect();

    assert_eq!(keys.len(), 1);
    assert_eq!(sandbox.calls("assumeRole"), 1);

    let log = std::fs::read_to_string(home.state().join("rolekeeperd.log")).unwrap();
    assert_eq!(log.matches("serving").count(), 1, "{log}");

    stop(&home);
}

#[test]
fn started_daemon_detaches_from_terminal_and_output() {
    let (_sandbox, home) = world();

    // `finish` returns at the end of the output. A daemon that inherited the pipes would keep them
    // open.
    assert!(home.run(credential_process(&home)).json()["AccessKeyId"].is_string());

    let pid = daemon_pid(&home);
    let session = rustix::process::getsid(Some(pid)).unwrap();
    assert_eq!(session, pid, "the daemon leads its own session");

    stop(&home);
}

/// Only root can read the working folder of a hidden process.
#[test]
#[ignore = "needs root"]
fn started_daemon_leaves_the_folder_of_the_client() {
    let (_sandbox, home) = world();
    home.run(credential_process(&home)).json();

    let pid = daemon_pid(&home).as_raw_nonzero();
    let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(folder, std::path::Path::new("/"));

    stop(&home);
}

#[test]
fn started_daemon_closes_inherited_descriptors() {
    let (_sandbox, home) = world();
    let mut command = home.command(std::path::Path::new("sh"));

    // Descriptor 9 is a duplicate of the output and is inherited by children, as in a build script.
    command
        .args(["-c", "exec \"$0\" credential-process dev 9>&1"])
        .arg(&programs().rolekeeper);
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
        sender.send(text).unwrap();
    });

    let output = receiver
        .recv_timeout(std::time::Duration::from_secs(20))
        .expect("the output ends with the client");
    assert!(child.wait().unwrap().success() && output.contains("AccessKeyId"));

    stop(&home);
}

/// Starts the daemon in the background, as a person does.
fn start_in_background(home: &Home, args: &[&str]) -> Run {
    let mut command = home.command(&programs().rolekeeperd);
    command.arg("--detach").args(args).current_dir(home.path());

    home.run(command)
}

#[test]
fn relative_paths_resolve_in_folder_of_caller() {
    let (_sandbox, home) = world();
    let text = std::fs::read_to_string(home.config_path()).unwrap();
    let token = format!("{:?}", home.path().join("dev.token"));
    home.private_file("here.toml", &text.replace(&token, "\"dev.token\""));

    let started = start_in_background(&home, &["--config", "here.toml", "--socket", "s"]);
    assert_eq!(started.code, 0, "{started:?}");
    assert!(started.stdout.contains("\"ready\":true"), "{started:?}");

    let mut command = home.client();
    command
        .args(["--socket", "s", "credential-process", "dev"])
        .current_dir(home.path());
    assert!(home.run(command).json()["AccessKeyId"].is_string());

    let pid = started.json()["pid"].as_i64().unwrap();
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
}

#[test]
fn autostart_off_or_status_starts_no_daemon() {
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
fn client_shows_configuration_errors_of_the_daemon() {
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
        "only errors of the last start are shown: {run:?}"
    );
}

/// A program in a folder where others can write is not started, neither beside the client nor from `PATH`.
#[test]
fn program_that_others_can_replace_is_not_started() {
    let home = Home::default();
    home.configure("");
    let folder = |name: &str, mode: u32| {
        let path = home.path().join(name);
        fs::create_dir(&path).unwrap();
        let program = path.join("rolekeeperd");
        let ran = home.path().join("ran");
        fs::write(&program, format!("#!/bin/sh\necho > {}\n", ran.display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };

    let sticky = folder("sticky", 0o1777);
    let open = folder("open", 0o757);
    let private = folder("private", 0o755);
    let writable = Path::new(&private).join("rolekeeperd");
    fs::set_permissions(&writable, fs::Permissions::from_mode(0o757)).unwrap();
    let link = folder("link", 0o755);
    let linked = Path::new(&link).join("rolekeeperd");
    fs::remove_file(&linked).unwrap();
    symlink(Path::new(&sticky).join("rolekeeperd"), &linked).unwrap();
    let client = Path::new(&sticky).join("rolekeeper");
    fs::rename(home.copy_of(&programs().rolekeeper), &client).unwrap();

    let mut command = home.command(&client);
    command
        .current_dir(&private)
        .env("PATH", format!(".::private:{open}:{private}:{link}"))
        .args(["credential-process", "dev"]);
    let run = home.run(command);
    assert_eq!(run.code, 3, "{run:?}");
    for reason in [
        format!("{sticky}/rolekeeperd is ignored: other users can write {sticky} (mode 1777)"),
        format!("{open}/rolekeeperd is ignored: other users can write {open} (mode 0757)"),
        format!("{private}/rolekeeperd is ignored: other users can write {private}/rolekeeperd"),
        format!("{link}/rolekeeperd is ignored: other users can write {sticky}"),
    ] {
        assert!(run.stderr.contains(&reason), "{reason}: {run:?}");
    }
    assert!(!home.path().join("ran").exists());
}

/// Only root can give files to another user.
#[test]
#[ignore = "needs root"]
fn program_of_another_user_is_not_started() {
    let home = Home::default();
    home.configure("");
    let folder = home.path().join("bin");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.join("rolekeeperd");
    fs::copy("/bin/true", &program).unwrap();
    let client = home.copy_of(&programs().rolekeeper);

    for path in [&program, &folder] {
        chown(path, Some(65_534), Some(65_534)).unwrap();
        let mut command = home.command(&client);
        command
            .env("PATH", &folder)
            .args(["credential-process", "dev"]);
        let run = home.run(command);
        let reason = format!("is ignored: {} belongs to user 65534", path.display());
        assert!(run.code == 3 && run.stderr.contains(&reason), "{run:?}");
        chown(path, Some(0), Some(0)).unwrap();
    }
}

#[test]
fn missing_daemon_program_is_named() {
    let home = Home::default();
    home.configure("");
    let alone = home.copy_of(&programs().rolekeeper);
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
fn client_restarts_crashed_daemon() {
    let (sandbox, home) = world();
    let mut daemon = home.daemon(&[]);

    let first: Value = home.run(credential_process(&home)).json();
    daemon.kill();
    let second = home.run(credential_process(&home)).json();
    assert_ne!(first["AccessKeyId"], second["AccessKeyId"]);
    assert_eq!(sandbox.calls("assumeRole"), 2);

    stop(&home);
}

/// The log is beside the socket, then.
#[test]
fn unwritable_state_does_not_prevent_autostart() {
    let (_sandbox, home) = world();
    let state = home.path().join("state/rolekeeper");
    // A file instead of the state folder: not even root can write there.
    std::fs::write(&state, "").unwrap();

    let run = home.run(credential_process(&home));

    assert_eq!(run.code, 0, "{run:?}");
    let log = home.socket().with_file_name("rolekeeperd.log");
    assert!(std::fs::read_to_string(log).unwrap().contains("serving"));

    stop(&home);
}
