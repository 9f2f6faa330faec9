//! One daemon for each user and machine, which every process of the user reaches, whatever its environment is. It owns its
//! state, and keeps nothing of the process that asked for it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rolekeeper_tests::harness::{Home, Run, eventually, programs, world};
use rustix::process::{Pid, Signal, geteuid, kill_process};

/// The client with no variable but these, and the home's.
fn client_with(home: &Home, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(&programs().rolekeeper);
    command
        .env_clear()
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path().join("config"))
        .env("PATH", "/usr/bin:/bin")
        .envs(environment.iter().copied());

    command
}

fn run_with(home: &Home, environment: &[(&str, &str)], args: &[&str]) -> Run {
    let mut command = client_with(home, environment);
    command.args(args);

    home.run(command)
}

fn daemon_pid(home: &Home) -> u32 {
    let status = run_with(home, &[], &["status", "--json"]).json();
    let pid = status["daemon"]["pid"].as_u64().unwrap();

    u32::try_from(pid).unwrap()
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn stop(home: &Home) {
    signal(daemon_pid(home), Signal::TERM);
    eventually("the daemon has stopped", || {
        (!home.socket().exists()).then_some(())
    });
}

fn folder(home: &Home, name: &str, mode: u32) -> String {
    let path = home.path().join(name);
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();

    path.to_str().unwrap().to_owned()
}

#[test]
fn every_environment_reaches_the_same_daemon() {
    let (sandbox, home) = world();
    let runtime = folder(&home, "run", 0o700);
    let other = folder(&home, "other", 0o700);
    let state = folder(&home, "elsewhere", 0o700);

    let environments: [&[(&str, &str)]; 7] = [
        &[("XDG_RUNTIME_DIR", &runtime)],
        // As from cron.
        &[],
        &[("XDG_RUNTIME_DIR", &other)],
        &[("XDG_RUNTIME_DIR", "rel")],
        &[("XDG_RUNTIME_DIR", "/nonexistent")],
        &[("XDG_STATE_HOME", &state)],
        &[("XDG_STATE_HOME", "rel"), ("PATH", "")],
    ];

    let mut keys = Vec::new();
    for (index, environment) in environments.iter().enumerate() {
        let mut command = client_with(&home, environment);
        let working_folder = folder(&home, &format!("folder-{index}"), 0o755);
        command
            .args(["credential-process", "dev"])
            .current_dir(working_folder);
        keys.push(home.run(command).json()["AccessKeyId"].clone());
    }

    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(sandbox.calls("assumeRole"), 1);

    // What one environment ends, no other is given.
    let logout = run_with(&home, environments[0], &["logout", "dev", "--revoke"]);
    assert_eq!(logout.code, 0, "{logout:?}");
    for environment in environments {
        let refused = run_with(&home, environment, &["credential-process", "dev"]);
        assert_eq!(refused.code, 6, "{environment:?}: {refused:?}");
    }

    stop(&home);
}

/// Where a hold is stored is decided by the first start, not by each.
#[test]
fn hold_is_found_in_each_environment() {
    let (_sandbox, home) = world();
    let elsewhere = folder(&home, "elsewhere", 0o700);
    let with: &[(&str, &str)] = &[("XDG_STATE_HOME", &elsewhere)];

    for environments in [[with, &[]], [&[], with]] {
        run_with(&home, environments[0], &["credential-process", "dev"]).json();
        let logout = run_with(&home, environments[0], &["logout", "dev"]);
        assert_eq!(logout.code, 0, "{logout:?}");

        signal(daemon_pid(&home), Signal::KILL);
        let held = run_with(&home, environments[1], &["credential-process", "dev"]);
        assert_eq!(held.code, 6, "{environments:?}: {held:?}");

        stop(&home);
        fs::remove_dir_all(home.path().join(".local")).unwrap();
        fs::remove_dir_all(Path::new(&elsewhere).join("rolekeeper")).ok();
    }
}

/// `sudo -E` keeps HOME. Only root can start a process of another user.
#[test]
#[ignore = "needs root"]
fn home_of_another_user_is_left_alone() {
    let home = Home::default();
    let theirs = folder(&home, "theirs", 0o755);
    std::os::unix::fs::chown(&theirs, Some(65_534), Some(65_534)).unwrap();

    let own = rolekeeper::places::home().unwrap();
    let mut command = Command::new(&programs().rolekeeper);
    command
        .env_clear()
        .env("HOME", &theirs)
        .args(["status", "--json"]);
    let run = home.run(command);

    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains(own.to_str().unwrap()), "{run:?}");
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0);
}

