//! The socket: private from its creation on, never taken from a running program, and replaced after
//! a crash.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rolekeeper_tests::harness::{Home, Run, programs, world};

use crate::attacker;

const NOBODY: u32 = 65_534;

#[test]
fn socket_and_folder_are_private() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let mode = |path: &std::path::Path| fs::symlink_metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&home.socket()), 0o600);
    assert_eq!(mode(home.socket().parent().unwrap()), 0o700);
}

#[test]
fn socket_of_killed_daemon_is_replaced() {
    let (_sandbox, home) = world();
    let mut first = home.daemon(&[]);
    first.kill();
    assert!(home.socket().exists(), "a kill leaves the socket behind");

    let run = home.rolekeeper(&["credential-process", "dev"]);
    assert_eq!(run.code, 3, "no daemon listens: {run:?}");

    let _second = home.daemon(&[]);

    assert!(home.rolekeeper(&["credential-process", "dev"]).json()["AccessKeyId"].is_string());
}

#[test]
fn second_daemon_is_refused_and_first_keeps_serving() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);

    let run = home.rolekeeperd(&[]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.stderr.contains("another rolekeeperd is serving") && run.stderr.contains("  try: "),
        "{run:?}"
    );

    let status = home.rolekeeper(&["status", "--json"]).json();
    assert_eq!(status["daemon"]["pid"], daemon.pid());
}

#[test]
fn foreign_socket_and_file_are_left_alone() {
    let (_sandbox, home) = world();
    let folder = home.path().join("private");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let socket = folder.join("socket");
    let foreign = UnixListener::bind(&socket).unwrap();
    let run = home.rolekeeperd(&["--socket", socket.to_str().unwrap()]);
    assert!(
        run.code == 3 && run.stderr.contains("another program is listening"),
        "{run:?}"
    );
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());

    drop(foreign);
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "precious").unwrap();
    let run = home.rolekeeperd(&["--socket", socket.to_str().unwrap()]);
    assert!(
        run.code == 3 && run.stderr.contains("is not a socket"),
        "{run:?}"
    );
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn too_long_path_is_refused_by_client_and_daemon() {
    let (_sandbox, home) = world();
    let long = home.path().join("x".repeat(120)).join("socket");
    let long = long.to_str().unwrap();

    for run in [
        home.rolekeeper(&["--socket", long, "status"]),
        home.rolekeeperd(&["--socket", long]),
    ] {
        assert_eq!(run.code, 2, "{run:?}");
        assert!(
            run.stderr.contains("bytes, and the system's limit is 107")
                && run.stderr.contains("shorter path"),
            "{run:?}"
        );
    }
}

#[test]
fn open_folder_is_refused_by_client_and_daemon() {
    let (_sandbox, home) = world();
    let folder = home.path().join("open");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let socket = folder.join("socket");
    let socket = socket.to_str().unwrap();
    let client = home.rolekeeper(&["--socket", socket, "credential-process", "dev"]);
    let daemon = home.rolekeeperd(&["--socket", socket]);

    assert_eq!((client.code, daemon.code), (4, 3));

    for run in [client, daemon] {
        assert!(
            run.stderr.contains("is open to others (mode 0755)")
                && run.stderr.contains("a folder of your own with mode 700"),
            "{run:?}"
        );
    }
}

/// Only root can give a folder to another user.
#[test]
#[ignore = "needs root"]
fn folder_of_another_user_is_refused() {
    let home = Home::default();
    let folder = home.path().join("theirs");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&folder, Some(NOBODY), None).unwrap();

    let socket = folder.join("socket");
    let socket = socket.to_str().unwrap();
    let run = home.rolekeeper(&["--socket", socket, "credential-process", "dev"]);
    assert!(
        run.code == 4 && run.stderr.contains("belongs to user"),
        "{run:?}"
    );
}

/// Only root can start a process of another user.
#[test]
#[ignore = "needs root"]
fn other_users_are_refused_even_if_permissions_are_open() {
    let (sandbox, home) = world();
    let daemon = home.daemon(&[]);

    let attacker = home.copy_of(attacker());

    // An administrator's mistake: the socket and all folders above it are open.
    for path in home.socket_and_folders().iter().chain([&attacker]) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }

    let mut attack = home.command(&attacker);
    attack
        .arg("request-lease")
        .arg(home.socket())
        .uid(NOBODY)
        .gid(NOBODY);

    let run = home.run(attack);

    assert!(
        run.code == 0 && run.stdout.contains("\"not_allowed\""),
        "{run:?}"
    );
    assert!(!run.stdout.contains("access_key_id"), "{run:?}");
    assert_eq!(sandbox.calls("assumeRole"), 0);
    assert!(
        daemon.log().contains("refused: another user's process"),
        "{}",
        daemon.log()
    );
}

/// What the process that listens gets from a client, and the client's end. `listener` is the user of the one, `client` of
/// the other.
fn received_by(listener: u32, client: u32, args: &[&str]) -> (String, Run) {
    let home = Home::default();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = |name: &str, mode: u32, owner: u32| {
        let path = home.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&path, Some(owner), Some(owner)).unwrap();
        path
    };
    let theirs = folder("theirs", 0o755, listener).join("socket");
    // A link of the client's own user, as in a repository that the user has cloned.
    let link = folder("own", 0o700, client).join("socket");
    std::os::unix::fs::symlink(&theirs, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(client), Some(client)).unwrap();

    let of_user = |program: &Path, user: u32| {
        let program = home.copy_of(program);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", "/nonexistent")
            .uid(user)
            .gid(user);
        command
    };

    let mut listening = of_user(attacker(), listener);
    let listening = listening.arg("listen").arg(&theirs).stdout(Stdio::piped());
    let mut listening = listening.spawn().unwrap();
    let mut lines = BufReader::new(listening.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "listening");

    let mut command = of_user(&programs().rolekeeper, client);
    command.env("ROLEKEEPER_SOCKET", &link).args(args);
    let run = home.run(command);

    let received = lines.next().unwrap().unwrap();
    listening.wait().unwrap();
    (received, run)
}

/// Only root can start processes of several users.
#[test]
#[ignore = "needs root"]
fn listener_of_another_user_gets_nothing() {
    const OTHER: u32 = 64_123;

    for (listener, client) in [(OTHER, NOBODY), (OTHER, 0)] {
        for args in [&["credential-process", "dev"][..], &["status"], &["login"]] {
            let (received, run) = received_by(listener, client, args);
            assert_eq!(received, "received: 0", "{run:?}");
            assert_eq!(run.code, 4, "{run:?}");
            let words = format!("belongs to user {OTHER}, not to you (user {client})");
            assert!(run.stderr.contains(&words), "{run:?}");
        }
    }
}

/// Under socket activation, the service manager listens: root's, or the user's own.
#[test]
#[ignore = "needs root"]
fn listener_of_root_or_the_same_user_is_trusted() {
    for (listener, client) in [(0, NOBODY), (NOBODY, NOBODY), (0, 0)] {
        let (received, run) = received_by(listener, client, &["status"]);
        assert_ne!(received, "received: 0", "{run:?}");
        assert_eq!(run.code, 3, "the listener has ended: {run:?}");
    }
}
