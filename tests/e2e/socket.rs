//! The socket's place: private from its first moment, never taken from somebody who is alive, found again after a crash.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;

use rolekeeper_tests::harness::{Home, world};

#[test]
fn the_folder_and_the_socket_are_closed_to_others_whatever_the_umask() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let mode = |path: &std::path::Path| fs::symlink_metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&home.socket()), 0o600);
    assert_eq!(mode(home.socket().parent().unwrap()), 0o700);
}

#[test]
fn a_daemon_that_was_killed_is_followed_by_another_that_serves() {
    let (_sandbox, home) = world();
    let mut first = home.daemon(&[]);
    first.kill();
    assert!(home.socket().exists(), "a kill leaves the socket behind");
    let run = home.rolekeeper(&["credential-process", "dev"]);
    assert_eq!(run.code, 3, "nobody listens: {run:?}");
    let _second = home.daemon(&[]);
    assert!(home.rolekeeper(&["credential-process", "dev"]).json()["AccessKeyId"].is_string());
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
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
fn another_programs_socket_and_a_file_are_left_alone() {
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
fn a_path_that_is_too_long_is_refused_by_both_programs() {
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
fn a_folder_that_others_can_enter_is_refused_by_both_programs() {
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
                && run.stderr.contains("chmod 700 "),
            "{run:?}"
        );
    }
}

#[test]
fn a_folder_of_another_users_is_refused() {
    // Needs root, to make one that is.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::default();
    let folder = home.path().join("theirs");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&folder, Some(65_534), None).unwrap();
    refused_as_foreign(&home, folder.join("socket").to_str().unwrap());
}

fn refused_as_foreign(home: &Home, socket: &str) {
    let run = home.rolekeeper(&["--socket", socket, "credential-process", "dev"]);
    assert!(
        run.code == 4 && run.stderr.contains("belongs to user"),
        "{run:?}"
    );
}

/// Needs root, to become somebody else; elsewhere the unit test of the policy has to do.
#[test]
fn another_users_process_gets_nothing_even_through_an_open_door() {
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (sandbox, home) = world();
    let daemon = home.daemon(&[]);
    // What a mistake of the administrator's could look like: everything is open, and the socket too.
    let me = home.copy_of(&std::env::current_exe().unwrap());
    for path in [
        home.path(),
        &home.path().join("run"),
        home.socket().parent().unwrap(),
        &home.socket(),
        &me,
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut stranger = home.command(&me);
    stranger
        .args(["--exact", "socket::what_the_stranger_does", "--nocapture"])
        .uid(65_534)
        .gid(65_534);
    let run = home.run({
        stranger.env("ROLEKEEPER_TEST_STRANGER", home.socket());
        stranger
    });
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

/// A part of the test above, which runs it as another user.
#[test]
fn what_the_stranger_does() {
    let Some(socket) = std::env::var_os("ROLEKEEPER_TEST_STRANGER") else {
        return;
    };
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let request = serde_json::json!({ "v": 1, "request": { "lease": { "profile": "dev" } } });
    // The daemon may have answered and hung up by now; what it said can still be read.
    let _ = std::io::Write::write_all(&mut stream, &rolekeeper::frame::encode(&request).unwrap());
    println!(
        "{}",
        String::from_utf8_lossy(&rolekeeper::frame::read(&mut stream).unwrap())
    );
}