#[test]
fn second_daemon_does_not_start_on_the_same_state() {
    let (_sandbox, home) = world();
    let first = home.daemon(&[]);

    let second_socket = folder(&home, "second", 0o700) + "/socket";
    let second = home.rolekeeperd(&["--socket", &second_socket]);
    assert_eq!(second.code, 3, "{second:?}");
    for words in [
        &format!("process {} on ", first.pid()),
        &format!("export ROLEKEEPER_SOCKET={}", home.socket().display()),
        "set XDG_STATE_HOME to another folder",
    ] {
        assert!(second.stderr.contains(words), "{words}: {second:?}");
    }

    // So does a client with a socket of its own.
    let mut client = home.client();
    client.args(["--socket", &second_socket, "credential-process", "dev"]);
    let client = home.run(client);
    assert_eq!(client.code, 3, "{client:?}");
    assert!(client.stderr.contains("uses the state in"), "{client:?}");
}

/// Two containers that share a home, on one machine. Only root can make a mount namespace.
#[test]
#[ignore = "needs root"]
fn other_mount_namespace_reaches_the_same_daemon() {
    let (_sandbox, home) = world();
    run_with(&home, &[], &["credential-process", "dev"]).json();
    let pid = daemon_pid(&home);

    let logout = |profile: &str| {
        let runtime = folder(&home, "run", 0o700);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c"])
            .arg(format!(
                "mount -t tmpfs -o mode=700 tmpfs {runtime} && exec \"$@\""
            ))
            .arg("sh")
            .arg(&programs().rolekeeper)
            .args(["logout", profile])
            .env_clear()
            .env("HOME", home.path())
            .env("XDG_CONFIG_HOME", home.path().join("config"))
            .env("XDG_RUNTIME_DIR", runtime)
            .env("PATH", "/usr/bin:/bin");
        home.run(command)
    };
    assert_eq!(logout("dev").code, 0);
    assert_eq!(daemon_pid(&home), pid);

    signal(pid, Signal::KILL);
    let held = run_with(&home, &[], &["credential-process", "dev"]);
    assert_eq!(held.code, 6, "{held:?}");

    stop(&home);
}

#[test]
fn daemon_whose_socket_was_removed_makes_it_anew_or_ends() {
    let (sandbox, home) = world();
    let mut daemon = home.daemon(&[]);
    let before = home.rolekeeper(&["credential-process", "dev"]).json();

    fs::remove_file(home.socket()).unwrap();
    eventually("the socket is there again", || {
        home.socket().exists().then_some(())
    });
    let again = home.rolekeeper(&["credential-process", "dev"]).json();
    assert_eq!(again["AccessKeyId"], before["AccessKeyId"]);
    assert_eq!(daemon_pid(&home), daemon.pid());
    assert_eq!(sandbox.calls("assumeRole"), 1);

    // The daemon cannot make its folder anew, for it may write only there. It ends, and another one serves.
    fs::remove_dir_all(home.path().join(".local")).unwrap();
    assert_eq!(daemon.wait(), 3);
    run_with(&home, &[], &["credential-process", "dev"]).json();
    stop(&home);
}

