//! Measurements of leases, each beside a floor from the same run. `tests/bench` runs them.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rolekeeper::frame;
use rolekeeper_tests::harness::{Daemon, Home, SandboxProcess};
use serde_json::{Value, json};

use report::{micros, percentile, row};

#[path = "report.rs"]
mod report;

const PROFILES: usize = 1000;

fn main() {
    // `cargo bench` passes `--bench`. `cargo test` does not, and so runs no benchmark.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    println!("{:58} {:>12} {:>12}", "", "measured", "bound");
    let names: Vec<_> = (0..PROFILES)
        .map(|number| format!("p{number:04}"))
        .collect();
    reads_during_refreshes(&names);
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
    // While a lease is valid, the daemon polls for revocations. With a short lease it soon becomes idle.
    home.configure_more("", "lease = \"30s\"");
    let daemon = home.daemon(&[]);
    row(
        "resident, idle, 1,000 profiles configured",
        megabytes(&daemon),
        "12 MiB",
    );
    let mut stream = connect(&home);
    for name in &names {
        assert!(exchange(&mut stream, &request(name))["reply"]["lease"].is_object());
    }
    row("resident, 1,000 sessions", megabytes(&daemon), "20 MiB");
    credential_process(&home);
    for (connections, in_flight) in [(1, 1), (1, 4), (2, 1), (4, 1)] {
        warm_requests(&home, connections, in_flight);
    }
    row(
        "resident, after these requests",
        megabytes(&daemon),
        "20 MiB",
    );
    drop(stream);
    idle(&daemon);
    drop(daemon);
    cold_start(&sandbox);
    lease_after_kill(&sandbox);
    thundering_herd(&sandbox);
}

/// How often a daemon with 1,000 sessions wakes up in a minute without requests. Before that minute, it has time for its last
/// poll for revocations, and to close its connections to the upstream.
fn idle(daemon: &Daemon<'_>) {
    std::thread::sleep(Duration::from_secs(130));
    let before = switches(daemon);
    std::thread::sleep(Duration::from_secs(60));
    row(
        "times woken in an idle minute, with 1,000 sessions",
        switches(daemon) - before,
        "0",
    );
}

/// Voluntary context switches of all threads.
fn switches(daemon: &Daemon<'_>) -> u64 {
    report::context_switches(&format!("/proc/{}/task", daemon.pid()))
}

/// Reads at a low rate without refreshes, and while 1,000 profiles are refreshed.
fn reads_during_refreshes(names: &[String]) {
    // Sessions of 60 s are served for 45 s, so every refresh is between the 24th second and the 32nd.
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
        assert!(exchange(&mut stream, &request(name))["reply"]["lease"].is_object());
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
            let started = Instant::now();
            stream.write_all(&request).expect("it is sent");
            frame::read(&mut stream).expect("a reply");
            times.push(started.elapsed());
            std::thread::sleep(Duration::from_micros(300));
        }
        percentile(times, 99)
    };
    let quiet = p99(6, 14);
    let calls = sandbox.calls("assumeRole");
    let busy = p99(24, 32);
    let refreshed = sandbox.calls("assumeRole") - calls;
    row("p99 of warm reads, without refreshes", micros(quiet), "");
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

/// From a kill to the next lease, by a daemon that finds the stale socket.
fn lease_after_kill(sandbox: &SandboxProcess) {
    let home = Home::default();
    home.configure_for(sandbox, "dev", &[("p0000", "S3ReadOnly")]);
    let mut daemon = home.daemon(&[]);
    let mut times = Vec::new();
    for _ in 0..20 {
        daemon.kill();
        let started = Instant::now();
        daemon = home.daemon(&[]);
        assert!(exchange(&mut connect(&home), &request("p0000"))["reply"]["lease"].is_object());
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

fn exchange(stream: &mut UnixStream, request: &[u8]) -> Value {
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
fn credential_process(home: &Home) {
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

/// Requests on open connections with several in flight, against a server that only copies bytes. One in flight on one
/// connection measures the time to wake a process, twice for each request.
fn warm_requests(home: &Home, connections: usize, in_flight: usize) {
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
                let bytes = vec![b' '; reply];
                while stream.read_exact(&mut request).is_ok() && stream.write_all(&bytes).is_ok() {}
            });
        }
    });
    let (floor_rate, floor_p99) = load(connections, in_flight, reply, &echo);
    let what =
        format!("warm requests a second, {connections} open connection(s), {in_flight} in flight");
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

/// Every reply has the same length, so the number of bytes gives the number of replies.
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
                    let mut times = Vec::with_capacity(EACH);
                    let mut sent = VecDeque::new();
                    let mut bytes = 0;
                    while times.len() < EACH {
                        let more = in_flight - sent.len();
                        sent.extend(std::iter::repeat_n(Instant::now(), more));
                        stream.write_all(&request.repeat(more)).expect("it is sent");
                        bytes += stream.read(&mut buffer).expect("a reply");
                        for _ in 0..bytes / reply {
                            times.push(sent.pop_front().expect("it was sent").elapsed());
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

/// From the start of the daemon's process to the first lease, less the time of the upstream.
fn cold_start(sandbox: &SandboxProcess) {
    let mut starts = Vec::new();
    let mut upstream = Vec::new();
    for _ in 0..20 {
        let home = Home::default();
        home.configure_for(sandbox, "dev", &[("p0000", "S3ReadOnly")]);
        let started = Instant::now();
        let _daemon = home.daemon(&[]);
        assert!(exchange(&mut connect(&home), &request("p0000"))["reply"]["lease"].is_object());
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

/// 5,000 cold requests for one role, while the upstream takes 2 s.
fn thundering_herd(sandbox: &SandboxProcess) {
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
        "  until the last reply, less the upstream's 2 s",
        micros(took.saturating_sub(Duration::from_secs(2))),
        "",
    );
}
