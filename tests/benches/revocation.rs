//! The time until a revocation is in force, with 1,000 subscribers, 100 of which never read. `tests/bench` runs it.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rolekeeper::frame;
use rolekeeper_tests::harness::{Home, world};
use serde_json::{Value, json};

const SUBSCRIBERS: usize = 1000;
const STALLED: usize = 100;
const READING: usize = SUBSCRIBERS - STALLED;
const READERS: usize = 10;
const ROUNDS: usize = 100;
/// The number of changes that fill the buffers of subscribers that never read.
const UNREAD: usize = 400;

fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let mut owner = connect(&home);
    let mut tool = connect(&home);
    assert!(exchange(&mut tool, &lease())["lease"].is_object());
    let stalled: Vec<_> = (0..STALLED).map(|_| watch(&home)).collect();
    for _ in 0..UNREAD {
        exchange(
            &mut owner,
            &json!({ "logout": { "profile": "dev", "revoke": false } }),
        );
        exchange(&mut owner, &json!({ "resume": { "profile": "dev" } }));
    }
    let (sender, receiver) = mpsc::channel();
    for _ in 0..READERS {
        let streams: Vec<_> = (0..READING / READERS).map(|_| watch(&home)).collect();
        let sender = sender.clone();
        std::thread::spawn(move || read_all(streams, &sender));
    }
    let mut notified = Vec::new();
    let mut refused = Vec::new();
    for _ in 0..ROUNDS {
        assert!(exchange(&mut tool, &lease())["lease"].is_object());
        let started = Instant::now();
        send(
            &mut owner,
            &json!({ "logout": { "profile": "dev", "revoke": false } }),
        );
        while exchange(&mut tool, &lease())["lease"].is_object() {}
        refused.push(started.elapsed());
        for _ in 0..READING {
            let received = receiver.recv_timeout(Duration::from_secs(10));
            let at = received.expect("every subscriber gets the update");
            notified.push(at.saturating_duration_since(started));
        }
        receive(&mut owner);
        exchange(&mut owner, &json!({ "resume": { "profile": "dev" } }));
    }
    row("revoked here, to the first refusal, p99", &mut refused);
    row(
        "  to the update of 900 subscribers, 100 more never read, p99",
        &mut notified,
    );
    drop(stalled);
}

/// Sends the time at which each of these subscribers gets the update of each revocation.
fn read_all(mut streams: Vec<UnixStream>, sender: &mpsc::Sender<Instant>) {
    for revocation in UNREAD + 1..=UNREAD + ROUNDS {
        for stream in &mut streams {
            // One update may cover several changes.
            while generation(stream) < revocation as u64 {}
            let _ = sender.send(Instant::now());
        }
    }
}

fn generation(stream: &mut UnixStream) -> u64 {
    let text = frame::read(stream).expect("an update");
    let value: Value = serde_json::from_slice(&text).expect("JSON");
    value["reply"]["profile_update"]["generation"]
        .as_u64()
        .expect("a generation")
}

fn connect(home: &Home) -> UnixStream {
    UnixStream::connect(home.socket()).expect("the daemon listens")
}

fn watch(home: &Home) -> UnixStream {
    let mut stream = connect(home);
    send(&mut stream, &json!({ "watch": { "profile": "dev" } }));
    frame::read(&mut stream).expect("the first update");
    stream
}

fn lease() -> Value {
    json!({ "lease": { "profile": "dev" } })
}

fn send(stream: &mut UnixStream, request: &Value) {
    stream
        .write_all(&frame::encode(&json!({ "v": 1, "request": request })).expect("a frame"))
        .expect("it is sent");
}

fn receive(stream: &mut UnixStream) -> Value {
    let mut reply: Value =
        serde_json::from_slice(&frame::read(stream).expect("a reply")).expect("JSON");
    reply["reply"].take()
}

fn exchange(stream: &mut UnixStream, request: &Value) -> Value {
    send(stream, request);
    receive(stream)
}

fn row(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let p99 = times[(times.len() * 99).div_ceil(100) - 1];
    println!(
        "{what:70} {:>9.2} ms {:>10}",
        p99.as_secs_f64() * 1e3,
        "<= 100 ms"
    );
}
