//! What another process of the same user can see of the daemon, and what is left in its memory.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rolekeeper_tests::harness::{Home, eventually, programs, world};
use rustix::process::geteuid;

/// A user who is not root, whom the kernel would let read everything.
const NOBODY: u32 = 65_534;

/// Whatever lies in a home belongs to that user, if this one may say so.
fn give(path: &Path, uid: u32) {
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

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a neighbour of the same user gets out of a process, by the names of what it tried.
fn seen_by_a_neighbour(home: &Home, uid: u32, pid: u32) -> String {
    let me = home.path().join("neighbour");
    assert!(
        Command::new("cp")
            .arg(std::env::current_exe().unwrap())
            .arg(&me)
            .status()
            .unwrap()
            .success()
    );
    fs::set_permissions(&me, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = home.command(&me);
    command.args([
        "--exact",
        "hardening::what_the_neighbour_does",
        "--nocapture",
    ]);
    command.env("ROLEKEEPER_TEST_NEIGHBOUR", pid.to_string());
    let output = as_user(command, uid).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("seen: "));
    line.unwrap_or_else(|| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)))
        .to_owned()
}

/// A part of the tests below, which run it as the user whose daemon it is.
#[test]
fn what_the_neighbour_does() {
    let Some(pid) = std::env::var_os("ROLEKEEPER_TEST_NEIGHBOUR") else {
        return;
    };
    let process = PathBuf::from("/proc").join(&pid);
    let mut seen = Vec::new();
    for file in ["mem", "environ", "maps", "auxv", "pagemap", "syscall"] {
        seen.extend(fs::File::open(process.join(file)).is_ok().then_some(file));
    }
    seen.extend(fs::read_dir(process.join("fd")).is_ok().then_some("fd"));
    seen.extend(fs::read_link(process.join("exe")).is_ok().then_some("exe"));
    // As gdb(1) and strace(1) begin.
    let pid = pid.to_str().unwrap().parse().unwrap();
    seen.extend(attaches(pid).then_some("ptrace"));
    println!("\nseen: {}", seen.join(" "));
}

#[allow(unsafe_code, reason = "tracing has no safe form")]
fn attaches(pid: i32) -> bool {
    // SAFETY: both calls take numbers, and null pointers that are not followed.
    unsafe {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        let attached = libc::ptrace(libc::PTRACE_SEIZE, pid, nothing, nothing) == 0;
        if attached {
            libc::ptrace(libc::PTRACE_INTERRUPT, pid, nothing, nothing);
            let mut status = 0;
            libc::waitpid(pid, &raw mut status, libc::__WALL);
            libc::ptrace(libc::PTRACE_DETACH, pid, nothing, nothing);
        }
        attached
    }
}

#[test]
fn a_process_of_the_same_user_reads_nothing_of_the_daemon_and_cannot_trace_it() {
    let (_sandbox, home) = world();
    let uid = if geteuid().is_root() {
        NOBODY
    } else {
        geteuid().as_raw()
    };
    let program = home.copy_of(&programs().rolekeeperd);
    if geteuid().is_root() {
        give(home.path(), uid);
    }
    let daemon = home.daemon_from(as_user(home.command(&program), uid));
    let sleep = Killed(
        as_user(Command::new("sleep"), uid)
            .arg("1000")
            .spawn()
            .unwrap(),
    );
    let of_others = seen_by_a_neighbour(&home, uid, sleep.0.id());
    for file in ["environ", "maps", "fd", "exe"] {
        assert!(
            of_others.split(' ').any(|seen| seen == file),
            "{file} of its other processes: {of_others}"
        );
    }
    assert_eq!(seen_by_a_neighbour(&home, uid, daemon.pid()), "");
    let inspector = child_of(daemon.pid());
    assert_eq!(seen_by_a_neighbour(&home, uid, inspector), "");
    for pid in [daemon.pid(), inspector] {
        every_thread_is_confined(pid);
    }
    // One that has taken its own place has to hide anew.
    daemon.reload();
    assert_eq!(seen_by_a_neighbour(&home, uid, daemon.pid()), "");
    assert_eq!(
        child_of(daemon.pid()),
        inspector,
        "the next daemon has the same peer inspector"
    );
    for pid in [daemon.pid(), inspector] {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        every_thread_is_confined(pid);
        let limits = read("limits");
        let cores = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(cores.split_whitespace().nth(4), Some("0"), "{cores}");
        assert_eq!(
            fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(),
            0,
            "it is the kernel's"
        );
    }
}

