//! What another process of the same user can read of the daemon, what is left in its memory, and
//! how it is sandboxed.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, eventually, programs, world};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::attacker;

/// An ordinary user: the kernel lets root read everything.
const NOBODY: u32 = 65_534;

/// The user of the daemon and of the attacker. Root starts both as an ordinary user.
fn ordinary_user() -> u32 {
    if geteuid().is_root() {
        NOBODY
    } else {
        geteuid().as_raw()
    }
}

/// Gives a file or folder, with all that is in it, to a user, if this one is root.
fn give(path: &Path, uid: u32) {
    if !geteuid().is_root() {
        return;
    }

    chown(path, Some(uid), Some(uid)).unwrap();

    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        give(&entry.path(), uid);
    }
}

fn as_user(mut command: Command, uid: u32) -> Command {
    if geteuid().is_root() {
        command.uid(uid).gid(uid);
    }
    command
}

/// A process that is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A copy of the attacker in this home, which every user may start.
fn copy_of_attacker(home: &Home) -> PathBuf {
    let copy = home.copy_of(attacker());
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();

    copy
}

/// What the attacker can read of a process, by the names of what it tried.
fn visible_to_attacker(home: &Home, uid: u32, pid: u32) -> String {
    let mut command = home.command(&copy_of_attacker(home));
    command.args(["inspect-process", &pid.to_string()]);

    let output = as_user(command, uid).output().unwrap();

    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("seen: "));

    line.unwrap_or_else(|| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)))
        .to_owned()
}

#[test]
fn daemon_is_hidden_from_processes_of_the_same_user() {
    let (_sandbox, home) = world();
    let uid = ordinary_user();
    let program = home.copy_of(&programs().rolekeeperd);
    give(home.path(), uid);
    let daemon = home.daemon_from(as_user(home.command(&program), uid));

    let mut sleep = as_user(Command::new("sleep"), uid);
    let sleep = Killed(sleep.arg("1000").spawn().unwrap());
    let of_others = visible_to_attacker(&home, uid, sleep.0.id());

    for file in ["environ", "maps", "fd", "exe"] {
        assert!(
            of_others.split(' ').any(|seen| seen == file),
            "{file} of its other processes: {of_others}"
        );
    }

    assert_eq!(visible_to_attacker(&home, uid, daemon.pid()), "");

    let inspector = child_of(daemon.pid());
    assert_eq!(visible_to_attacker(&home, uid, inspector), "");

    for pid in [daemon.pid(), inspector] {
        assert_every_thread_is_sandboxed(pid);
    }

    // After a reload another program runs in the process, and has to hide it again.
    daemon.reload();
    assert_eq!(visible_to_attacker(&home, uid, daemon.pid()), "");
    assert_eq!(
        child_of(daemon.pid()),
        inspector,
        "the peer inspector survives the reload"
    );

    for pid in [daemon.pid(), inspector] {
        assert_every_thread_is_sandboxed(pid);
        assert_no_core_dumps(pid);
        assert_eq!(
            fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(),
            0,
            "the file of a hidden process belongs to root"
        );
    }
}

fn assert_no_core_dumps(pid: u32) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let cores = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();

    assert_eq!(cores.split_whitespace().nth(4), Some("0"), "{cores}");
}

/// The next program is hidden before its first instruction, and not only once it has hidden itself.
#[test]
fn daemon_is_hidden_at_every_moment_of_a_reload() {
    let (_sandbox, home) = world();
    let uid = ordinary_user();
    let program = home.copy_of(&programs().rolekeeperd);
    let attacker = copy_of_attacker(&home);
    give(home.path(), uid);
    let daemon = home.daemon_from(as_user(home.command(&program), uid));

    let mut sleep = as_user(Command::new("sleep"), uid);
    let sleep = Killed(sleep.arg("1000").spawn().unwrap());
    let (polls, seen) = poll(&home, &attacker, uid, sleep.0.id(), || {
        std::thread::sleep(Duration::from_millis(100));
    });

    assert!(
        polls > 0 && seen == polls,
        "the attacker sees other processes: {seen} of {polls}"
    );

    let (polls, seen) = poll(&home, &attacker, uid, daemon.pid(), || {
        for _ in 0..20 {
            daemon.reload();
        }
    });

    assert!(polls > 1_000 && seen == 0, "{seen} of {polls}");
}

