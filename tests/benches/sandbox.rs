//! The sandbox with 10,000 roles and 100,000 audit entries. It must not be the bottleneck of another benchmark. `tests/bench` runs
//! it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rolekeeper_tests::harness::{Home, SandboxProcess};
use serde_json::{Value, json};

const ROLES: usize = 10_000;
const ENTRIES: usize = 100_000;
const ROUNDS: usize = 2_000;

fn main() {
    // `cargo bench` passes `--bench`. `cargo test` does not, and so runs no benchmark.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    println!(
        "\n{:58} {:>12} {:>12}",
        "sandbox: 10,000 roles, 100,000 audit entries", "measured", "bound"
    );
    let home = Home::default();
    let fixture = home.private_file("fixture.json", &fixture().to_string());
    let fixture = fixture.to_str().expect("UTF-8").to_owned();
    let data = home.path().join("iam.db");
    measure(
        "in memory",
        &SandboxProcess::start(&["--fixture", &fixture]),
    );
    measure(
        "in a file",
        &SandboxProcess::start(&[
            "--fixture",
            &fixture,
            "--data",
            data.to_str().expect("UTF-8"),
        ]),
    );
}

/// One administrator, and roles that trust every principal.
fn fixture() -> Value {
    let document = |rest: &str, value: &str| {
        let mut statement = json!({ "effect": "allow" });
        statement[rest] = json!([value]);
        json!({ "version": "2024-01-01", "statements": [statement] })
    };
    let role = |number: usize| json!({ "name": format!("role{number:05}"), "trust_policy": document("principals", "*") });
    json!({
        "organization": "o",
        "policies": [{ "name": "Everything", "document": document("actions", "*") }],
        "roles": (0..ROLES).map(role).collect::<Vec<_>>(),
        "users": [{ "name": "admin", "email": "admin@example.test", "policies": ["Everything"] }],
    })
}

fn measure(name: &str, sandbox: &SandboxProcess) {
    let mut connection = Connection::open(sandbox);
    let role = sandbox.role("role00007").to_owned();
    let started = Instant::now();
    for _ in 0..ENTRIES {
        assert_eq!(connection.call("GET", &format!("/roles/{role}"), ""), 200);
    }
    let each = started.elapsed() / u32::try_from(ENTRIES).expect("it fits");
    row(
        &format!("getRole, {name}, mean while the log fills"),
        each,
        "",
    );
    let roles: Vec<_> = (0..ROLES)
        .step_by(7)
        .map(|number| sandbox.role(&format!("role{number:05}")).to_owned())
        .collect();
    let assume = |round: usize| {
        (
            format!("/roles/{}/assume", roles[round % roles.len()]),
            "POST",
            "{}",
            201,
        )
    };
    row(
        &format!("assumeRole, {name}, median"),
        median(&mut connection, assume),
        "< 1 ms",
    );
    let nothing = |_| ("/nothing".to_owned(), "GET", "", 404);
    row(
        "  a path that it does not have (floor: HTTP alone)",
        median(&mut connection, nothing),
        "",
    );
    let audit = |_| {
        (
            "/audit-logs?action=sts.*&limit=100".to_owned(),
            "GET",
            "",
            200,
        )
    };
    row(
        &format!("listAuditLogs by action, {name}, median"),
        median(&mut connection, audit),
        "",
    );
}

fn row(what: &str, time: Duration, bound: &str) {
    println!(
        "{what:58} {:>12} {bound:>12}",
        format!("{:.0} us", time.as_secs_f64() * 1e6)
    );
}

fn median(
    connection: &mut Connection,
    call: impl Fn(usize) -> (String, &'static str, &'static str, u16),
) -> Duration {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|round| {
            let (path, verb, body, want) = call(round);
            let started = Instant::now();
            assert_eq!(connection.call(verb, &path, body), want);
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// An open connection without the costs of an HTTP client.
struct Connection {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Connection {
    fn open(sandbox: &SandboxProcess) -> Self {
        let stream = TcpStream::connect(sandbox.endpoint().trim_start_matches("http://"))
            .expect("it listens");
        stream.set_nodelay(true).expect("it is TCP");
        Self {
            stream: BufReader::new(stream),
            token: sandbox.token("admin").into(),
        }
    }

    /// Sends one request, reads the whole response, and returns its status.
    fn call(&mut self, verb: &str, path: &str, body: &str) -> u16 {
        let request = format!(
            "{verb} /iam/v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.stream
            .get_mut()
            .write_all(request.as_bytes())
            .expect("it is sent");
        let mut status = 0;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a line");
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().expect("a status");
            } else if let Some(rest) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = rest.trim().parse().expect("a length");
            } else if line == "\r\n" {
                break;
            }
        }
        let mut rest = vec![0; length];
        self.stream.read_exact(&mut rest).expect("a body");
        status
    }
}
