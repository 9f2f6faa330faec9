//! The HTTP endpoints: opened on demand, only for authorized requests, answered in time, and
//! restored by the next daemon.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rolekeeper_tests::harness::{
    Clocks, Endpoint, Home, HttpResponse, SandboxProcess, StopOnDrop, eventually, programs, world,
};
use serde_json::{Value, json};

use super::metadata::{ROLES, imds_token};

fn status(home: &Home) -> Value {
    home.rolekeeper(&["status", "--json"]).json()
}

/// The addresses on which a process listens, in the kernel's notation.
fn listening_addresses(pid: u32) -> Vec<String> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links: Vec<_> = descriptors
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .collect();
    let mut addresses = Vec::new();

    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_listening = fields.get(3) == Some(&"0A");
            let socket = fields.get(9).map(|inode| format!("socket:[{inode}]"));
            let is_own = socket
                .is_some_and(|socket| links.iter().any(|link| link.as_os_str() == socket.as_str()));

            if is_listening && is_own {
                addresses.push(fields[1].to_owned());
            }
        }
    }

    addresses
}

/// Only root can read the descriptors of a hidden process.
#[test]
#[ignore = "needs root"]
fn endpoints_open_on_demand_and_on_loopback_only() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);

    home.rolekeeper(&["credential-process", "dev"]).json();

    assert_eq!(listening_addresses(daemon.pid()), Vec::<String>::new());
    assert_eq!(status(&home)["daemon"]["endpoints"], Value::Null);

    let http = Endpoint::of(&home, "dev", "http");
    let imds = Endpoint::of(&home, "dev", "imds");
    let open = listening_addresses(daemon.pid());
    assert!(
        open.len() == 2 && open.iter().all(|address| address.starts_with("0100007F:")),
        "{open:?}"
    );
    assert_eq!(
        status(&home)["daemon"]["endpoints"],
        json!({ "container": http.host, "imds.dev": imds.host })
    );
    assert_eq!(
        Endpoint::of(&home, "dev", "http").host,
        http.host,
        "there is one endpoint for all requests"
    );
}

#[test]
fn ecs_endpoint_matches_credential_process() {
    let (sandbox, home) = world();
    home.configure_more(
        "",
        "account_id = \"012345678901\"\nregion = \"eu-central-1\"",
    );
    let _daemon = home.daemon(&[]);

    let ours = home.rolekeeper(&["credential-process", "dev"]).json();
    let answer = Endpoint::of(&home, "dev", "http").credentials();
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("application/json") && answer.head.contains("no-store"),
        "{answer:?}"
    );

    let document = answer.json();
    assert_eq!(document["AccessKeyId"], ours["AccessKeyId"]);
    assert_eq!(document["SecretAccessKey"], ours["SecretAccessKey"]);
    assert_eq!(document["Token"], ours["SessionToken"]);
    assert_eq!(document["AccountId"], "012345678901");
    assert!(document["Expiration"].as_str().unwrap().ends_with('Z'));
    assert_eq!(document.as_object().unwrap().len(), 5);
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn errors_have_a_status_a_code_and_a_hint() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();

    home.configure_for(
        &sandbox,
        "dev",
        &[
            ("dev", "S3ReadOnly"),
            ("other", "S3ReadOnly"),
            ("notrust", "NoTrust"),
        ],
    );

    let _daemon = home.daemon(&[]);
    let http = Endpoint::of(&home, "dev", "http");
    let other = Endpoint::of(&home, "other", "http");
    let token = http.token();
    let with = |token: &str, path: &str| http.ask("GET", path, &[("Authorization", token)]);

    let refused = |answer: HttpResponse, status: u16, code: &str| {
        let body = answer.json();
        assert_eq!(
            (answer.status, &body["code"]),
            (status, &json!(code)),
            "{answer:?}"
        );

        let message = body["message"].as_str().unwrap();
        assert!(
            message.contains("; try: ") && !message.contains('\n') && !answer.body.contains(&token),
            "{message}"
        );
    };

    let none = http.ask("GET", &http.path, &[]);
    assert!(
        none.body.contains("an AWS CLI from 1.30 or 2.15 on"),
        "{none:?}"
    );
    refused(none, 403, "not_allowed");

    for wrong in [
        "",
        "x",
        &other.token(),
        &format!("Bearer {token}"),
        &format!("{token}0"),
        &token.to_uppercase(),
    ] {
        refused(with(wrong, &http.path), 403, "not_allowed");
    }

    refused(with(&token, &other.path), 403, "not_allowed");
    refused(with(&token, "/credentials/nobody"), 403, "not_allowed");

    for path in [
        "/",
        "/credentials/",
        "/credentials",
        "/credentials/a%2fb",
        "/credentials/../dev",
        "/x?a=b",
    ] {
        refused(with(&token, path), 404, "bad_request");
    }

    let put = http.ask("PUT", &http.path, &[("Authorization", &token)]);
    assert!(put.head.contains("allow: GET"), "{put:?}");
    refused(put, 405, "bad_request");

    let logout = home.rolekeeper(&["logout", "dev"]);
    assert_eq!(logout.code, 0);
    refused(http.credentials(), 403, "held");

    home.rolekeeper(&["resume", "dev"]);
    assert_eq!(http.credentials().status, 200);
}

