//! What other processes cost a good client while they send as fast as they can: strangers that connect and close, send half
//! a frame or junk, and one served user with leases, guarded leases and hashes. Each measurement alternates with the same one
//! without them, and with processes that only use the processors. Needs root, to start processes of other users.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rolekeeper_tests::harness::raw_client::{
    challenge_response, is_lease, lease_request, nonce, read_reply,
};
use rolekeeper_tests::harness::{Home, SandboxProcess};

use report::{micros, percentile, row};

#[path = "report.rs"]
mod report;

const STRANGER: u32 = 64_111;
const SERVED: u32 = 65_534;

/// How many processes flood.
const PROCESSES: usize = 2;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flood, kind, socket] = arguments.as_slice()
        && flood == "flood"
    {
        return send_flood(kind, Path::new(socket));
    }
    // `cargo bench` passes `--bench`. `cargo test` does not, and so runs no benchmark.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("floods: left out, since it starts processes of other users, which needs root");
        return;
    }

    println!("{:58} {:>12} {:>12}", "p99 of a good client", "", "bound");
    let sandbox = SandboxProcess::start(&[]);
    sandbox.lower_priority();
    for is_shared in [false, true] {
        for has_rules in [false, true] {
            measure(&sandbox, is_shared, has_rules);
        }
    }
}

fn measure(sandbox: &SandboxProcess, is_shared: bool, has_rules: bool) {
    let home = Home::default();
    home.configure_for(
        sandbox,
        "dev",
        &[
            ("open", "S3ReadOnly"),
            ("ruled", "S3ReadOnly"),
            ("hashed", "S3ReadOnly"),
        ],
    );
    let program = home.copy_of(&std::env::current_exe().expect("this program"));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("the copy is mine");
    configure(&home, &program, is_shared, has_rules);
    let daemon = home.daemon(&[]);
    if is_shared {
        open_to_others(&home);
    }

    let whose = if is_shared { "shared" } else { "own" };
    let rules = if has_rules {
        "with rules"
    } else {
        "without rules"
    };
    let uid = if is_shared { STRANGER } else { 0 };
    for flood in ["spin", "close", "half", "junk"] {
        let lines = daemon.log().lines().count();
        let started = Instant::now();
        compare(
            &home,
            &program,
            &format!("{whose} daemon {rules}, {flood}"),
            flood,
            uid,
            "open",
            "<= 2",
        );
        let lines = daemon.log().lines().count() - lines;
        let minutes = started.elapsed().as_secs_f64() / 60.0;
        row(
            "  log lines",
            format!("{lines} in {minutes:.1} min"),
            "< 10 a min",
        );
    }

    if !is_shared {
        return;
    }
    for (flood, asks) in [
        ("lease", "open"),
        ("ruled", "ruled"),
        ("hashed", "hashed"),
        ("fork", "ruled"),
    ] {
        if has_rules || flood == "lease" {
            let what = format!("a served user's {flood} requests, another's {asks}");
            compare(&home, &program, &what, flood, SERVED, asks, "<= 3");
        }
    }
}