/// How often the attacker polled a process meanwhile, and how often it could open its memory or
/// descriptors.
fn poll(home: &Home, attacker: &Path, uid: u32, pid: u32, meanwhile: impl FnOnce()) -> (u64, u64) {
    let mut command = home.command(attacker);
    command
        .args(["poll-process", &pid.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = as_user(command, uid).spawn().unwrap();

    meanwhile();
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();

    let text = String::from_utf8_lossy(&output.stdout);
    let counts = text
        .strip_prefix("polled: ")
        .and_then(|text| text.trim().split_once(" times, seen "));
    let (polls, seen) = counts.unwrap_or_else(|| panic!("{text}"));

    (polls.parse().unwrap(), seen.parse().unwrap())
}

/// One thread that started before the sandbox would be a way out for all of them.
fn assert_every_thread_is_sandboxed(pid: u32) {
    let threads: Vec<_> = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|task| task.unwrap().path())
        .collect();

    for thread in &threads {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(
                status.contains(line),
                "{} of {}: {status}",
                thread.display(),
                threads.len()
            );
        }
    }
}

/// The only child of a process.
fn child_of(pid: u32) -> u32 {
    let children = children_of(pid);
    assert_eq!(children.len(), 1);

    children[0]
}

fn children_of(pid: u32) -> Vec<u32> {
    let mut all = String::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let children = task.unwrap().path().join("children");
        all += &fs::read_to_string(children).unwrap_or_default();
    }

    all.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

fn send(signal: Signal, pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// All writable memory of a process.
fn memory_of(pid: u32) -> Vec<u8> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mem = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();

    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let start = u64::from_str_radix(start, 16).unwrap();
        let end = u64::from_str_radix(end, 16).unwrap();

        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        if mem.read_exact_at(&mut bytes, start).is_ok() {
            all.extend(bytes);
        }
    }

    all
}

fn contains(memory: &[u8], secret: &str) -> bool {
    memory
        .windows(secret.len())
        .any(|window| window == secret.as_bytes())
}

/// Only root can read the daemon's memory.
#[test]
#[ignore = "needs root"]
fn revoked_session_is_wiped_from_memory() {
    let (sandbox, home) = world();
    let daemon = home.daemon(&[]);

    let lease = home.rolekeeper(&["credential-process", "dev"]).json();
    let secrets =
        ["SecretAccessKey", "SessionToken"].map(|name| lease[name].as_str().unwrap().to_owned());
    let token = sandbox.token("dev").to_owned();

    let memory = memory_of(daemon.pid());

    for secret in &secrets {
        assert!(
            contains(&memory, secret),
            "a served session is in memory: this test can find it"
        );
    }

    // It goes with the connection that it was sent over.
    eventually("the token is wiped", || {
        (!contains(&memory_of(daemon.pid()), &token)).then_some(())
    });

    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);

    eventually("the session is wiped", || {
        let memory = memory_of(daemon.pid());
        let is_wiped = secrets.iter().all(|secret| !contains(&memory, secret));
        is_wiped.then_some(())
    });

    let inspector = memory_of(child_of(daemon.pid()));
    for secret in secrets.iter().chain([&token]) {
        assert!(!contains(&inspector, secret));
    }
}

