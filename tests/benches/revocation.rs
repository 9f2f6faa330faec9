//! How soon a revocation is in force: with 1,000 subscribers, 100 of whom never read. Run it by `tests/bench`.

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
/// As many changes as fill the buffers of those who never read.
const UNREAD: usize = 400;

fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let mut person = connect(&home);
    let mut tool = connect(&home);
    assert!(ask(&mut tool, &lease())["lease"].is_object());
    let stalled: Vec<_> = (0..STALLED).map(|_| watch(&home)).collect();
    for _ in 0..UNREAD {
        ask(
            &mut person,
            &json!({ "logout": { "profile": "dev", "revoke": false } }),
        );
        ask(&mut person, &json!({ "resume": { "profile": "dev" } }));
    }
    let (tell, told) = mpsc::channel();
    for _ in 0..READERS {
        let streams: Vec<_> = (0..READING / READERS).map(|_| watch(&home)).collect();
        let tell = tell.clone();
        std::thread::spawn(move || read_all(streams, &tell));
    }
    let mut noticed = Vec::new();
    let mut refused = Vec::new();
    for _ in 0..ROUNDS {
        assert!(ask(&mut tool, &lease())["lease"].is_object());
        let began = Instant::now();
        send(
            &mut person,
            &json!({ "logout": { "profile": "dev", "revoke": false } }),
        );
        while ask(&mut tool, &lease())["lease"].is_object() {}
        refused.push(began.elapsed());
        let told = (0..READING).map(|_| {
            told.recv_timeout(Duration::from_secs(10))
                .expect("they are told")
        });
        noticed.extend(told.map(|at| at.saturating_duration_since(began)));
        receive(&mut person);
        ask(&mut person, &json!({ "resume": { "profile": "dev" } }));
    }
    row("revoked here, to the first refusal, p99", &mut refused);
    row(
        "  to the last of 900 subscribers told, 100 more never read, p99",
        &mut noticed,
    );
    drop(stalled);
}

/// When each of these subscribers is told of each revocation.
fn read_all(mut streams: Vec<UnixStream>, tell: &mpsc::Sender<Instant>) {
    for revocation in UNREAD + 1..=UNREAD + ROUNDS {
        for stream in &mut streams {
            // What came between is told as one, so there may be more or fewer words than changes.
            while generation(stream) < revocation as u64 {}
            let _ = tell.send(Instant::now());
        }
    }
}

fn generation(stream: &mut UnixStream) -> u64 {
    let text = frame::read(stream).expect("it is told");
    let value: Value = serde_json::from_slice(&text).expect("JSON");
    value["reply"]["watched"]["generation"]
        .as_u64()
        .expect("a generation")
}

fn connect(home: &Home) -> UnixStream {
    UnixStream::connect(home.socket()).expect("the daemon listens")
}

fn watch(home: &Home) -> UnixStream {
    let mut stream = connect(home);
    send(&mut stream, &json!({ "watch": { "profile": "dev" } }));
    frame::read(&mut stream).expect("the first word");
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

fn ask(stream: &mut UnixStream, request: &Value) -> Value {
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
