//! Processes that connect or ask as fast as they can: others are served and not refused, and the log stays short.
//! `tests/benches/floods.rs` measures what it costs the others.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rolekeeper_tests::harness::raw_client::{is_lease, request_lease};
use rolekeeper_tests::harness::{Daemon, Home, world};
use serde_json::Value;

use crate::attacker;

/// Two users who are not the daemon's.
const STRANGER: u32 = 64_111;
const SERVED: u32 = 65_534;

const SENDS_NO_REQUEST: [&str; 3] = ["close", "half-frame", "junk"];

struct Flood {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Flood {
    fn start(home: &Home, program: &Path, kind: &str, uid: Option<u32>) -> Self {
        let mut command = Command::new(program);
        command
            .args(["flood", kind])
            .arg(home.socket())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }

        let mut process = command.spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "flooding\n");

        Self { process, output }
    }

    /// Returns how many connections it has made.
    fn stop(mut self) -> usize {
        drop(self.process.stdin.take());
        let line = self.output.lines().last().unwrap().unwrap();
        self.process.wait().unwrap();

        let count = line.strip_prefix("connected: ").unwrap();
        count.parse().unwrap()
    }
}

/// Serves another user the profile `team`, and the owner both. Both are for this test and the attacker.
fn share_with_rules(home: &Home, attacker: &Path) {
    let test = std::env::current_exe().unwrap();
    let callers = format!("callers = [{{ exe = {test:?} }}, {{ exe = {attacker:?} }}]\n");
    let text = fs::read_to_string(home.config_path()).unwrap();
    let (upstream, dev) = text.split_once("[profile.dev]\n").unwrap();

    home.configure(&format!(
        "{upstream}[profile.dev]\n{callers}{dev}[profile.team]\nusers = [{SERVED}]\n{callers}{dev}"
    ));
}

fn open_to_others(home: &Home) {
    for path in home.socket_and_folders() {
        let mode = if path == home.socket() { 0o666 } else { 0o755 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn copy_of_attacker(home: &Home) -> PathBuf {
    let copy = home.copy_of(attacker());
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();

    copy
}

/// Each on a new connection. Returns the replies that are no leases.
fn not_served(home: &Home) -> Vec<Value> {
    let ask = |_| {
        let mut stream = UnixStream::connect(home.socket()).unwrap();
        request_lease(&mut stream).unwrap()
    };

    (0..100).map(ask).filter(|reply| !is_lease(reply)).collect()
}

/// Two processes flood while a good client asks.
fn assert_flood_costs_few_lines(home: &Home, daemon: &Daemon<'_>, uid: Option<u32>) {
    let attacker = copy_of_attacker(home);
    let before = daemon.log().lines().count();

    for kind in SENDS_NO_REQUEST {
        let floods = [0, 1].map(|_| Flood::start(home, &attacker, kind, uid));
        let refused = not_served(home);
        let connected: usize = floods.map(Flood::stop).iter().sum();

        assert_eq!(refused, [] as [Value; 0], "{kind}");
        assert!(connected >= 1_000, "{kind}: {connected}");
    }

    let log = daemon.log();
    assert!(log.lines().count() - before < 10, "{log}");
}

#[test]
fn own_processes_do_not_flood_the_log() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);

    assert_flood_costs_few_lines(&home, &daemon, None);
}

#[test]
#[ignore = "needs root"]
fn strangers_flood_neither_the_log_nor_the_journal() {
    let (_sandbox, home) = world();
    share_with_rules(&home, &home.path().join("attacker"));
    let daemon = home.daemon(&[]);
    open_to_others(&home);

    assert_flood_costs_few_lines(&home, &daemon, Some(STRANGER));

    let log = daemon.log();
    let lines = log.matches("refused: another user's process").count();
    assert!((1..=4).contains(&lines), "{log}");
    let journal = fs::read_to_string(home.journal()).unwrap();
    let refused = journal.matches(&format!("\"uid\":{STRANGER}")).count();
    assert!((1..=30).contains(&refused), "{refused}");
}

#[test]
#[ignore = "needs root"]
fn guarded_requests_of_another_user_are_all_served() {
    let (_sandbox, home) = world();
    let attacker = copy_of_attacker(&home);
    share_with_rules(&home, &attacker);
    let _daemon = home.daemon(&[]);
    open_to_others(&home);

    let floods = [0, 1].map(|_| Flood::start(&home, &attacker, "lease", Some(SERVED)));
    let refused = not_served(&home);
    let connected: usize = floods.map(Flood::stop).iter().sum();

    assert_eq!(refused, [] as [Value; 0]);
    assert!(connected >= 1_000, "{connected}");
}
