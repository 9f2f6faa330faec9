//! What commands that are watched over are sent, and what this program is sent itself.

use std::io::Write;
use std::os::unix::net::UnixListener;

use rolekeeper_tests::harness::{Home, eventually, programs, world};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal};

use super::{Running, exec, logout, said, told};

#[test]
fn what_a_command_has_started_ends_with_it() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let mut running = Running::start(
        &home,
        &exec("term", &["sh", "-c", "echo ready; sleep 600; true"]),
    );
    running.line();
    logout(&home);
    assert!(running.rest().is_empty());
    assert_eq!(running.code(), Some(6));
}

#[test]
fn who_does_not_end_when_told_to_is_killed_whether_the_command_or_what_it_has_started() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let stubborn = [
        "trap '' TERM; echo ready; while :; do sleep 600; done",
        "(trap '' TERM; echo ready; exec sleep 600) & wait",
    ];
    let mut all =
        stubborn.map(|script| Running::start(&home, &exec("term", &["sh", "-c", script])));
    all.iter_mut()
        .for_each(|running| assert_eq!(running.line(), "ready"));
    logout(&home);
    for running in &mut all {
        assert!(running.rest().is_empty());
        assert_eq!(running.code(), Some(6));
    }
}

#[test]
fn a_standard_error_that_nobody_reads_does_not_keep_a_command_alive() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let (reader, mut full) = std::io::pipe().unwrap();
    fcntl_setfl(&full, OFlags::NONBLOCK).unwrap();
    while full.write(&[b'.'; 4096]).is_ok() {}
    fcntl_setfl(&full, OFlags::empty()).unwrap();
    let mut command = home.client();
    command
        .env("ROLEKEEPER_AUTOSTART", "0")
        .args(exec("term", &told("2")))
        .stderr(full);
    let mut running = Running::telling(&mut command);
    // With it goes the test's own hold on that end of the pipe.
    drop(command);
    assert_eq!(running.line(), "ready");
    logout(&home);
    assert_eq!(running.line(), "1");
    eventually("it is killed", || {
        running.commands().is_empty().then_some(())
    });
    drop(reader);
    assert_eq!(running.code(), Some(6));
}

#[test]
fn who_ends_this_program_while_its_command_ends_does_not_find_the_command_started_again() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let mut running = Running::start(&home, &exec("restart", &told("2")));
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
fn a_command_is_stopped_and_goes_on_with_this_program() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let mut running = Running::start(
        &home,
        &exec("term", &["sh", "-c", "echo ready; exec sleep 600"]),
    );
    running.line();
    let both = [running.commands()[0], running.pid()];
    for (signal, are_stopped) in [(Signal::TSTP, true), (Signal::CONT, false)] {
        running.signal(signal);
        eventually("both have heard it", || {
            both.iter()
                .all(|pid| is_stopped(*pid) == are_stopped)
                .then_some(())
        });
    }
}

fn is_stopped(pid: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().any(|line| line.starts_with("State:\tT"))
}

/// A command that waits for a profile to be resumed, started by a shell after these words.
fn waiting(home: &Home, first: &str) -> Running {
    let mut command = home.command("/bin/sh".as_ref());
    command
        .args(["-c", &format!("{first} exec \"$0\" \"$@\"")])
        .arg(&programs().rolekeeper);
    command
        .env("ROLEKEEPER_AUTOSTART", "0")
        .args(exec("restart", &["true"]));
    let before = said(home).matches("waiting to start").count();
    let running = Running::by(home, command);
    eventually("it waits", || {
        (said(home).matches("waiting to start").count() > before).then_some(())
    });
    running
}

#[test]
fn a_signal_ends_this_program_while_it_waits_for_somebody_unless_it_was_started_to_ignore_it() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    std::fs::write(home.path().join("said"), "").unwrap();
    logout(&home);
    for (signal, code) in [(Signal::INT, 130), (Signal::HUP, 129), (Signal::TERM, 143)] {
        let mut running = waiting(&home, "");
        running.signal(signal);
        assert_eq!(running.code(), Some(code));
    }
    let mut running = waiting(&home, "trap '' HUP;");
    running.signal(Signal::HUP);
    running.signal(Signal::INT);
    assert_eq!(running.code(), Some(130));
}

#[test]
fn a_signal_ends_this_program_though_the_daemon_does_not_answer() {
    let home = Home::default();
    let folder = home.socket().parent().unwrap().to_owned();
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .create(folder)
        .unwrap();
    let listener = UnixListener::bind(home.socket()).unwrap();
    let mut running = Running::start(&home, &exec("term", &["true"]));
    let _silent = listener.accept().unwrap();
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(143));
    // Otherwise the home would ask it whether it is there.
    std::fs::remove_file(home.socket()).unwrap();
}
