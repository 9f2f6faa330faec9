//! What a plain TCP client receives of a faulty `listRoles`.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::{World, world};

struct Received {
    text: String,
    end: std::io::Result<usize>,
    time: Duration,
}

impl Received {
    fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").unwrap().1
    }

    fn header(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        self.text
            .lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap()
    }
}

async fn receive(fault: Value) -> Received {
    let world = world().await;
    let rule = json!({ "method": "listRoles", "fault": fault, "times": 1 });
    let added = world.control("POST", "/faults", Some(rule)).await;
    assert_eq!(added.status, 200, "{}", added.body);

    tokio::task::block_in_place(|| receive_blocking(&world))
}

fn receive_blocking(world: &World) -> Received {
    let started = Instant::now();
    let address = world.ready("endpoint").trim_start_matches("http://");
    let token = world.token("admin");
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    write!(
        stream,
        "GET /iam/v1/roles HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    .unwrap();

    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    Received {
        text: String::from_utf8_lossy(&bytes).into_owned(),
        end,
        time: started.elapsed(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delay_delays_the_reply() {
    let received = receive(json!({ "kind": "delay", "ms": 300 })).await;

    assert!(received.time >= Duration::from_millis(300));
    assert!(received.text.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_resets_the_connection() {
    let received = receive(json!({ "kind": "reset" })).await;

    assert_eq!(received.end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_close_ends_without_a_reply() {
    let received = receive(json!({ "kind": "half_close" })).await;

    assert!(received.end.is_ok());
    assert_eq!(received.text, "");
    assert!(received.time < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_sends_half_of_the_body() {
    let received = receive(json!({ "kind": "truncated" })).await;
    let length: usize = received.header("content-length").parse().unwrap();

    assert_eq!(received.body().len(), length / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_sends_invalid_json() {
    let received = receive(json!({ "kind": "garbage" })).await;

    assert!(received.text.starts_with("HTTP/1.1 200"));
    assert!(serde_json::from_str::<Value>(received.body()).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn html_sends_a_sign_in_page() {
    let received = receive(json!({ "kind": "html" })).await;

    assert!(received.header("content-type").starts_with("text/html"));
    assert!(received.body().contains("Sign in"));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_drip_sends_the_reply_slowly() {
    let received = receive(json!({ "kind": "slow_drip", "ms": 1 })).await;

    assert!(serde_json::from_str::<Value>(received.body()).is_ok());
    assert!(
        received.time > Duration::from_millis(300),
        "{:?}",
        received.time
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_date_shifts_the_date() {
    let received = receive(json!({ "kind": "wrong_date", "seconds": 86_400 })).await;
    let date = httpdate::parse_http_date(received.header("date")).unwrap();
    let ahead = date.duration_since(SystemTime::now()).unwrap();

    assert!(ahead > Duration::from_secs(86_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_sends_a_body_of_the_size() {
    let received = receive(json!({ "kind": "huge", "bytes": 70_000 })).await;

    assert!(received.body().len() > 70_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_sends_a_location() {
    let location = "http://127.0.0.1:1/";
    let received = receive(json!({ "kind": "redirect", "location": location })).await;

    assert!(received.text.starts_with("HTTP/1.1 302"));
    assert_eq!(received.header("location"), location);
}
