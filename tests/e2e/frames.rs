//! Malformed frames: each gets its own error, and other connections are unaffected.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rolekeeper::frame;
use rolekeeper_tests::harness::{Home, world};
use serde_json::{Value, json};

fn connect(home: &Home) -> UnixStream {
    let stream = UnixStream::connect(home.socket()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();

    stream
}

fn frame_of(text: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(text);

    bytes
}

fn reply(stream: &mut UnixStream) -> Value {
    serde_json::from_slice(&frame::read(stream).unwrap()).unwrap()
}

fn ask(stream: &mut UnixStream, text: &[u8]) -> Value {
    stream.write_all(&frame_of(text)).unwrap();
    reply(stream)
}

fn lease_request() -> Vec<u8> {
    json!({ "v": 1, "request": { "lease": { "profile": "dev" } } })
        .to_string()
        .into_bytes()
}

#[test]
fn malformed_request_gets_bad_request_and_keeps_connection() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let mut stream = connect(&home);

    let cases: [(&[u8], &str); 7] = [
        (b"not json", "bad_request"),
        (b"", "bad_request"),
        (b"\xff\xfe", "bad_request"),
        (b"{}", "bad_request"),
        (br#"{"v":1,"request":{"dance":{}}}"#, "bad_request"),
        (
            br#"{"v":2,"request":{"lease":{"profile":"dev"}}}"#,
            "unsupported_version",
        ),
        (
            br#"{"v":1,"request":{"lease":{"profile":"canary-echo"}}}"#,
            "unknown_profile",
        ),
    ];

    for (text, code) in cases {
        let reply = ask(&mut stream, text);
        assert_eq!(reply["reply"]["error"]["code"], code, "{reply}");
        assert!(!reply["reply"]["error"]["hint"].as_str().unwrap().is_empty());
    }

    assert!(ask(&mut stream, &lease_request())["reply"]["lease"]["session_id"].is_string());
}

#[test]
fn malformed_request_is_not_echoed() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    for text in [
        &b"canary"[..],
        br#"{"v":1,"canary":"canary"}"#,
        br#"{"v":"canary"}"#,
    ] {
        assert!(
            !ask(&mut connect(&home), text)
                .to_string()
                .contains("canary")
        );
    }
}

#[test]
fn oversized_frame_is_refused_and_closes_connection() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    for length in [frame::MAX + 1, u32::MAX as usize] {
        let mut stream = connect(&home);
        stream
            .write_all(&u32::try_from(length).unwrap().to_be_bytes())
            .unwrap();

        assert_eq!(
            reply(&mut stream)["reply"]["error"]["code"],
            "frame_too_large"
        );
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }

    let mut largest = lease_request();
    largest.resize(frame::MAX, b' ');
    assert!(
        ask(&mut connect(&home), &largest)["reply"]["lease"].is_object(),
        "the largest frame is accepted"
    );
}

#[test]
fn truncated_frame_is_reported_with_its_length() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    for cut in [1, 3, 4, 20] {
        let mut stream = connect(&home);
        stream
            .write_all(&frame_of(&lease_request())[..cut])
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let reply = reply(&mut stream);
        assert_eq!(reply["reply"]["error"]["code"], "bad_request", "{reply}");
        assert!(
            reply["reply"]["error"]["message"]
                .as_str()
                .unwrap()
                .contains(" bytes of a frame"),
            "{reply}"
        );
    }
}

#[test]
fn incomplete_frame_times_out_without_blocking_others() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let mut silent = connect(&home);
    let mut slow = connect(&home);
    slow.write_all(&frame_of(&lease_request())[..10]).unwrap();
    assert!(home.rolekeeper(&["credential-process", "dev"]).json()["AccessKeyId"].is_string());

    for stream in [&mut slow, &mut silent] {
        let mut rest = Vec::new();
        stream
            .read_to_end(&mut rest)
            .expect("the daemon closes the connection within 20 s");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let mut stream = connect(&home);
    let status = br#"{"v":1,"request":{"status":{}}}"#;
    let lease = frame_of(&lease_request());
    let status = frame_of(status);

    let batch: Vec<u8> = (0..100)
        .flat_map(|n| {
            if n % 2 == 0 {
                lease.clone()
            } else {
                status.clone()
            }
        })
        .collect();

    stream.write_all(&batch).unwrap();

    for number in 0..100 {
        let reply = reply(&mut stream);
        let kind = if number % 2 == 0 { "lease" } else { "status" };
        assert!(reply["reply"][kind].is_object(), "{number}: {reply}");
    }
}

/// A daemon of another version, or another program, listens on the socket.
#[test]
fn client_explains_unexpected_replies() {
    let status = json!({
        "daemon": { "version": "1", "pid": 1, "uptime_seconds": 1, "connections": 1 },
        "profiles": [],
    });
    let other_reply = json!({ "v": 1, "reply": { "status": status } }).to_string();

    let answers: [(&[u8], i32, &str); 6] = [
        (
            &frame_of(br#"{"v":2,"reply":{"lease":{}}}"#),
            1,
            "the daemon uses protocol version 2, this client version 1",
        ),
        (&frame_of(other_reply.as_bytes()), 1, "unexpected reply"),
        (&frame_of(b"nonsense"), 1, "unexpected JSON"),
        (&[0xff; 4], 1, "exceeds the limit"),
        (&frame_of(b"{}")[..5], 3, "after 1 of 2 bytes"),
        (&[], 3, "disconnected"),
    ];

    for (answer, code, words) in answers {
        let home = Home::default();
        home.create_socket_folder();
        let listener = std::os::unix::net::UnixListener::bind(home.socket()).unwrap();

        let run = std::thread::scope(|scope| {
            // The client retries for a while if the daemon closes the connection.
            scope.spawn(|| {
                while let Ok((mut stream, _)) = listener.accept()
                    && frame::read(&mut stream).is_ok()
                {
                    stream.write_all(answer).unwrap();
                }
            });

            let run = home.rolekeeper(&["credential-process", "dev"]);

            // A connection without a request ends the loop above.
            drop(UnixStream::connect(home.socket()).unwrap());

            run
        });

        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{run:?}");
        assert!(
            run.stderr.contains(words) && run.stderr.contains("\n  try: "),
            "{words}: {run:?}"
        );
    }
}