/// A client that comes before the daemon has noticed starts another one, and the first ends.
#[test]
fn one_daemon_is_left_if_a_client_is_faster_than_the_removal_is_noticed() {
    let (_sandbox, home) = world();
    for _ in 0..5 {
        let mut first = home.daemon(&[]);
        fs::remove_dir_all(home.path().join(".local")).unwrap();
        run_with(&home, &[], &["credential-process", "dev"]).json();

        assert_ne!(daemon_pid(&home), first.pid());
        assert_ne!(first.wait(), 0);
        stop(&home);
    }
}

#[test]
fn state_without_a_lock_of_its_own_is_not_written() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);
    let lock = home.state().join("lock");

    // A lock that was removed is made anew.
    fs::remove_file(&lock).unwrap();
    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);
    assert!(lock.exists());

    // One that another process has made is left alone.
    fs::remove_file(&lock).unwrap();
    let other = fs::File::create(&lock).unwrap();
    other.try_lock().unwrap();
    let refused = home.rolekeeper(&["resume", "dev"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("another daemon uses the folder now"),
        "{refused:?}"
    );
    drop(daemon);

    // A link is no lock, and its target stays as it is.
    drop(other);
    let precious = home.private_file("precious", "precious");
    fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&precious, &lock).unwrap();
    let _daemon = home.daemon(&[]);
    let refused = home.rolekeeper(&["resume", "dev"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
}

/// Servers that run `credential_process` may ignore the end of their children.
#[test]
fn caller_that_ignores_the_end_of_children_gets_credentials() {
    let (_sandbox, home) = world();
    let mut command = Command::new("bash");
    command
        .args(["-c", "trap '' CHLD; exec \"$0\" credential-process dev"])
        .arg(&programs().rolekeeper)
        .env_clear()
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path().join("config"))
        .env("PATH", "/usr/bin:/bin");
    home.run(command).json();

    stop(&home);
}

/// The home is read-only to an ordinary user here, so root runs this as one.
#[test]
#[ignore = "needs root"]
fn home_that_cannot_be_written_has_its_socket_in_the_runtime_folder() {
    const USER: u32 = 65_534;
    let (_sandbox, home) = world();
    let runtime = folder(&home, "run", 0o700);
    let program = home.copy_of(&programs().rolekeeper);
    home.copy_of(&programs().rolekeeperd);
    for path in [home.path(), Path::new(&runtime)] {
        std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
    }
    for file in fs::read_dir(home.path()).unwrap().flatten() {
        let _ = std::os::unix::fs::chown(file.path(), Some(USER), Some(USER));
    }
    std::os::unix::fs::chown(home.config_path(), Some(USER), Some(USER)).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o555)).unwrap();

    let run = |args: &[&str]| {
        let mut command = Command::new(&program);
        command
            .env_clear()
            .env("HOME", home.path())
            .env("XDG_CONFIG_HOME", home.path().join("config"))
            .env("XDG_RUNTIME_DIR", &runtime)
            .args(args);
        std::os::unix::process::CommandExt::uid(&mut command, USER);
        std::os::unix::process::CommandExt::gid(&mut command, USER);
        home.run(command)
    };

    assert!(run(&["credential-process", "dev"]).json()["AccessKeyId"].is_string());
    assert!(Path::new(&runtime).join("rolekeeper/socket").exists());

    // The state is beside the socket, then.
    assert_eq!(run(&["logout", "dev"]).code, 0);
    let pid = run(&["status", "--json"]).json()["daemon"]["pid"].as_u64();
    signal(u32::try_from(pid.unwrap()).unwrap(), Signal::KILL);
    assert_eq!(run(&["credential-process", "dev"]).code, 6);

    let pid = run(&["status", "--json"]).json()["daemon"]["pid"].as_u64();
    signal(u32::try_from(pid.unwrap()).unwrap(), Signal::KILL);
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Field `number` of `/proc/PID/stat`, counted from 1 as in proc(5).
fn stat(pid: u32, number: usize) -> i64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = text.rsplit_once(") ").unwrap();
    rest.split(' ').nth(number - 3).unwrap().parse().unwrap()
}