/// From its first moment on the next process cannot be looked at, also not while it has yet to hide itself.
#[test]
fn a_reload_opens_nothing_to_another_process_of_the_same_user() {
    let (_sandbox, home) = world();
    let uid = if geteuid().is_root() {
        NOBODY
    } else {
        geteuid().as_raw()
    };
    let program = home.copy_of(&programs().rolekeeperd);
    let me = home.path().join("neighbour");
    assert!(
        Command::new("cp")
            .arg(std::env::current_exe().unwrap())
            .arg(&me)
            .status()
            .unwrap()
            .success()
    );
    fs::set_permissions(&me, fs::Permissions::from_mode(0o755)).unwrap();
    if geteuid().is_root() {
        give(home.path(), uid);
    }
    let daemon = home.daemon_from(as_user(home.command(&program), uid));
    let mut watcher = home.command(&me);
    watcher.args(["--exact", "hardening::what_the_watcher_does", "--nocapture"]);
    watcher.env("ROLEKEEPER_TEST_NEIGHBOUR", daemon.pid().to_string());
    watcher
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut watcher = as_user(watcher, uid).spawn().unwrap();
    for _ in 0..20 {
        daemon.reload();
    }
    drop(watcher.stdin.take());
    let output = watcher.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("watched: "))
        .unwrap_or_else(|| panic!("{text}"));
    let looks: u64 = line.split(' ').next().unwrap().parse().unwrap();
    assert!(looks > 1_000 && line.ends_with(" times, seen 0"), "{line}");
}

/// A part of the test above: looks as fast as it can, until its standard input ends.
#[test]
fn what_the_watcher_does() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let Some(pid) = std::env::var_os("ROLEKEEPER_TEST_NEIGHBOUR") else {
        return;
    };
    let process = PathBuf::from("/proc").join(pid);
    static OVER: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(|| {
        let _ = std::io::Read::read_to_end(&mut std::io::stdin(), &mut Vec::new());
        OVER.store(true, Ordering::Relaxed);
    });
    let (mut looks, mut seen) = (0_u64, 0_u64);
    while !OVER.load(Ordering::Relaxed) {
        looks += 1;
        let found =
            fs::read_dir(process.join("fd")).is_ok() || fs::File::open(process.join("mem")).is_ok();
        seen += u64::from(found);
    }
    println!("\nwatched: {looks} times, seen {seen}");
}

/// A thread that was started before the others were confined would be a way out for all of them.
fn every_thread_is_confined(pid: u32) {
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

/// The one process that a process has started.
fn child_of(pid: u32) -> u32 {
    let children = children_of(pid);
    assert_eq!(children.len(), 1);
    children[0]
}

fn children_of(pid: u32) -> Vec<u32> {
    let children = |task: PathBuf| fs::read_to_string(task.join("children")).unwrap_or_default();
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|task| task.unwrap().path());
    let all: String = tasks.map(children).collect();
    all.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// Everything that a process could find in its memory.
fn memory_of(pid: u32) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mem = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let (from, to) = (
            u64::from_str_radix(from, 16).unwrap(),
            u64::from_str_radix(to, 16).unwrap(),
        );
        let mut some = vec![0; usize::try_from(to - from).unwrap()];
        if mem.read_exact_at(&mut some, from).is_ok() {
            all.extend(some);
        }
    }
    all
}

fn holds(memory: &[u8], secret: &str) -> bool {
    memory
        .windows(secret.len())
        .any(|window| window == secret.as_bytes())
}

/// Needs root, which alone can look.
#[test]
fn nothing_of_a_session_is_left_in_memory_once_it_is_revoked() {
    if !geteuid().is_root() {
        return;
    }
    let (sandbox, home) = world();
    let daemon = home.daemon(&[]);
    let lease = home.rolekeeper(&["credential-process", "dev"]).json();
    let secrets =
        ["SecretAccessKey", "SessionToken"].map(|name| lease[name].as_str().unwrap().to_owned());
    let token = sandbox.token("dev").to_owned();
    let memory = memory_of(daemon.pid());
    for secret in &secrets {
        assert!(
            holds(&memory, secret),
            "a session that is served is in memory: this test can find it"
        );
    }
    // With the connection that it was sent over.
    eventually("the token is wiped", || {
        (!holds(&memory_of(daemon.pid()), &token)).then_some(())
    });
    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);
    eventually("it is wiped", || {
        let memory = memory_of(daemon.pid());
        secrets
            .iter()
            .all(|secret| !holds(&memory, secret))
            .then_some(())
    });
    let inspector = memory_of(child_of(daemon.pid()));
    assert!(
        !secrets
            .iter()
            .chain([&token])
            .any(|secret| holds(&inspector, secret))
    );
}