#[test]
fn status_shows_active_protection() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let status = home.rolekeeper(&["status", "--json"]).json();
    let protection = &status["daemon"]["protection"];
    assert_eq!(protection["landlock"], "active", "{protection}");
    assert_eq!(protection["seccomp"], "active", "{protection}");
    let memory = protection["memory"].as_str().unwrap();
    assert!(
        memory == "active" || memory.contains("may be swapped out"),
        "{protection}"
    );

    assert_sandbox_is_active(&home);
}

fn assert_sandbox_is_active(home: &Home) {
    let status = home.rolekeeper(&["status"]).stdout;
    assert!(
        status.contains("Landlock active; seccomp active"),
        "{status}"
    );
}

fn refresh(home: &Home) -> Run {
    home.rolekeeper(&["refresh", "dev"])
}

/// A password manager may need anything; the daemon does not.
#[test]
fn token_command_is_not_sandboxed_but_daemon_is() {
    let (_sandbox, home) = world();
    let elsewhere = tempfile::tempdir().unwrap();
    let token = elsewhere.path().join("token");
    fs::rename(home.path().join("dev.token"), &token).unwrap();
    let text = fs::read_to_string(home.config_path()).unwrap();
    let (before, rest) = text.split_once("token = ").unwrap();
    let after = rest.split_once('\n').unwrap().1;
    let configure_command = |script: &str| {
        let script = format!("{script} {}", token.display());
        home.configure(&format!(
            "{before}token = {{ command = [\"/bin/sh\", \"-c\", {script:?}], keep = \"0s\" }}\n{after}"
        ));
    };

    // The daemon's helpers ignore SIGTERM, and the commands do not: this one sends it to a child.
    configure_command("sleep 1000 & kill $!; wait $!; cat");
    let daemon = home.daemon(&[]);

    assert_eq!(refresh(&home).code, 0);

    let helpers = children_of(daemon.pid());
    assert_eq!(helpers.len(), 2);

    for signal in [Signal::INT, Signal::TERM] {
        helpers.iter().for_each(|helper| send(signal, *helper));
    }

    assert_eq!(refresh(&home).code, 0);

    assert_sandbox_is_active(&home);

    daemon.reload();
    assert_eq!(
        refresh(&home).code,
        0,
        "the helper survives the reload and still starts the command"
    );

    configure_command("cat");
    daemon.reload();
    let unknown = refresh(&home);
    assert!(
        unknown.code == 5
            && unknown
                .stderr
                .contains("did not name it when rolekeeperd started"),
        "{unknown:?}"
    );
    assert!(
        unknown
            .stderr
            .contains("try: restart rolekeeperd instead of reloading it"),
        "{unknown:?}"
    );
    assert!(
        daemon
            .log()
            .contains("cannot run this token command: it is new in the configuration"),
        "{}",
        daemon.log()
    );

    drop(daemon);
    let daemon = home.daemon(&[]);

    for helper in children_of(daemon.pid()) {
        let arguments = fs::read_to_string(format!("/proc/{helper}/cmdline")).unwrap();
        if arguments.contains("command-runner") {
            send(Signal::KILL, helper);
        }
    }

    let gone = refresh(&home);
    assert!(
        gone.code == 5
            && gone
                .stderr
                .contains("the command helper process has exited"),
        "{gone:?}"
    );
}

/// Secret managers and dotfiles make links.
#[test]
fn token_file_may_be_a_symlink_to_another_folder() {
    let (_sandbox, home) = world();
    let elsewhere = tempfile::tempdir().unwrap();
    let token = home.path().join("dev.token");
    let real = elsewhere.path().join("token");
    fs::rename(&token, &real).unwrap();
    std::os::unix::fs::symlink(&real, &token).unwrap();
    let _daemon = home.daemon(&[]);

    assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 0);
}

