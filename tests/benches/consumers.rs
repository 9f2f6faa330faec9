//! Measurements of HTTP endpoints and of `exec`, each beside a floor from the same run. `tests/bench` runs them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, header};
use hyper_util::rt::TokioIo;
use rolekeeper_tests::harness::{Endpoint, Home, world};

use report::{micros, percentile, row};

#[path = "report.rs"]
mod report;

fn main() {
    // `cargo bench` passes `--bench`. `cargo test` does not, and so runs no benchmark.
    let args: Vec<String> = std::env::args().collect();
    match args.iter().position(|arg| arg == BARE_SERVER) {
        Some(index) => run_bare_server(&args[index + 1]),
        None if args.iter().any(|arg| arg == "--bench") => {
            let (_sandbox, home) = world();
            let _daemon = home.daemon(&[]);
            endpoint(&home);
            exec(&home);
        }
        None => {}
    }
}

/// The argument for this program as a server that replies with fixed bytes.
const BARE_SERVER: &str = "bare-server";

fn endpoint(home: &Home) {
    let http = Endpoint::of(home, "dev", "http");
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nAuthorization: {}\r\n\r\n",
        http.path,
        http.host,
        http.token()
    );
    let body = http.credentials().body;
    let server = BareServer::start(&body);
    let mut ours = Vec::new();
    let mut floors = Vec::new();
    // In turn, since the speed of a machine varies.
    for _ in 0..5 {
        ours.push(load(&http.host, &request));
        floors.push(load(&server.host, &request));
    }
    let ((rate, p99), (floor, floor_p99)) = fastest(ours).zip(fastest(floors)).expect("five");
    row(
        "container credentials, warm, requests a second",
        format!("{rate:.0}"),
        "",
    );
    row("  p99", micros(p99), "");
    row(
        "  bare hyper server with the same bytes (floor)",
        format!("{floor:.0}"),
        "",
    );
    row("  its p99", micros(floor_p99), "");
    row(
        "  ratio of rates, best of five in turn",
        format!("{:.2}", rate / floor),
        ">= 0.9",
    );
}

fn fastest(runs: Vec<(f64, Duration)>) -> Option<(f64, Duration)> {
    runs.into_iter()
        .max_by(|one, other| one.0.total_cmp(&other.0))
}

/// A process that replies to every request with the same bytes.
struct BareServer {
    process: Child,
    host: String,
}

impl BareServer {
    fn start(body: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let mut process = command
            .args([BARE_SERVER, body])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut host = String::new();
        BufReader::new(process.stdout.take().expect("it is piped"))
            .read_line(&mut host)
            .expect("a line");
        Self {
            process,
            host: host.trim().into(),
        }
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// It has as many threads as the daemon has for requests.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn run_bare_server(body: &str) {
    let body = Bytes::from(body.to_owned());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("it is set");
        let body = body.clone();
        tokio::spawn(async move {
            let service = service_fn(move |_| {
                let mut response = Response::new(Full::new(body.clone()));
                let headers = response.headers_mut();
                headers.insert(
                    header::CONTENT_TYPE,
                    header::HeaderValue::from_static("application/json"),
                );
                headers.insert(
                    header::CACHE_CONTROL,
                    header::HeaderValue::from_static("no-store"),
                );
                async { Ok::<_, std::convert::Infallible>(response) }
            });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Two open connections, one request in flight on each. Every response has the same length.
fn load(host: &str, request: &str) -> (f64, Duration) {
    const EACH: usize = 20_000;
    let started = Instant::now();
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| request_times(host, request, EACH)))
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

fn request_times(host: &str, request: &str, count: usize) -> Vec<Duration> {
    let mut stream = TcpStream::connect(host).expect("it listens");
    stream.set_nodelay(true).expect("it is set");
    let mut buffer = vec![0; 4096];
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        stream.write_all(request.as_bytes()).expect("it is sent");
        let length = stream.read(&mut buffer).expect("a response");
        assert!(buffer.starts_with(b"HTTP/1.1 200 ") && buffer[..length].ends_with(b"}"));
        times.push(started.elapsed());
    }

    times
}

/// `exec` against `env`. Both replace themselves by the command.
fn exec(home: &Home) {
    let client =
        PathBuf::from(std::env::var_os("ROLEKEEPER_BENCH_CLIENT").expect("tests/bench sets it"));
    let time = |program: &Path, args: &[&str]| {
        let mut command = home.command(program);
        command
            .args(args)
            .env("ROLEKEEPER_AUTOSTART", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let started = Instant::now();
        assert!(command.status().expect("it starts").success());
        started.elapsed()
    };
    let mut times = [const { Vec::new() }; 3];
    for round in 0..1100 {
        let turn = [
            time(&client, &["exec", "dev", "--", "/bin/true"]),
            time(
                &client,
                &["exec", "--mode", "http", "dev", "--", "/bin/true"],
            ),
            time(Path::new("/usr/bin/env"), &["A=b", "/bin/true"]),
        ];
        // The first hundred warm the caches.
        if round >= 100 {
            times
                .iter_mut()
                .zip(turn)
                .for_each(|(times, time)| times.push(time));
        }
    }
    let [env, http, floor] = times.map(|times| percentile(times, 50));
    row(
        "exec dev -- /bin/true, whole process, median",
        micros(env),
        "",
    );
    row("exec --mode http dev -- /bin/true", micros(http), "");
    row("  env A=b /bin/true (floor)", micros(floor), "");
    row("  exec adds", micros(env.saturating_sub(floor)), "<= 2 ms");
    row(
        "  exec --mode http adds",
        micros(http.saturating_sub(floor)),
        "<= 2 ms",
    );
}
