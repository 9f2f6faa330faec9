//! The numbers of the main job, each beside a floor that is measured in the same run. Run it by `tests/bench`.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rolekeeper::frame;
use rolekeeper_tests::harness::{Daemon, Home, SandboxProcess};
use serde_json::{Value, json};

use shown::{micros, percentile, row};

#[path = "shown.rs"]
mod shown;

const PROFILES: usize = 1000;

fn main() {
    // cargo passes `--bench`; tests of the workspace pass nothing, and get nothing.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    println!("{:58} {:>12} {:>12}", "", "measured", "bound");
    let names: Vec<_> = (0..PROFILES)
        .map(|number| format!("p{number:04}"))
        .collect();
    refreshed_meanwhile(&names);
    if std::env::args().any(|arg| arg == "refreshed") {
        return;
    }
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(
        &sandbox,
        "dev",
        &names
            .iter()
            .map(|name| (name.as_str(), "S3ReadOnly"))
            .collect::<Vec<_>>(),
    );
    // While somebody holds a lease, the upstream is asked for revocations: nobody does by the time that it is idle.
    home.configure_more("", "lease = \"30s\"");
    let daemon = home.daemon(&[]);
    row(
        "resident, idle, 1,000 profiles configured",
        megabytes(&daemon),
        "12 MiB",
    );
    let mut stream = connect(&home);
    for name in &names {
        assert!(ask(&mut stream, &request(name))["reply"]["lease"].is_object());
    }
    row(
        "resident, 1,000 sessions held",
        megabytes(&daemon),
        "20 MiB",
    );
    processes(&home);
    for (connections, in_flight) in [(1, 1), (1, 4), (2, 1), (4, 1)] {
        warm(&home, connections, in_flight);
    }
    row("resident, after all of this", megabytes(&daemon), "20 MiB");
    drop(stream);
    idle(&daemon);
    drop(daemon);
    cold_start(&sandbox);
    killed(&sandbox);
    herd(&sandbox);
}

/// How often a daemon that holds 1,000 sessions wakes up in a minute in which nobody asks. Before it, it is given the time to
/// look for revocations once more after the last lease has ended, and to close its connections to the upstream.
fn idle(daemon: &Daemon<'_>) {
    std::thread::sleep(Duration::from_secs(130));
    let before = switches(daemon);
    std::thread::sleep(Duration::from_secs(60));
    row(
        "times woken in an idle minute, 1,000 sessions held",
        switches(daemon) - before,
        "0",
    );
}

/// Voluntary context switches of all its threads.
fn switches(daemon: &Daemon<'_>) -> u64 {
    let count = |status: String| -> u64 {
        let line = status
            .lines()
            .find(|line| line.starts_with("voluntary_ctxt_switches"))
            .expect("a count");
        line.split_whitespace()
            .nth(1)
            .and_then(|count| count.parse().ok())
            .expect("a number")
    };
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs");
    let status =
        |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("status")).ok();
    threads.flatten().filter_map(status).map(count).sum()
}

/// Reads at an easy pace while nothing happens, and while every one of 1,000 profiles is refreshed.
fn refreshed_meanwhile(names: &[String]) {
    // 60 s of life are 45 s of service: every refresh falls between the 24th second and the 32nd.
    let sandbox = SandboxProcess::start(&["--max-session", "60"]);
    let home = Home::default();
    sandbox.lower_priority();
    home.configure_for(
        &sandbox,
        "dev",
        &names
            .iter()
            .map(|name| (name.as_str(), "S3ReadOnly"))
            .collect::<Vec<_>>(),
    );
    let _daemon = home.daemon(&[]);
    let started = Instant::now();
    let mut stream = connect(&home);
    for name in names {
        assert!(ask(&mut stream, &request(name))["reply"]["lease"].is_object());
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "the profiles took {:?}",
        started.elapsed()
    );
    let mut p99 = |from: u64, to: u64| {
        let from = started + Duration::from_secs(from);
        let to = started + Duration::from_secs(to);
        std::thread::sleep(from.saturating_duration_since(Instant::now()));
        let mut times = Vec::new();
        while Instant::now() < to {
            let request = request(&names[times.len() % names.len()]);
            let asked = Instant::now();
            stream.write_all(&request).expect("it is sent");
            frame::read(&mut stream).expect("a reply");
            times.push(asked.elapsed());
            std::thread::sleep(Duration::from_micros(300));
        }
        percentile(times, 99)
    };
    let quiet = p99(6, 14);
    let calls = sandbox.calls("assumeRole");
    let busy = p99(24, 32);
    let refreshed = sandbox.calls("assumeRole") - calls;
    row(
        "p99 of warm reads, nothing else going on",
        micros(quiet),
        "",
    );
    row(
        &format!("  while {refreshed} profiles are refreshed in 8 s"),
        micros(busy),
        "",
    );
    row(
        "  ratio",
        format!("{:.2}", busy.as_secs_f64() / quiet.as_secs_f64()),
        "<= 2",
    );
}