/// Without the inspector the daemon cannot identify callers, and refuses the profiles that have
/// rules.
/// With a profile `ruled`, which is for this test.
fn world_with_ruled() -> (SandboxProcess, Home) {
    let (sandbox, home) = world();
    let test = std::env::current_exe().unwrap();
    let text = fs::read_to_string(home.config_path()).unwrap();
    let (_, dev) = text.split_once("[profile.dev]\n").unwrap();
    home.configure(&format!(
        "{text}[profile.ruled]\n{dev}callers = [{{ exe = {test:?} }}]\n"
    ));

    (sandbox, home)
}

#[test]
fn dead_inspector_stops_only_profiles_with_rules() {
    let (_sandbox, home) = world_with_ruled();
    let daemon = home.daemon(&[]);

    let ask = |profile| home.rolekeeper(&["credential-process", profile]);
    assert_eq!(ask("dev").code, 0);
    assert_eq!(ask("ruled").code, 0);

    // Signals to a whole terminal or service do not end the inspector before the daemon.
    let inspector = child_of(daemon.pid());
    for signal in [Signal::INT, Signal::TERM] {
        send(signal, inspector);
    }

    assert_eq!(ask("ruled").code, 0);

    send(Signal::KILL, inspector);
    eventually("the daemon notices", || {
        daemon
            .log()
            .contains("the helper process has exited")
            .then_some(())
    });

    let refused = ask("ruled");
    assert!(
        refused.code == 4 && refused.stderr.contains("try: restart rolekeeperd"),
        "{refused:?}"
    );
    assert_eq!(ask("dev").code, 0);

    let status = home.rolekeeper(&["status"]).stdout;
    assert!(
        status.contains("peer inspector off: the peer inspector process has exited"),
        "{status}"
    );
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn stopped_inspector_stops_only_profiles_with_rules_until_it_continues() {
    let (_sandbox, home) = world_with_ruled();
    let daemon = home.daemon(&[]);
    let ask = |profile| home.rolekeeper(&["credential-process", profile]);
    let status = || home.rolekeeper(&["status"]).stdout;
    let is_off = "peer inspector off: the peer inspector process does not respond";
    assert_eq!(ask("ruled").code, 0);

    let inspector = child_of(daemon.pid());
    send(Signal::STOP, inspector);
    for _ in 0..3 {
        let refused = ask("ruled");
        assert!(
            refused.code == 4
                && refused
                    .stderr
                    .contains("the peer inspector process does not respond")
                && refused.stderr.contains("restart rolekeeperd"),
            "{refused:?}"
        );
        assert_eq!(ask("dev").code, 0);
    }
    assert!(status().contains(is_off), "{}", status());

    let log = daemon.log();
    let noticed = log.matches("the helper process does not respond").count();
    assert_eq!(noticed, 1, "{log}");

    let audit = home.rolekeeper(&["audit", "dev"]).stdout;
    assert!(audit.contains("unknown process"), "{audit}");

    send(Signal::CONT, inspector);
    eventually("the inspector works again", || {
        (!status().contains(is_off)).then_some(())
    });
    assert_eq!(ask("ruled").code, 0);
}

/// Landlock cannot be widened, not even by the next program in the same process.
#[test]
fn reload_does_not_widen_the_sandbox() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);

    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(
        home.path().join("dev.token"),
        elsewhere.path().join("dev.token"),
    )
    .unwrap();

    let text = fs::read_to_string(home.config_path()).unwrap();
    home.configure(&text.replace(
        home.path().to_str().unwrap(),
        elsewhere.path().to_str().unwrap(),
    ));

    daemon.reload();
    let refused = home.rolekeeper(&["credential-process", "dev"]);
    assert!(
        refused.code == 5 && refused.stderr.contains("cannot be read: Permission denied"),
        "{refused:?}"
    );
    assert!(
        refused.stderr.contains("restart rolekeeperd"),
        "{refused:?}"
    );
    assert!(
        daemon
            .log()
            .contains("restart rolekeeperd instead of reloading it"),
        "{}",
        daemon.log()
    );

    drop(daemon);
    let _daemon = home.daemon(&[]);

    assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 0);
}