#[test]
fn daemon_is_no_child_of_the_command_that_needed_it() {
    let (_sandbox, home) = world();
    // It ends only once it has no child left.
    let script = "for(1..2){fork//die or exit} 1 while wait != -1";
    let waited = run_with(&home, &[], &["exec", "dev", "--", "perl", "-e", script]);
    assert_eq!(waited.code, 0, "{waited:?}");

    let pid = daemon_pid(&home);
    assert_eq!(stat(pid, 6), i64::from(pid), "it leads its own session");
    assert_eq!(stat(pid, 7), 0, "it has no terminal");

    // A shell that ends its children does not end the daemon.
    stop(&home);
    let mut shell = Command::new("bash");
    shell
        .args([
            "-c",
            "trap 'pkill -P $$' EXIT; \"$0\" credential-process dev",
        ])
        .arg(&programs().rolekeeper)
        .env_clear()
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path().join("config"))
        .env("PATH", "/usr/bin:/bin");
    assert!(home.run(shell).stdout.contains("AccessKeyId"));
    assert!(Path::new(&format!("/proc/{}", daemon_pid(&home))).exists());

    stop(&home);
}

/// Root alone may lower the priority and the score again, and read the environment of a hidden process.
#[test]
#[ignore = "needs root"]
fn nothing_of_the_first_caller_stays() {
    let (_sandbox, home) = world();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "echo 900 > /proc/self/oom_score_adj; ulimit -S -n 20; ulimit -S -f 8; exec taskset -c 0 nice -n 15 \"$@\"",
            "sh",
        ])
        .arg(&programs().rolekeeper)
        .args(["credential-process", "dev"])
        .env_clear()
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path().join("config"))
        .env("PATH", "/opt/first:/usr/bin:/bin")
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("LD_LIBRARY_PATH", "/nonexistent")
        .env("AWS_PROFILE", "first");
    home.run(command).json();

    let pid = daemon_pid(&home);
    let of_process = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();

    assert_eq!(stat(pid, 19), 0, "the priority");
    assert_eq!(of_process("oom_score_adj").trim(), "0");
    let limits = of_process("limits");
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line.trim_start_matches(name)
            .split_whitespace()
            .next()
            .unwrap()
            .to_owned()
    };
    assert!(
        limit("Max open files").parse::<u64>().unwrap() > 1000,
        "{limits}"
    );
    assert_eq!(limit("Max file size"), "unlimited");

    let own = fs::read_to_string("/proc/self/status").unwrap();
    let processors = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("Cpus_allowed:"));
        line.unwrap().to_owned()
    };
    assert_eq!(processors(&of_process("status")), processors(&own));

    let environment = of_process("environ").replace('\0', "\n");
    for absent in [
        "/opt/first",
        "127.0.0.1:9",
        "LD_LIBRARY_PATH",
        "AWS_PROFILE",
        "SSL_CERT_FILE=",
    ] {
        assert!(!environment.contains(absent), "{absent}: {environment}");
    }

    // It is told that these were there, by name.
    let status = run_with(&home, &[], &["status", "--json"]).json();
    assert_eq!(
        status["daemon"]["ignored_variables"],
        serde_json::json!(["HTTPS_PROXY", "SSL_CERT_FILE"])
    );
    assert_eq!(status["daemon"]["started_by"], "client");
    assert_eq!(
        status["daemon"]["config"],
        home.config_path().to_str().unwrap()
    );
    assert_eq!(status["daemon"]["socket"], home.socket().to_str().unwrap());
    let beside = home.socket().with_file_name("");
    let beside = beside.to_str().unwrap().trim_end_matches('/');
    assert_eq!(status["daemon"]["state"], beside);
    let table = run_with(&home, &[], &["status"]).stdout;
    assert!(table.contains("HTTPS_PROXY"), "{table}");

    stop(&home);
}