/// From a kill to the next lease, by a daemon that finds what the one before left behind.
fn killed(sandbox: &SandboxProcess) {
    let home = Home::default();
    home.configure_for(sandbox, "dev", &[("p0000", "S3ReadOnly")]);
    let mut daemon = home.daemon(&[]);
    let mut times = Vec::new();
    for _ in 0..20 {
        daemon.kill();
        let started = Instant::now();
        daemon = home.daemon(&[]);
        assert!(ask(&mut connect(&home), &request("p0000"))["reply"]["lease"].is_object());
        times.push(started.elapsed());
    }
    row(
        "from SIGKILL to the next lease, upstream included, median",
        micros(percentile(times.clone(), 50)),
        "100 ms",
    );
    row("  slowest of 20", micros(percentile(times, 99)), "100 ms");
}

fn request(profile: &str) -> Vec<u8> {
    frame::encode(&json!({ "v": 1, "request": { "lease": { "profile": profile } } }))
        .expect("a frame")
}

fn connect(home: &Home) -> UnixStream {
    UnixStream::connect(home.socket()).expect("the daemon listens")
}

fn ask(stream: &mut UnixStream, request: &[u8]) -> Value {
    stream.write_all(request).expect("it is sent");
    serde_json::from_slice(&frame::read(stream).expect("a reply")).expect("JSON")
}

fn megabytes(daemon: &Daemon<'_>) -> String {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("a size");
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number");
    format!("{:.1} MiB", kib / 1024.0)
}

/// `credential-process` against the floor and `/bin/true`, whole processes in turn.
fn processes(home: &Home) {
    let program =
        |variable: &str| PathBuf::from(std::env::var_os(variable).expect("tests/bench sets it"));
    let client = program("ROLEKEEPER_BENCH_CLIENT");
    let floor = program("ROLEKEEPER_BENCH_FLOOR");
    let time = |program: &PathBuf, args: &[&str]| {
        let mut command = home.command(program);
        command
            .args(args)
            .env("ROLEKEEPER_SOCKET", home.socket())
            .env("ROLEKEEPER_AUTOSTART", "0");
        run(command)
    };
    let mut times = [const { Vec::new() }; 3];
    for round in 0..1100 {
        let turn = [
            time(&client, &["credential-process", "p0000"]),
            time(&floor, &[]),
            time(&PathBuf::from("/bin/true"), &[]),
        ];
        // The first hundred warm the caches.
        if round >= 100 {
            times
                .iter_mut()
                .zip(turn)
                .for_each(|(times, time)| times.push(time));
        }
    }
    let [client, floor, none] = times.map(|times| percentile(times, 50));
    row(
        "credential-process, whole process, median",
        micros(client),
        "",
    );
    row("  bare std program (floor)", micros(floor), "");
    row("  /bin/true", micros(none), "");
    row(
        "  ratio to the floor",
        format!("{:.2}", client.as_secs_f64() / floor.as_secs_f64()),
        "<= 1.25",
    );
    row(
        "  ratio to /bin/true",
        format!("{:.2}", client.as_secs_f64() / none.as_secs_f64()),
        "< 1",
    );
}

fn run(mut command: Command) -> Duration {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let started = Instant::now();
    let mut child = command.spawn().expect("it starts");
    let mut out = Vec::new();
    child
        .stdout
        .take()
        .expect("it is piped")
        .read_to_end(&mut out)
        .expect("it is read");
    assert!(child.wait().expect("it ends").success());
    started.elapsed()
}

