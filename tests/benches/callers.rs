//! What rules about callers cost, and what a crowd costs others. Each beside the same without it, in turn, in one run.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rolekeeper::frame;
use rolekeeper_tests::harness::{Home, SandboxProcess, StopOnDrop};
use serde_json::{Value, json};

use shown::{micros, percentile, row};

#[path = "shown.rs"]
mod shown;

fn main() {
    // cargo passes `--bench`; tests of the workspace pass nothing, and get nothing.
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
        crowded(&home, "p99 of a good client, alone");
    }
    let me = std::env::current_exe().expect("this program");
    let text = std::fs::read_to_string(home.config_path()).expect("a configuration");
    let rule = format!(
        "callers = [{{ exe = {me:?}, sha256 = \"{}\", terminal = false }}]",
        hash(&me)
    );
    home.configure(&format!("{text}{rule}\n"));
    let _daemon = home.daemon(&[]);
    held(&home);
    anew(&home);
    crowded(
        &home,
        "the same where there are rules, and who connects is looked at",
    );
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

/// A lease, with the word said that is asked for.
fn lease(stream: &mut UnixStream, request: &[u8]) {
    stream.write_all(request).expect("it is sent");
    let mut text = frame::read(stream).expect("a reply");
    if text.starts_with(br#"{"v":1,"reply":{"challenge""#) {
        let asked: Value = serde_json::from_slice(&text).expect("JSON");
        let word = &asked["reply"]["challenge"]["nonce"];
        let proof = json!({ "v": 1, "request": { "challenge_response": { "nonce": word } } });
        stream
            .write_all(&frame::encode(&proof).expect("a frame"))
            .expect("it is sent");
        text = frame::read(stream).expect("a reply");
    }
    assert!(
        text.starts_with(br#"{"v":1,"reply":{"lease""#),
        "{}",
        String::from_utf8_lossy(&text)
    );
}

/// On a connection that is held, in turn.
fn held(home: &Home) {
    let open = request("open");
    let ruled = request("ruled");
    let mut streams = [connect(home), connect(home)];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..40_000 {
        for (at, request) in [&open, &ruled].into_iter().enumerate() {
            let asked = Instant::now();
            lease(&mut streams[at], request);
            if round > 1_000 {
                times[at].push(asked.elapsed());
            }
        }
    }
    report("a warm request on a held connection", &times, "20 us");
}

/// With a connection for each.
fn anew(home: &Home) {
    let open = request("open");
    let ruled = request("ruled");
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..4_000 {
        for (at, request) in [&open, &ruled].into_iter().enumerate() {
            let asked = Instant::now();
            lease(&mut connect(home), request);
            if round > 100 {
                times[at].push(asked.elapsed());
            }
        }
    }
    report("a warm request, connection included", &times, "");
}

fn report(what: &str, times: &[Vec<Duration>; 2], bound: &str) {
    let [open, ruled] = times.each_ref().map(|times| percentile(times.clone(), 50));
    row(&format!("{what}, median"), micros(open), "");
    row("  by a profile with rules about callers", micros(ruled), "");
    row("  more", micros(ruled.saturating_sub(open)), bound);
}

/// A good client beside a thousand others, half of which send a part of a frame and no more, and half of which send junk, as
/// fast as they are let.
fn crowded(home: &Home, what: &str) {
    let request = request("open");
    let mut stream = connect(home);
    let mut some = |times: &mut Vec<Duration>| {
        for _ in 0..2_000 {
            let asked = Instant::now();
            lease(&mut stream, &request);
            thread::sleep(Duration::from_micros(200));
            times.push(asked.elapsed().saturating_sub(Duration::from_micros(200)));
        }
    };
    let mut alone = Vec::new();
    let mut among = Vec::new();
    // In turn: a machine is not the same for long.
    for _ in 0..6 {
        some(&mut alone);
        beside_a_crowd(home, || some(&mut among));
        // What the crowd has left behind is closed.
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

fn beside_a_crowd(home: &Home, act: impl FnOnce()) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = StopOnDrop(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // They are put out after 5 s.
                let held: Vec<_> = (0..500)
                    .map(|_| {
                        let mut stream = connect(home);
                        let _ = stream.write_all(&[0, 0]);
                        stream
                    })
                    .collect();
                let until = Instant::now() + Duration::from_secs(4);
                while Instant::now() < until && !over.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(20));
                }
                drop(held);
            }
        });
        scope.spawn(|| {
            let mut held: Vec<_> = (0..500).map(|_| connect(home)).collect();
            while !over.load(Ordering::Relaxed) {
                for stream in &mut held {
                    // Whoever sends junk is answered, and put out.
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