/// An ordinary user cannot raise a hard limit again.
#[test]
fn too_low_limit_is_named() {
    let (_sandbox, home) = world();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 20; exec \"$@\"", "sh"])
        .arg(&programs().rolekeeper)
        .args(["credential-process", "dev"])
        .env_clear()
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path().join("config"));
    let refused = home.run(command);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(
        refused.stderr.contains("the limit on open files is 20")
            && refused.stderr.contains("ulimit -n"),
        "{refused:?}"
    );
}

#[test]
fn other_configuration_is_refused_and_not_ignored() {
    let (_sandbox, home) = world();
    let other = home.private_file(
        "other.toml",
        &fs::read_to_string(home.config_path()).unwrap(),
    );
    let wanted = [("ROLEKEEPER_CONFIG", other.to_str().unwrap())];

    // None is running: the client starts none with it.
    let refused = run_with(&home, &wanted, &["credential-process", "dev"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    let hint = format!("run rolekeeperd --detach --config {}", other.display());
    assert!(refused.stderr.contains(&hint), "{refused:?}");
    assert!(!home.socket().exists());

    // The configuration that it would use anyway is fine.
    let same = home.config_path();
    let same = [("ROLEKEEPER_CONFIG", same.to_str().unwrap())];
    run_with(&home, &same, &["credential-process", "dev"]).json();

    let refused = run_with(&home, &wanted, &["credential-process", "dev"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    for words in [
        home.config_path().to_str().unwrap(),
        other.to_str().unwrap(),
        "ROLEKEEPER_CONFIG",
    ] {
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
    }

    // The folder of all configurations counts only if it has one.
    let folder = home.path().join("other-configs");
    let in_folder = [("XDG_CONFIG_HOME", folder.to_str().unwrap())];
    run_with(&home, &in_folder, &["credential-process", "dev"]).json();
    fs::create_dir_all(folder.join("rolekeeper")).unwrap();
    let in_it = folder.join("rolekeeper/config.toml");
    fs::copy(&other, &in_it).unwrap();

    let refused = run_with(&home, &in_folder, &["credential-process", "dev"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    for words in [in_it.to_str().unwrap(), "XDG_CONFIG_HOME"] {
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
    }
    stop(&home);

    // A person's choice is another matter.
    let _daemon = home.daemon(&[]);
    run_with(&home, &in_folder, &["credential-process", "dev"]).json();
}

/// A variable may come from a file of a repository, such as `.env`.
#[test]
fn socket_of_a_variable_is_absolute_and_starts_no_daemon() {
    let (_sandbox, home) = world();
    let repository = folder(&home, "repository", 0o700);
    let own = folder(&home, "repository/.rk", 0o700);
    let run_in = |socket: &str| {
        let mut command = client_with(&home, &[("ROLEKEEPER_SOCKET", socket)]);
        command
            .args(["credential-process", "dev"])
            .current_dir(&repository);
        home.run(command)
    };

    for running in [false, true] {
        if running {
            run_with(&home, &[], &["credential-process", "dev"]).json();
        }

        let relative = run_in(".rk/socket");
        assert_eq!(relative.code, 2, "{relative:?}");
        let words = "ROLEKEEPER_SOCKET is the relative path .rk/socket";
        assert!(relative.stderr.contains(words), "{relative:?}");

        let absolute = run_in(&format!("{own}/socket"));
        assert_eq!(absolute.code, 3, "{absolute:?}");
        let words = format!("no daemon is running at {own}/socket");
        assert!(absolute.stderr.contains(&words), "{absolute:?}");
        assert_eq!(fs::read_dir(&own).unwrap().count(), 0);
    }

    // The same with the default socket in the variable.
    let default = home.socket();
    let pid = daemon_pid(&home);
    stop(&home);
    run_in(default.to_str().unwrap()).json();
    assert_ne!(daemon_pid(&home), pid);

    stop(&home);
}

/// One of the two is the user's, and the variable may come from a file of a repository.
#[test]
fn second_configuration_of_the_user_starts_no_daemon() {
    let (_sandbox, home) = world();
    let in_home = folder(&home, ".config/rolekeeper", 0o700) + "/config.toml";
    fs::rename(home.config_path(), &in_home).unwrap();
    let other = folder(&home, "repository/rolekeeper", 0o700) + "/config.toml";
    fs::copy(&in_home, &other).unwrap();
    let repository = home.path().join("repository");
    let with = [("XDG_CONFIG_HOME", repository.to_str().unwrap())];

    let refused = run_with(&home, &with, &["credential-process", "dev"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    let words = "starts none with the configuration of XDG_CONFIG_HOME";
    assert!(refused.stderr.contains(words), "{refused:?}");
    let hint = format!("run rolekeeperd --detach --config {other}");
    assert!(refused.stderr.contains(&hint), "{refused:?}");
    assert!(!home.socket().exists());

    // The same file by another name is the user's.
    fs::remove_file(&other).unwrap();
    std::os::unix::fs::symlink(&in_home, &other).unwrap();
    run_with(&home, &with, &["credential-process", "dev"]).json();

    stop(&home);
}

/// `PATH` of a repository decides neither what is started nor what the daemon runs.
#[test]
fn path_of_the_first_caller_starts_nothing() {
    let (_sandbox, home) = world();
    let evil = folder(&home, "evil", 0o700);
    let units = folder(&home, "config/systemd/user", 0o755);
    let runtime = folder(&home, "run", 0o700);
    folder(&home, "run/systemd", 0o700);
    fs::write(format!("{units}/rolekeeperd.socket"), "").unwrap();
    fs::write(format!("{runtime}/systemd/private"), "").unwrap();
    for name in ["systemctl", "rolekeeperd", "sh", "secret-tool"] {
        let path = format!("{evil}/{name}");
        fs::write(&path, format!("#!/bin/sh\necho > {evil}/{name}.ran\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    let path = format!("{evil}:/usr/bin:/bin");
    let environment = [("PATH", path.as_str()), ("XDG_RUNTIME_DIR", &runtime)];
    run_with(&home, &environment, &["credential-process", "dev"]).json();
    let ran = fs::read_dir(&evil).unwrap().flatten().filter(|entry| {
        let name = entry.file_name().into_string().unwrap();
        name.ends_with(".ran")
    });
    assert_eq!(ran.count(), 0);

    stop(&home);
}

#[test]
fn lock_that_is_given_back_is_waited_for() {
    let (_sandbox, home) = world();
    let mut daemon = home.daemon(&[]);
    for name in ["socket.lock", "lock"] {
        daemon.kill();

        let lock = match name {
            "lock" => home.state().join(name),
            _ => home.socket().with_file_name(name),
        };
        let mut holder = Command::new("flock")
            .arg("-x")
            .arg(&lock)
            .args(["sleep", "0.3"])
            .spawn()
            .unwrap();
        eventually("the lock is held", || {
            let file = fs::File::open(&lock).unwrap();
            file.try_lock().is_err().then_some(())
        });

        daemon = home.daemon(&[]);
        holder.wait().unwrap();
    }
}

/// Nothing is written where others can write: not even where no other folder is known.
#[test]
fn shared_folders_stay_empty() {
    let (_sandbox, home) = world();
    let shared = folder(&home, "shared", 0o1777);
    let mut command = client_with(&home, &[]);
    command
        .env_remove("HOME")
        .env("TMPDIR", &shared)
        .arg("--socket")
        .arg(home.path().join("s"))
        .args(["credential-process", "dev"]);
    if geteuid().is_root() {
        // Root's real home is no place for a test.
        command.env("HOME", home.path());
    }
    home.run(command);
    assert_eq!(fs::read_dir(&shared).unwrap().count(), 0);

    let mut beside = home.command(&programs().rolekeeperd);
    beside
        .env("XDG_STATE_HOME", "/dev/null")
        .args(["--detach", "--socket"])
        .arg(Path::new(&shared).join("s"));
    assert_ne!(home.run(beside).code, 0);
    assert_eq!(fs::read_dir(&shared).unwrap().count(), 0);

    let mut status = client_with(&home, &[]);
    status
        .env("ROLEKEEPER_SOCKET", home.path().join("s"))
        .args(["status", "--json"]);
    if let Some(pid) = home.run(status).json()["daemon"]["pid"].as_u64() {
        signal(u32::try_from(pid).unwrap(), Signal::TERM);
    }
}

/// A hint never changes a folder that others use.
#[test]
fn hint_does_not_close_a_shared_folder() {
    let (_sandbox, home) = world();
    let shared: PathBuf = folder(&home, "shared", 0o1777).into();
    let socket = shared.join("rk.sock");
    let refused = home.rolekeeper(&["--socket", socket.to_str().unwrap(), "status"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(!refused.stderr.contains("chmod"), "{refused:?}");
    assert_eq!(fs::metadata(&shared).unwrap().mode() & 0o7777, 0o1777);

    // Its own folder may be repaired, and the command works as printed.
    home.create_socket_folder();
    let own = home.socket().parent().unwrap().to_owned();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = home.rolekeeper(&["status"]);
    let hint = refused.stderr.split("run ").nth(1).unwrap().trim();
    assert!(
        Command::new("sh")
            .args(["-c", hint])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(home.rolekeeper(&["status"]).code, 3);
}

/// Only root can make a network namespace here.
#[test]
#[ignore = "needs root"]
fn other_network_namespace_is_named() {
    let (_sandbox, home) = world();
    let mut first = Command::new("unshare");
    first
        .arg("--net")
        .arg(&programs().rolekeeper)
        .args(["credential-process", "dev"])
        .env_clear()
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path().join("config"))
        .env("PATH", "/usr/bin:/bin");
    assert_ne!(home.run(first).code, 0);

    let refused = run_with(&home, &[], &["credential-process", "dev"]);
    assert!(
        refused
            .stderr
            .contains("was started in another network namespace"),
        "{refused:?}"
    );
    let table = run_with(&home, &[], &["status"]).stdout;
    assert!(table.contains("another network namespace"), "{table}");

    // The hint works as printed.
    let hint = refused.stderr.split("run kill ").nth(1).unwrap();
    let pid = hint.split(' ').next().unwrap().parse().unwrap();
    signal(pid, Signal::TERM);
    eventually("the daemon has stopped", || {
        (!home.socket().exists()).then_some(())
    });
    run_with(&home, &[], &["credential-process", "dev"]).json();

    stop(&home);
}

/// A variable with a token is one of the environment, too: a person starts the daemon with it.
#[test]
fn token_in_a_variable_needs_a_daemon_that_a_person_starts() {
    let (sandbox, home) = world();
    let text = fs::read_to_string(home.config_path()).unwrap();
    let (before, rest) = text.split_once("token = ").unwrap();
    let (_, after) = rest.split_once('\n').unwrap();
    home.configure(&format!(
        "{before}token = {{ env = \"CI_TOKEN\" }}\n{after}"
    ));
    let with = [("CI_TOKEN", sandbox.token("dev"))];

    let refused = run_with(&home, &with, &["credential-process", "dev"]);
    assert_ne!(refused.code, 0);
    let hint = refused.stderr.split("run kill ").nth(1).unwrap();
    let pid = hint.split(' ').next().unwrap().parse().unwrap();
    assert!(
        hint.contains("where CI_TOKEN is set, rolekeeperd --detach"),
        "{refused:?}"
    );
    signal(pid, Signal::TERM);
    eventually("the daemon has stopped", || {
        (!home.socket().exists()).then_some(())
    });

    let mut daemon = home.command(&programs().rolekeeperd);
    daemon.arg("--detach").envs(with);
    assert_eq!(home.run(daemon).code, 0);
    run_with(&home, &[], &["credential-process", "dev"]).json();

    stop(&home);
}