#[test]
fn slow_upstream_does_not_delay_answers() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(
        &sandbox,
        "dev",
        &[("dev", "S3ReadOnly"), ("cold", "S3ReadOnly")],
    );

    let mut command = home.command(&programs().rolekeeperd);
    let mut clocks = Clocks::preload(&home, &mut command);
    let _daemon = home.daemon_from(command);
    let dev = Endpoint::of(&home, "dev", "http");
    let cold = Endpoint::of(&home, "cold", "http");
    let before = dev.credentials().json();

    assert_eq!(home.rolekeeper(&["logout", "cold"]).code, 0);
    assert_eq!(home.rolekeeper(&["resume", "cold"]).code, 0);

    sandbox.fault(&json!({ "kind": "delay", "ms": 60_000 }));

    // Without a session the answer is an error at once; the fetch continues in the background.
    let started = Instant::now();
    let answer = cold.credentials();

    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (503, &json!("upstream_unavailable"))
    );
    assert!(answer.head.contains("retry-after: 1"), "{answer:?}");

    // The refresh is due and does not complete: the valid session is served.
    clocks.sleep(Duration::from_secs(45 * 60));
    let started = Instant::now();
    let answer = dev.credentials();

    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        (answer.status, &answer.json()["AccessKeyId"]),
        (200, &before["AccessKeyId"])
    );

    // The session has expired.
    clocks.sleep(Duration::from_secs(15 * 60));
    assert_eq!(dev.credentials().status, 503);
}

