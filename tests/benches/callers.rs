//! The costs of caller rules, and of misbehaving clients for others. Each measurement alternates with the same one without
//! them.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rolekeeper::frame;
use rolekeeper_tests::harness::{Home, SandboxProcess, StopOnDrop};
use serde_json::{Value, json};

use report::{micros, percentile, row};

#[path = "report.rs"]
mod report;

fn main() {
    // `cargo bench` passes `--bench`. `cargo test` does not, and so runs no benchmark.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    println!("{:58} {:>12} {:>12}", "", "measured", "bound");
    let sandbox = SandboxProcess::start(&[]);
    sandbox.lower_priority();
    let home = Home::default();
    home.configure_for(
        &sandbox,
        "dev",
        &[("open", "S3ReadOnly"), ("ruled", "S3ReadOnly")],
    );
    {
        let _daemon = home.daemon(&[]);
        crowded(&home, "p99 of a well-behaved client, alone");
    }
    let me = std::env::current_exe().expect("this program");
    let text = std::fs::read_to_string(home.config_path()).expect("a configuration");
    let rule = format!(
        "callers = [{{ exe = {me:?}, sha256 = \"{}\", terminal = false }}]",
        hash(&me)
    );
    home.configure(&format!("{text}{rule}\n"));
    let _daemon = home.daemon(&[]);
    open_connection(&home);
    new_connection(&home);
    crowded(&home, "the same with rules, so that each peer is inspected");
}

fn hash(path: &std::path::Path) -> String {
    let output = std::process::Command::new("sha256sum")
        .arg(path)
        .output()
        .expect("sha256sum starts");
    String::from_utf8(output.stdout)
        .expect("UTF-8")
        .split_whitespace()
        .next()
        .expect("a hash")
        .to_owned()
}

fn request(profile: &str) -> Vec<u8> {
    frame::encode(&json!({ "v": 1, "request": { "lease": { "profile": profile } } }))
        .expect("a frame")
}

fn connect(home: &Home) -> UnixStream {
    UnixStream::connect(home.socket()).expect("the daemon listens")
}

/// Requests a lease, and responds to a challenge.
fn lease(stream: &mut UnixStream, request: &[u8]) {
    stream.write_all(request).expect("it is sent");
    let mut text = frame::read(stream).expect("a reply");
    if text.starts_with(br#"{"v":1,"reply":{"challenge""#) {
        let challenge: Value = serde_json::from_slice(&text).expect("JSON");
        let nonce = &challenge["reply"]["challenge"]["nonce"];
        let response = json!({ "v": 1, "request": { "challenge_response": { "nonce": nonce } } });
        stream
            .write_all(&frame::encode(&response).expect("a frame"))
            .expect("it is sent");
        text = frame::read(stream).expect("a reply");
    }
    assert!(
        text.starts_with(br#"{"v":1,"reply":{"lease""#),
        "{}",
        String::from_utf8_lossy(&text)
    );
}

/// On one open connection for each profile, in turn.
fn open_connection(home: &Home) {
    let open = request("open");
    let ruled = request("ruled");
    let mut streams = [connect(home), connect(home)];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..40_000 {
        for (index, request) in [&open, &ruled].into_iter().enumerate() {
            let started = Instant::now();
            lease(&mut streams[index], request);
            if round > 1_000 {
                times[index].push(started.elapsed());
            }
        }
    }
    // The peer inspector compares the program again for each request.
    print("a warm request on an open connection", &times, "60 us");
}

/// With a new connection for each request.
fn new_connection(home: &Home) {
    let open = request("open");
    let ruled = request("ruled");
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..4_000 {
        for (index, request) in [&open, &ruled].into_iter().enumerate() {
            let started = Instant::now();
            lease(&mut connect(home), request);
            if round > 100 {
                times[index].push(started.elapsed());
            }
        }
    }
    print("a warm request, connection included", &times, "");
}

fn print(what: &str, times: &[Vec<Duration>; 2], bound: &str) {
    let [open, ruled] = times.each_ref().map(|times| percentile(times.clone(), 50));
    row(&format!("{what}, median"), micros(open), "");
    row("  for a profile with caller rules", micros(ruled), "");
    row("  difference", micros(ruled.saturating_sub(open)), bound);
}

/// A well-behaved client beside a thousand others. Half of them send a part of a frame and stop, and half send junk as fast
/// as they can.
fn crowded(home: &Home, what: &str) {
    let request = request("open");
    let mut stream = connect(home);
    let mut alone = Vec::new();
    let mut among = Vec::new();
    // In turn, since the speed of a machine varies.
    for _ in 0..6 {
        alone.extend(lease_times(&mut stream, &request));
        beside_a_crowd(home, || among.extend(lease_times(&mut stream, &request)));
        // The daemon closes the connections of the crowd.
        thread::sleep(Duration::from_millis(500));
    }
    let [alone, among] = [alone, among].map(|times| percentile(times, 99));
    row(what, micros(alone), "");
    row(
        "  among 1,000 that are slow, or send junk",
        micros(among),
        "",
    );
    row(
        "  ratio",
        format!("{:.2}", among.as_secs_f64() / alone.as_secs_f64()),
        "<= 2",
    );
}

fn lease_times(stream: &mut UnixStream, request: &[u8]) -> Vec<Duration> {
    let pause = Duration::from_micros(200);
    let mut times = Vec::new();
    for _ in 0..2_000 {
        let started = Instant::now();
        lease(stream, request);
        thread::sleep(pause);
        times.push(started.elapsed().saturating_sub(pause));
    }

    times
}

fn beside_a_crowd(home: &Home, act: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // The daemon disconnects them after 5 s.
                let streams: Vec<_> = (0..500)
                    .map(|_| {
                        let mut stream = connect(home);
                        let _ = stream.write_all(&[0, 0]);
                        stream
                    })
                    .collect();
                let until = Instant::now() + Duration::from_secs(4);
                while Instant::now() < until && !stop.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(20));
                }
                drop(streams);
            }
        });
        scope.spawn(|| {
            let mut streams: Vec<_> = (0..500).map(|_| connect(home)).collect();
            while !stop.load(Ordering::Relaxed) {
                for stream in &mut streams {
                    // The daemon replies to junk with an error, and disconnects.
                    if stream.write_all(b"\xff\xff\xff\xffjunk").is_err() {
                        *stream = connect(home);
                    }
                    thread::sleep(Duration::from_micros(500));
                }
            }
        });
        thread::sleep(Duration::from_millis(500));
        act();
    });
}
