//! Calls that are counted, and what faults do to connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::*;

#[tokio::test]
async fn calls_are_counted_when_they_arrive_and_listed_with_their_outcome() {
    let world = world().await;
    world.control("POST", "/faults", json!({ "method": "getRole", "fault": { "kind": "status", "status": 503, "retry_after": "7" }, "times": 1 })).await;
    let path = format!("/roles/{}", world.role("NoTrust"));
    let faulty = world.as_admin("GET", &path, Value::Null).await;
    assert_eq!(
        (
            faulty.code(),
            faulty.headers["retry-after"].to_str().unwrap()
        ),
        ((503, "unavailable"), "7")
    );
    assert_eq!(
        world.as_admin("GET", &path, Value::Null).await.status,
        200,
        "once only"
    );
    world.call("bad", "GET", &path, Value::Null).await;
    let calls = world
        .control("GET", "/calls?method=getRole", Value::Null)
        .await
        .body;
    assert_eq!(calls["counts"]["getRole"], 3);
    let seen: Vec<_> = calls["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| (&call["status"], &call["fault"]))
        .collect();
    assert_eq!(
        seen,
        [
            (&json!(503), &json!("status")),
            (&json!(200), &Value::Null),
            (&json!(401), &Value::Null)
        ]
    );
    world.control("DELETE", "/calls", Value::Null).await;
    assert_eq!(
        world
            .control("GET", "/calls/counts", Value::Null)
            .await
            .body["counts"],
        json!({})
    );
    let wrong = world
        .control(
            "POST",
            "/faults",
            json!({ "method": "getRol", "fault": { "kind": "reset" } }),
        )
        .await;
    assert!(wrong.status == 400 && wrong.body.to_string().contains("serves no getRol"));
    assert_eq!(
        world.control("POST", "/limits", json!({})).await.status,
        400,
        "a limit is not lifted by saying nothing"
    );
    let wrong = world
        .control(
            "POST",
            "/faults",
            json!({ "method": "*", "fault": { "kind": "rest" } }),
        )
        .await;
    assert!(wrong.status == 400 && wrong.body.to_string().contains("rest"));
}

#[tokio::test]
async fn what_is_out_of_all_bounds_is_refused_before_it_breaks_the_sandbox() {
    let world = world().await;
    for fault in [
        json!({ "kind": "wrong_date", "seconds": i64::MAX }),
        json!({ "kind": "wrong_date", "seconds": i64::MIN }),
        json!({ "kind": "huge", "bytes": u64::MAX }),
        json!({ "kind": "delay", "ms": u64::MAX }),
    ] {
        let said = world
            .control("POST", "/faults", json!({ "method": "*", "fault": fault }))
            .await;
        assert!(
            said.status == 400 && said.body.to_string().contains("is more than"),
            "{}",
            said.body
        );
    }
    for seconds in [i64::MAX, i64::MIN] {
        assert_eq!(
            world
                .control("POST", "/clock", json!({ "advance_seconds": seconds }))
                .await
                .status,
            400
        );
    }
    assert_eq!(
        world.as_admin("GET", "/roles", Value::Null).await.status,
        200
    );
}

/// What a plain TCP client sees of a faulty `listRoles`: the bytes, and how the connection ended.
fn raw(world: &World) -> (String, std::io::Result<usize>) {
    let address = world.sandbox.ready["endpoint"]
        .as_str()
        .unwrap()
        .trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let token = world.token("admin");
    write!(
        stream,
        "GET /iam/v1/roles HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    .unwrap();
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    (String::from_utf8_lossy(&bytes).into_owned(), end)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_does_to_a_connection_what_it_says() {
    let world = world().await;
    let mut seen = Vec::new();
    for fault in [
        json!({ "kind": "delay", "ms": 300 }),
        json!({ "kind": "reset" }),
        json!({ "kind": "half_close" }),
        json!({ "kind": "truncated" }),
        json!({ "kind": "garbage" }),
        json!({ "kind": "html" }),
        json!({ "kind": "slow_drip", "ms": 1 }),
        json!({ "kind": "wrong_date", "seconds": 86_400 }),
        json!({ "kind": "huge", "bytes": 70_000 }),
        json!({ "kind": "redirect", "location": "http://127.0.0.1:1/" }),
    ] {
        world
            .control(
                "POST",
                "/faults",
                json!({ "method": "listRoles", "fault": fault, "times": 1 }),
            )
            .await;
        let started = Instant::now();
        let (text, end) = tokio::task::block_in_place(|| raw(&world));
        seen.push((text, end, started.elapsed()));
    }
    let [
        delay,
        reset,
        half_close,
        truncated,
        garbage,
        html,
        drip,
        date,
        huge,
        redirect,
    ] = seen.as_slice()
    else {
        panic!()
    };
    let body = |text: &str| text.split_once("\r\n\r\n").unwrap().1.to_owned();
    let length = |text: &str| {
        let header = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap();
        header.trim().parse::<usize>().unwrap()
    };
    assert!(delay.2 >= Duration::from_millis(300) && delay.0.starts_with("HTTP/1.1 200"));
    assert_eq!(
        reset.1.as_ref().unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    assert!(
        half_close.0.is_empty() && half_close.1.is_ok() && half_close.2 < Duration::from_secs(10)
    );
    assert_eq!(body(&truncated.0).len(), length(&truncated.0) / 2);
    assert!(
        serde_json::from_str::<Value>(&body(&garbage.0)).is_err()
            && garbage.0.starts_with("HTTP/1.1 200")
    );
    assert!(html.0.contains("text/html") && html.0.contains("Sign in"));
    assert!(
        serde_json::from_str::<Value>(&body(&drip.0)).is_ok() && drip.2 > delay.2,
        "{:?}",
        drip.2
    );
    let said = date
        .0
        .lines()
        .find_map(|line| line.strip_prefix("date: "))
        .unwrap();
    let ahead = httpdate::parse_http_date(said)
        .unwrap()
        .duration_since(std::time::SystemTime::now())
        .unwrap();
    assert!(ahead > Duration::from_secs(86_000));
    assert!(body(&huge.0).len() > 70_000);
    assert!(
        redirect.0.starts_with("HTTP/1.1 302")
            && redirect.0.contains("location: http://127.0.0.1:1/")
    );
}