fn configure(home: &Home, program: &Path, is_shared: bool, has_rules: bool) {
    let mut text = fs::read_to_string(home.config_path()).expect("a configuration");
    let me = std::env::current_exe().expect("this program");
    let rules = [
        ("open", String::new()),
        (
            "ruled",
            format!("callers = [{{ exe = {me:?} }}, {{ exe = {program:?} }}]\n"),
        ),
        (
            "hashed",
            format!("callers = [{{ sha256 = \"{}\" }}]\n", sha256(&me)),
        ),
    ];
    for (profile, rule) in rules {
        let users = if is_shared {
            format!("users = [{SERVED}]\n")
        } else {
            String::new()
        };
        let rule = if has_rules { rule } else { String::new() };
        let head = format!("[profile.{profile}]\n");
        text = text.replace(&head, &format!("{head}{users}{rule}"));
    }
    home.configure(&text);
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum")
        .arg(path)
        .output()
        .expect("sha256sum starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.split_whitespace().next().expect("a hash").to_owned()
}

fn open_to_others(home: &Home) {
    for path in home.socket_and_folders() {
        let mode = if path == home.socket() { 0o666 } else { 0o755 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the folders are mine");
    }
}

/// The good client alone and beside the flood, in turn, since the speed of a machine varies.
fn compare(
    home: &Home,
    program: &Path,
    what: &str,
    flood: &str,
    uid: u32,
    profile: &str,
    bound: &str,
) {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let mut refused = 0;
    for _ in 0..3 {
        refused += ask_often(&home.socket(), profile, &mut alone);
        let _flood = Flood::start(program, flood, &home.socket(), uid);
        thread::sleep(Duration::from_millis(300));
        refused += ask_often(&home.socket(), profile, &mut beside);
    }
    let medians = [&alone, &beside].map(|times| micros(percentile(times.clone(), 50)));
    let [alone, beside] = [alone, beside].map(|times| percentile(times, 99));
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    row(what, format!("{} -> {}", micros(alone), micros(beside)), "");
    row("  medians", medians.join(" -> "), "");
    row("  ratio", format!("{ratio:.2}"), bound);
    row("  refused", refused, "0");
}

/// New connections with one lease each. Returns how many were refused.
fn ask_often(socket: &Path, profile: &str, times: &mut Vec<Duration>) -> usize {
    let mut refused = 0;
    for _ in 0..1_000 {
        let started = Instant::now();
        refused += usize::from(!is_served(socket, profile));
        times.push(started.elapsed());
        thread::sleep(Duration::from_micros(200));
    }
    refused
}

fn is_served(socket: &Path, profile: &str) -> bool {
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    let _ = stream.write_all(&lease_request(profile));
    let Ok(mut reply) = read_reply(&mut stream) else {
        return false;
    };
    if let Some(nonce) = nonce(&reply) {
        let _ = stream.write_all(&challenge_response(nonce));
        reply = match read_reply(&mut stream) {
            Ok(reply) => reply,
            Err(_) => return false,
        };
    }
    is_lease(&reply)
}

struct Flood(Vec<Child>);

impl Flood {
    fn start(program: &Path, kind: &str, socket: &Path, uid: u32) -> Self {
        let start = |_| {
            let mut command = Command::new(program);
            command
                .args(["flood", kind])
                .arg(socket)
                .uid(uid)
                .gid(uid)
                .current_dir("/");
            command
                .stdin(Stdio::null())
                .spawn()
                .expect("the flood starts")
        };
        Self((0..PROCESSES).map(start).collect())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
        // The daemon closes their connections.
        thread::sleep(Duration::from_millis(300));
    }
}

fn send_flood(kind: &str, socket: &Path) {
    let connect = || UnixStream::connect(socket);
    match kind {
        "spin" => loop {
            std::hint::spin_loop();
        },
        "close" => loop {
            let _ = connect();
        },
        "half" => loop {
            if let Ok(mut stream) = connect() {
                let _ = stream.write_all(&[0, 0]);
            }
        },
        "junk" => loop {
            if let Ok(mut stream) = connect() {
                let _ = stream.write_all(b"\xff\xff\xff\xffjunk");
            }
        },
        "fork" => loop {
            let me = std::env::current_exe().expect("this program");
            let children = (0..8).map(|_| {
                let mut child = Command::new(&me);
                child.args(["flood", "once"]).arg(socket).spawn()
            });
            for child in children.collect::<Vec<_>>().into_iter().flatten() {
                let _ = { child }.wait();
            }
        },
        "once" => once(socket, "ruled"),
        "hash-once" => once(socket, "hashed"),
        "hashed" => hash_flood(socket),
        profile => {
            let profile = if profile == "lease" { "open" } else { profile };
            many(|| once(socket, profile));
        }
    }
}

fn once(socket: &Path, profile: &str) {
    let _ = is_served(socket, profile);
}

fn many(act: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                loop {
                    act();
                }
            });
        }
    });
}

/// Copies of this program, each of 100 MiB and new, which so have to be hashed.
fn hash_flood(socket: &Path) {
    let me = std::env::current_exe().expect("this program");
    let folder = PathBuf::from(format!("/tmp/flood-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    for number in 0_u64.. {
        let copy = folder.join(number.to_string());
        fs::copy(&me, &copy).expect("a copy");
        let file = fs::OpenOptions::new()
            .write(true)
            .open(&copy)
            .expect("the copy is mine");
        file.set_len(100 * 1024 * 1024).expect("it grows");
        drop(file);
        let mut children: Vec<_> = (0..4)
            .filter_map(|_| {
                let mut command = Command::new(&copy);
                command.args(["flood", "hash-once"]).arg(socket);
                command.spawn().ok()
            })
            .collect();
        for child in &mut children {
            let _ = child.wait();
        }
        let _ = fs::remove_file(copy);
    }
}
