//! `exec`: signals that it sends to its command, and signals that it receives.

use std::io::Write;
use std::os::unix::net::UnixListener;

use rolekeeper_tests::harness::{Home, eventually, programs, world};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal};

use super::{ClientProcess, count_sigterm, exec, logout, stderr_of_clients};

#[test]
fn revocation_ends_children_of_the_command() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let mut running = ClientProcess::start(
        &home,
        &exec("term", &["sh", "-c", "echo ready; sleep 600; true"]),
    );
    running.line();
    logout(&home);
    assert!(running.rest().is_empty());
    assert_eq!(running.code(), Some(6));
}

#[test]
fn command_or_child_that_ignores_sigterm_is_killed() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let stubborn = [
        "trap '' TERM; echo ready; while :; do sleep 600; done",
        "(trap '' TERM; echo ready; exec sleep 600) & wait",
    ];
    let mut all =
        stubborn.map(|script| ClientProcess::start(&home, &exec("term", &["sh", "-c", script])));
    all.iter_mut()
        .for_each(|running| assert_eq!(running.line(), "ready"));
    logout(&home);

    for running in &mut all {
        assert!(running.rest().is_empty());
        assert_eq!(running.code(), Some(6));
    }
}

#[test]
fn full_stderr_does_not_keep_command_alive() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let (reader, mut full) = std::io::pipe().unwrap();
    fcntl_setfl(&full, OFlags::NONBLOCK).unwrap();

    while full.write(&[b'.'; 4096]).is_ok() {}

    fcntl_setfl(&full, OFlags::empty()).unwrap();
    let mut command = home.client();
    command
        .env("ROLEKEEPER_AUTOSTART", "0")
        .args(exec("term", &count_sigterm("2")))
        .stderr(full);
    let mut running = ClientProcess::spawn(&mut command);

    // Closes this process's copy of the full pipe.
    drop(command);
    assert_eq!(running.line(), "ready");

    logout(&home);
    assert_eq!(running.line(), "1");

    eventually("the command is killed", || {
        running.commands().is_empty().then_some(())
    });
    drop(reader);
    assert_eq!(running.code(), Some(6));
}

#[test]
fn sigterm_while_command_ends_prevents_its_restart() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let mut running = ClientProcess::start(&home, &exec("restart", &count_sigterm("2")));
    assert_eq!(running.line(), "ready");

    logout(&home);
    assert_eq!(running.line(), "1");

    running.signal(Signal::TERM);
    assert_eq!(
        (running.rest(), running.code()),
        (vec!["2".to_owned()], Some(7))
    );
}

#[test]
fn sigtstp_and_sigcont_apply_to_the_command() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let mut running = ClientProcess::start(
        &home,
        &exec("term", &["sh", "-c", "echo ready; exec sleep 600"]),
    );
    running.line();
    let processes = [running.commands()[0], running.pid()];

    for (signal, are_stopped) in [(Signal::TSTP, true), (Signal::CONT, false)] {
        running.signal(signal);

        eventually("client and command have changed their state", || {
            processes
                .iter()
                .all(|pid| is_stopped(*pid) == are_stopped)
                .then_some(())
        });
    }
}

fn is_stopped(pid: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().any(|line| line.starts_with("State:\tT"))
}

/// `exec --on-revoke restart` of a held profile, started by a shell after the commands in `first`.
fn start_waiting(home: &Home, first: &str) -> ClientProcess {
    let mut command = home.command("/bin/sh".as_ref());
    command
        .args(["-c", &format!("{first} exec \"$0\" \"$@\"")])
        .arg(&programs().rolekeeper);
    command
        .env("ROLEKEEPER_AUTOSTART", "0")
        .args(exec("restart", &["true"]));
    let before = stderr_of_clients(home).matches("waiting to start").count();
    let running = ClientProcess::start_by(home, command);
    eventually("the client waits for the hold to end", || {
        (stderr_of_clients(home).matches("waiting to start").count() > before).then_some(())
    });

    running
}

#[test]
fn signal_ends_waiting_exec_unless_ignored_at_start() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    std::fs::write(home.path().join("stderr"), "").unwrap();
    logout(&home);

    for (signal, code) in [(Signal::INT, 130), (Signal::HUP, 129), (Signal::TERM, 143)] {
        let mut running = start_waiting(&home, "");
        running.signal(signal);
        assert_eq!(running.code(), Some(code));
    }

    let mut running = start_waiting(&home, "trap '' HUP;");
    running.signal(Signal::HUP);
    running.signal(Signal::INT);
    assert_eq!(running.code(), Some(130));
}

#[test]
fn signal_ends_exec_while_daemon_is_silent() {
    let home = Home::default();
    home.create_socket_folder();
    let listener = UnixListener::bind(home.socket()).unwrap();
    let mut running = ClientProcess::start(&home, &exec("term", &["true"]));
    let _silent = listener.accept().unwrap();
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(143));

    // Otherwise the home, when dropped, would ask the silent daemon for its status.
    std::fs::remove_file(home.socket()).unwrap();
}