#[test]
fn browsers_proxies_and_request_smuggling_are_refused() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let http = Endpoint::of(&home, "dev", "http");
    let host = &http.host;
    let path = &http.path;
    let token = http.token();
    let port = host.rsplit_once(':').unwrap().1;
    let good = format!("Host: {host}\r\nAuthorization: {token}\r\nConnection: close\r\n");
    let secret = http.credentials().json()["SecretAccessKey"]
        .as_str()
        .unwrap()
        .to_owned();
    home.secret(&secret);
    let get = format!("GET {path} HTTP/1.1\r\n");
    let mut hostile: Vec<String> = Vec::new();

    for name in [
        "evil.example",
        "evil.example:80",
        "127.0.0.1",
        "127.0.0.1:1",
        "0.0.0.0",
        "[::1]",
        "localhost.",
        "127.1",
        "127.0.0.1.evil.example",
        "evil.example@127.0.0.1",
        "127.0.0.1:1:",
        "2130706433",
        "0x7f000001",
        "",
    ] {
        for shown in [
            name.to_owned(),
            format!("{name}:{port}"),
            format!(" {name} :{port}"),
            format!("{name}:0{port}x"),
        ] {
            if shown != *host {
                hostile.push(format!(
                    "{get}Host: {shown}\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n"
                ));
            }
        }
    }

    for header in [
        "Origin: http://evil.example",
        "Origin: null",
        "Referer: http://evil.example/",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Mode: no-cors",
        "Sec-Fetch-Dest: image",
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Host: x",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Anything: x",
        "Forwarded: for=192.0.2.1",
        "Via: 1.1 proxy",
        "X-Real-IP: 192.0.2.1",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: x",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Host: 127.0.0.1:1",
        "Host: evil.example",
        "Transfer-Encoding: identity",
    ] {
        for spelled in [
            header.to_owned(),
            header.to_uppercase(),
            header.to_lowercase(),
        ] {
            hostile.push(format!("{get}{good}{spelled}\r\n\r\n"));
            hostile.push(format!("{get}{spelled}\r\n{good}\r\n"));
        }
    }

    for line in [
        format!("GET http://{host}{path} HTTP/1.1"),
        format!("GET http://evil.example{path} HTTP/1.1"),
        format!("CONNECT {host} HTTP/1.1"),
        format!("OPTIONS {path} HTTP/1.1"),
        "OPTIONS * HTTP/1.1".to_owned(),
        format!("HEAD {path} HTTP/1.1"),
        format!("POST {path} HTTP/1.1"),
        format!("TRACE {path} HTTP/1.1"),
        format!("GET {path} HTTP/1.0\r\nHost: evil.example"),
        format!("GET {path} HTTP/9.9"),
        format!("GET {path}"),
        format!("GET //{host}{path} HTTP/1.1"),
        format!("GET {path}/ HTTP/1.1"),
        format!("GET {path}%00 HTTP/1.1"),
        "GET /credentials//dev HTTP/1.1".to_owned(),
        format!("GET {path};x HTTP/1.1"),
        format!("get {path} HTTP/1.1"),
        format!("G\u{0}T {path} HTTP/1.1"),
        "PRI * HTTP/2.0".to_owned(),
    ] {
        hostile.push(format!("{line}\r\n{good}\r\n"));
    }

    for request in [
        // Two lengths; a length and chunks; a request within a body.
        format!("{get}{good}Content-Length: 0\r\nContent-Length: 5\r\n\r\nabcde"),
        format!("{get}{good}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{get}{good}Transfer-Encoding: xchunked\r\n\r\n"),
        format!("{get}{good}Content-Length: +0\r\n\r\n"),
        format!("{get}Host: evil.example\r\nContent-Length: 200\r\n\r\n{get}{good}\r\n"),
        // A continued line; a space before the colon; no host; too long; too many; TLS.
        format!("{get}Host: evil.example\r\n {host}\r\nAuthorization: {token}\r\n\r\n"),
        format!("{get}Host : {host}\r\nAuthorization: {token}\r\n\r\n"),
        format!("{get}Authorization: {token}\r\nConnection: close\r\n\r\n"),
        format!("{get}{good}X: {}\r\n\r\n", "x".repeat(100_000)),
        format!("{get}{good}{}\r\n", "X: y\r\n".repeat(5000)),
        format!("\u{16}\u{3}\u{1}{get}{good}\r\n"),
    ] {
        hostile.push(request);
    }

    assert!(hostile.len() >= 200, "{}", hostile.len());

    for request in &hostile {
        let answer = http.try_raw(request);
        assert!(
            !answer.contains(&secret) && !answer.starts_with("HTTP/1.1 200"),
            "{request:?} was answered with {answer}"
        );
        assert!(
            !answer.to_lowercase().contains("access-control"),
            "{answer}"
        );
    }

    assert_eq!(
        http.credentials().status,
        200,
        "a good request is still answered"
    );
}

#[test]
fn idle_connections_do_not_block_the_socket() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);
    let http = Endpoint::of(&home, "dev", "http");
    let slow: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(&http.host).unwrap())
        .collect();

    eventually("the limit is reached", || {
        daemon
            .log()
            .contains("too many connections endpoint=container")
            .then_some(())
    });

    home.rolekeeper(&["credential-process", "dev"]).json();
    drop(slow);

    eventually("connections are accepted again", || {
        http.try_raw("x\r\n\r\n")
            .starts_with("HTTP/1.1 400")
            .then_some(())
    });

    assert_eq!(http.credentials().status, 200);
}

/// Clients that do not read their replies, or never finish a request, delay neither others nor a
/// reload.
#[test]
fn slow_or_stuck_client_does_not_block_others() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);
    let http = Endpoint::of(&home, "dev", "http");

    let unread: Vec<TcpStream> = (0..260)
        .map(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(2048).unwrap();
            socket
                .connect(&http.host.parse::<SocketAddr>().unwrap().into())
                .unwrap();
            let mut stream = TcpStream::from(socket);
            stream.set_nonblocking(true).unwrap();
            let many = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000);
            while std::io::Write::write(&mut stream, many.as_bytes()).is_ok() {}

            stream
        })
        .collect();

    eventually("connections are accepted again", || {
        http.try_raw("x\r\n\r\n")
            .starts_with("HTTP/1.1 400")
            .then_some(())
    });

    let mut unfinished = TcpStream::connect(&http.host).unwrap();
    std::io::Write::write_all(&mut unfinished, b"GET / HT").unwrap();
    let started = Instant::now();
    daemon.reload();
    home.rolekeeper(&["credential-process", "dev"]).json();

    // The daemon waits up to 5 s for open requests.
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );

    drop((unread, unfinished));
}