/// Requests on held connections, some in flight on each, against a server that only copies bytes. One in flight on one
/// connection measures how fast this machine wakes a process, twice a request.
fn warm(home: &Home, connections: usize, in_flight: usize) {
    let reply = {
        let mut stream = connect(home);
        stream.write_all(&request("p0000")).expect("it is sent");
        frame::read(&mut stream).expect("a reply").len() + 4
    };
    let (rate, p99) = load(connections, in_flight, reply, &home.socket());
    let echo = home.path().join("echo");
    let _ = std::fs::remove_file(&echo);
    let listener = UnixListener::bind(&echo).expect("a socket");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = vec![0; request("p0000").len()];
                let answer = vec![b' '; reply];
                while stream.read_exact(&mut request).is_ok() && stream.write_all(&answer).is_ok() {
                }
            });
        }
    });
    let (floor_rate, floor_p99) = load(connections, in_flight, reply, &echo);
    let what =
        format!("warm requests a second, {connections} held connection(s), {in_flight} in flight");
    row(&what, format!("{rate:.0}"), "30000");
    row("  p99", micros(p99), "150 us");
    row(
        "  server that only copies bytes (floor)",
        format!("{floor_rate:.0}"),
        "",
    );
    row("  its p99", micros(floor_p99), "");
    row("  ratio of rates", format!("{:.2}", rate / floor_rate), "");
}

/// Every reply of the same request has the same length, so replies can be counted as bytes.
fn load(
    connections: usize,
    in_flight: usize,
    reply: usize,
    socket: &std::path::Path,
) -> (f64, Duration) {
    const EACH: usize = 100_000;
    let request = request("p0000");
    let started = Instant::now();
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| {
                    let mut stream = UnixStream::connect(socket).expect("it listens");
                    let mut buffer = vec![0; 64 * 1024];
                    let (mut times, mut asked, mut bytes) =
                        (Vec::with_capacity(EACH), VecDeque::new(), 0);
                    while times.len() < EACH {
                        let more = in_flight - asked.len();
                        asked.extend(std::iter::repeat_n(Instant::now(), more));
                        stream.write_all(&request.repeat(more)).expect("it is sent");
                        bytes += stream.read(&mut buffer).expect("a reply");
                        for _ in 0..bytes / reply {
                            times.push(asked.pop_front().expect("it was asked for").elapsed());
                        }
                        bytes %= reply;
                    }
                    times
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("it ends"))
            .collect()
    });
    let rate =
        f64::from(u32::try_from(times.len()).expect("a number")) / started.elapsed().as_secs_f64();
    (rate, percentile(times, 99))
}

/// From the start of the daemon's process to the first lease, less what the upstream alone takes.
fn cold_start(sandbox: &SandboxProcess) {
    let mut starts = Vec::new();
    let mut upstream = Vec::new();
    for _ in 0..20 {
        let home = Home::default();
        home.configure_for(sandbox, "dev", &[("p0000", "S3ReadOnly")]);
        let started = Instant::now();
        let _daemon = home.daemon(&[]);
        assert!(ask(&mut connect(&home), &request("p0000"))["reply"]["lease"].is_object());
        starts.push(started.elapsed());
        let path = format!("/roles/{}/assume", sandbox.role("S3ReadOnly"));
        let started = Instant::now();
        assert_eq!(
            sandbox
                .api(sandbox.token("dev"), "POST", &path, Some(&json!({})))
                .0,
            201
        );
        upstream.push(started.elapsed());
    }
    let start = percentile(starts, 50);
    let upstream = percentile(upstream, 50);
    row(
        "start to first lease, less the upstream, median",
        micros(start.saturating_sub(upstream)),
        "30 ms",
    );
}

/// 5,000 cold requests for one role while the upstream takes 2 s.
fn herd(sandbox: &SandboxProcess) {
    let home = Home::default();
    home.configure_for(sandbox, "dev", &[("p0000", "S3ReadOnly")]);
    let _daemon = home.daemon(&[]);
    let before = sandbox.calls("assumeRole");
    sandbox.fault(&json!({ "kind": "delay", "ms": 2000 }));
    let started = Instant::now();
    let mut waiting: Vec<_> = (0..5000)
        .map(|_| {
            let mut stream = connect(&home);
            stream.write_all(&request("p0000")).expect("it is sent");
            stream
        })
        .collect();
    for stream in &mut waiting {
        let reply: Value =
            serde_json::from_slice(&frame::read(stream).expect("a reply")).expect("JSON");
        assert!(reply["reply"]["lease"].is_object());
    }
    let took = started.elapsed();
    sandbox.clear_faults();
    row(
        "assumeRole calls for 5,000 cold requests",
        sandbox.calls("assumeRole") - before,
        "1",
    );
    row(
        "  until the last was answered, less the upstream's 2 s",
        micros(took.saturating_sub(Duration::from_secs(2))),
        "",
    );
}