#[test]
fn what_is_in_force_is_shown() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let status = home.rolekeeper(&["status", "--json"]).json();
    let protection = &status["daemon"]["protection"];
    assert_eq!(
        (&protection["landlock"], &protection["seccomp"]),
        (&"active".into(), &"active".into()),
        "{protection}"
    );
    let memory = protection["memory"].as_str().unwrap();
    assert!(
        memory == "active" || memory.contains("may be swapped out"),
        "{protection}"
    );
    assert!(
        home.rolekeeper(&["status"])
            .stdout
            .contains("Landlock active; seccomp active")
    );
}

/// A password manager may need anything, and the daemon does not.
#[test]
fn a_program_that_prints_the_token_is_not_confined_and_the_daemon_is() {
    let (_sandbox, home) = world();
    let elsewhere = tempfile::tempdir().unwrap();
    let token = elsewhere.path().join("token");
    fs::rename(home.path().join("dev.token"), &token).unwrap();
    let text = fs::read_to_string(home.config_path()).unwrap();
    let (before, rest) = text.split_once("token = ").unwrap();
    let after = rest.split_once('\n').unwrap().1;
    let print = |script: &str| {
        let script = format!("{script} {}", token.display());
        home.configure(&format!(
            "{before}token = {{ command = [\"sh\", \"-c\", {script:?}], keep = \"0s\" }}\n{after}"
        ));
    };
    // What does not end the daemon's processes is for this one to end by.
    print("sleep 1000 & kill $!; wait $!; cat");
    let daemon = home.daemon(&[]);
    let pid = |pid: u32| rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let refresh = || home.rolekeeper(&["refresh", "dev"]);
    assert_eq!(refresh().code, 0);
    let helpers = children_of(daemon.pid());
    assert_eq!(helpers.len(), 2);
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        helpers
            .iter()
            .for_each(|helper| rustix::process::kill_process(pid(*helper), signal).unwrap());
    }
    assert_eq!(refresh().code, 0);
    assert!(
        home.rolekeeper(&["status"])
            .stdout
            .contains("Landlock active; seccomp active")
    );
    daemon.reload();
    assert_eq!(
        refresh().code,
        0,
        "what was started before it starts it still"
    );
    print("cat");
    daemon.reload();
    let unknown = refresh();
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
        if fs::read_to_string(format!("/proc/{helper}/cmdline"))
            .unwrap()
            .contains("command-helper")
        {
            rustix::process::kill_process(pid(helper), rustix::process::Signal::KILL).unwrap();
        }
    }
    let gone = refresh();
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
fn a_token_that_is_a_link_to_somewhere_else_is_read() {
    let (_sandbox, home) = world();
    let elsewhere = tempfile::tempdir().unwrap();
    let token = home.path().join("dev.token");
    let real = elsewhere.path().join("token");
    fs::rename(&token, &real).unwrap();
    std::os::unix::fs::symlink(&real, &token).unwrap();
    let _daemon = home.daemon(&[]);
    assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 0);
}

/// Without it the daemon cannot identify callers, and rejects those that a rule needs to identify.
#[test]
fn exited_peer_inspector_blocks_only_profiles_with_rules() {
    let (_sandbox, home) = world();
    let me = std::env::current_exe().unwrap();
    let text = fs::read_to_string(home.config_path()).unwrap();
    let (_, dev) = text.split_once("[profile.dev]\n").unwrap();
    home.configure(&format!(
        "{text}[profile.ruled]\n{dev}callers = [{{ exe = {me:?} }}]\n"
    ));
    let daemon = home.daemon(&[]);
    let ask = |profile| home.rolekeeper(&["credential-process", profile]);
    assert_eq!((ask("dev").code, ask("ruled").code), (0, 0));
    let pid = |pid: u32| rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let inspector = pid(child_of(daemon.pid()));
    // What is said to all processes of a terminal, or of a service, does not end it before the daemon.
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        rustix::process::kill_process(inspector, signal).unwrap();
    }
    assert_eq!(ask("ruled").code, 0);
    rustix::process::kill_process(inspector, rustix::process::Signal::KILL).unwrap();
    eventually("it is gone", || {
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

/// Landlock cannot be undone, also not by what takes a confined process's place.
#[test]
fn a_reloaded_daemon_reads_no_more_than_the_one_before_and_says_so() {
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