#[test]
fn inherited_socket_beyond_loopback_is_refused() {
    let (_sandbox, home) = world();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let mut command = Command::new("sh");

    // Socket activation: the daemon inherits the socket as descriptor 3.
    let daemon = programs().rolekeeperd.canonicalize().unwrap();

    command
        .args(["-c", "exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$0\""])
        .arg(daemon);
    command
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "http.container");
    let daemon = home.daemon_with_stdin(
        command,
        std::os::fd::OwnedFd::from(listener.try_clone().unwrap()).into(),
    );

    assert!(
        daemon.log().contains("and not on 127.0.0.1"),
        "{}",
        daemon.log()
    );
    assert!(
        Endpoint::of(&home, "dev", "http")
            .host
            .starts_with("127.0.0.1:")
    );
}

#[test]
fn address_survives_restart_and_token_only_reload() {
    let (sandbox, home) = world();
    let mut daemon = home.daemon(&[]);
    let http = Endpoint::of(&home, "dev", "http");
    let imds = Endpoint::of(&home, "dev", "imds");
    let token = http.token();
    let metadata = imds_token(&imds);

    let assert_works = || {
        let held = imds.ask(
            "GET",
            &format!("{ROLES}dev"),
            &[("X-aws-ec2-metadata-token", &metadata)],
        );

        assert_eq!(
            (http.credentials().status, held.status),
            (200, 200),
            "{held:?}"
        );
    };

    assert_works();
    daemon.reload();
    assert_works();
    assert_eq!(http.token(), token);
    assert_eq!(sandbox.calls("assumeRole"), 1);

    daemon.kill();

    // Meanwhile another program could listen there, and would receive the token.
    let squatter = TcpListener::bind(&http.host).unwrap();
    drop(squatter);
    let daemon = home.daemon(&[]);

    assert_works();
    assert_ne!(http.token(), token, "the new token is in the same file");
    assert_eq!(
        http.ask("GET", &http.path, &[("Authorization", &token)])
            .status,
        403
    );
    assert_eq!(daemon.stop(), 0);
    assert!(
        TcpStream::connect(&http.host).is_err(),
        "a stopped daemon leaves the port"
    );

    let _daemon = home.daemon(&[]);

    assert_works();
}

#[test]
fn reload_refuses_no_connection() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);
    let http = Endpoint::of(&home, "dev", "http");
    let stopped = AtomicBool::new(false);

    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut answered = 0;
            while !stopped.load(Ordering::Relaxed) {
                assert_eq!(http.credentials().status, 200);

                answered += 1;
            }

            answered
        });

        let stop = StopOnDrop(&stopped);

        for _ in 0..4 {
            daemon.reload();
        }

        drop(stop);
        assert!(asking.join().unwrap() > 10);
    });
}

/// Clients that keep their connections: each request is answered, and the last answer of a connection says that it closes.
#[test]
fn reload_answers_each_request_of_a_kept_connection() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);
    let http = Endpoint::of(&home, "dev", "http");
    assert_eq!(http.credentials().status, 200);
    let stopped = AtomicBool::new(false);

    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut answered = 0;
                    while !stopped.load(Ordering::Relaxed) {
                        answered += ask_until_closed(&http, &stopped);
                    }
                    answered
                })
            })
            .collect();

        let stop = StopOnDrop(&stopped);
        for _ in 0..10 {
            daemon.reload();
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(stop);

        for each in asking {
            assert!(each.join().unwrap() > 10);
        }
    });
}

/// Requests credentials on one connection until the daemon says that it closes it. Returns how many were answered.
fn ask_until_closed(http: &Endpoint, stopped: &AtomicBool) -> usize {
    let mut stream = BufReader::new(TcpStream::connect(&http.host).unwrap());
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n\r\n",
        http.path,
        http.host,
        http.token()
    );

    let mut answered = 0;
    let mut closes = false;
    while !closes && !stopped.load(Ordering::Relaxed) {
        stream.get_mut().write_all(request.as_bytes()).unwrap();

        let mut length = 0;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert_ne!(
                stream.read_line(&mut line).unwrap(),
                0,
                "closed unanswered after {answered} answers"
            );
            let line = line.to_lowercase();
            closes |= line.starts_with("connection: close");
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }

        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        answered += 1;
    }

    answered
}

#[test]
fn token_rotates_hourly_with_grace_period() {
    let (_sandbox, home) = world();
    let mut command = home.command(&programs().rolekeeperd);
    let mut clocks = Clocks::preload(&home, &mut command);
    let _daemon = home.daemon_from(command);
    let http = Endpoint::of(&home, "dev", "http");
    let first = http.token();
    let with = |token: &str| {
        http.ask("GET", &http.path, &[("Authorization", token)])
            .status
    };
    clocks.sleep(Duration::from_secs(3601));
    assert_eq!(
        with(&first),
        200,
        "the token is valid for a while after it was replaced"
    );

    let second = http.token();
    assert_ne!(first, second);
    assert_eq!((with(&second), with(&first)), (200, 200));

    clocks.sleep(Duration::from_secs(301));
    assert_eq!((with(&second), with(&first)), (200, 403));
}

/// Running programs use a configured port, and would take the credentials of another program there.
#[test]
fn configured_port_that_is_taken_stops_the_start() {
    let (_sandbox, home) = world();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let without_port = std::fs::read_to_string(home.config_path()).unwrap();
    let with_port = format!("{without_port}\n[endpoint]\nport = {port}\n");
    let want = format!("127.0.0.1:{port}: Address already in use");

    home.configure(&with_port);
    let mut client = home.client();
    client.args(["credential-process", "dev"]);
    for run in [home.rolekeeperd(&[]), home.run(client)] {
        assert_eq!(run.code, 2, "{run:?}");
        assert!(
            run.stderr.contains(&want) && run.stderr.contains("or set another port"),
            "{run:?}"
        );
    }
    assert!(!home.socket().exists());

    // A reload does not end the daemon: then it is an error of each request.
    home.configure(&without_port);
    let daemon = home.daemon(&[]);
    home.configure(&with_port);
    daemon.reload();
    let run = home.rolekeeper(&["exec", "--mode", "http", "dev", "--", "true"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(
        run.stderr.contains(&want) && run.stderr.contains("[endpoint]"),
        "{run:?}"
    );
    assert!(daemon.log().contains("the endpoint cannot be opened"));

    home.rolekeeper(&["credential-process", "dev"]).json();
    drop(taken);
    assert_eq!(
        Endpoint::of(&home, "dev", "http").host,
        format!("127.0.0.1:{port}")
    );
}

#[test]
fn configured_port_opens_at_start() {
    let (_sandbox, home) = world();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let text = std::fs::read_to_string(home.config_path()).unwrap();
    home.configure(&format!("{text}\n[endpoint]\nport = {port}\n"));

    for _ in 0..2 {
        let _daemon = home.daemon(&[]);
        assert_eq!(
            status(&home)["daemon"]["endpoints"]["container"],
            format!("127.0.0.1:{port}")
        );
    }
}

#[test]
fn rejected_credentials_are_reported_over_http() {
    let (sandbox, home) = world();

    // The poll interval is longer than this test.
    home.configure_more("check_every = \"150s\"", "");
    let _daemon = home.daemon(&[]);
    let http = Endpoint::of(&home, "dev", "http");
    http.credentials();

    let report = |token: &str| {
        http.ask(
            "POST",
            &format!("{}/rejected", http.path),
            &[("Authorization", token)],
        )
    };

    assert_eq!(report("x").status, 403);

    let answer = report(&http.token());
    assert!(
        answer.status == 200 && answer.json()["held"].is_null(),
        "{answer:?}"
    );

    let id = status(&home)["profiles"][0]["session"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/sts/sessions/{id}");
    assert_eq!(
        sandbox.api(sandbox.token("admin"), "DELETE", &path, None).0,
        204
    );

    report(&http.token());
    eventually("the profile is held", || {
        (http.credentials().json()["code"] == "held").then_some(())
    });
}
