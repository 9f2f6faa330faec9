//! Faults, throttling and the call log of AWS.

use serde_json::json;

use super::aws_client::FORM;
use super::world;

#[tokio::test]
async fn throttled_calls_are_400_and_then_succeed() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let throttle = json!({ "calls": 2, "action": "AssumeRole" });
    world.aws_control("/throttle", throttle).await;
    assert_eq!(world.sts(&ada, "GetCallerIdentity", &[]).await.status, 200);

    for _ in 0..2 {
        let reply = world.assume_role(&ada, "reader", &[]).await;
        assert_eq!(reply.code(), (400, "Throttling".into()));
        assert_eq!(reply.message(), "Rate exceeded");
        assert_eq!(reply.headers["x-amzn-requestid"], reply.tag("RequestId"));
    }
    assert_eq!(world.assume_role(&ada, "reader", &[]).await.status, 200);
}

#[tokio::test]
async fn faults_have_the_form_of_aws() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let portal = "<!doctype html><title>Sign in";
    let table = [
        (
            json!({ "kind": "status", "status": 503 }),
            503,
            "<ErrorResponse",
        ),
        (
            json!({ "kind": "status", "status": 429 }),
            429,
            "<Code>Throttling</Code>",
        ),
        (json!({ "kind": "html" }), 200, portal),
        (json!({ "kind": "garbage" }), 200, "\0"),
        (
            json!({ "kind": "huge", "bytes": 70_000 }),
            200,
            "<Response><x>xxxx",
        ),
        (
            json!({ "kind": "body", "status": 200, "text": "<!DOCTYPE x>" }),
            200,
            "<!DOCTYPE x>",
        ),
        (
            json!({ "kind": "delay", "ms": 1 }),
            200,
            "<AssumeRoleResponse",
        ),
        (
            json!({ "kind": "slow_drip", "ms": 0 }),
            200,
            "<AssumeRoleResponse",
        ),
    ];

    for (fault, status, text) in table {
        let rule = json!({ "method": "AssumeRole", "fault": fault, "times": 1 });
        world.aws_control("/faults", rule).await;
        let reply = world.assume_role(&ada, "reader", &[]).await;
        assert_eq!(reply.status, status, "{fault}");
        assert!(reply.body.contains(text), "{fault}: {}", reply.body);
    }
}

#[tokio::test]
async fn wrong_date_is_relative_to_the_aws_clock() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let fault = json!({ "kind": "wrong_date", "seconds": 86_400 });
    world
        .aws_control("/faults", json!({ "method": "*", "fault": fault }))
        .await;

    let reply = world.sts(&ada, "GetCallerIdentity", &[]).await;
    let date = httpdate::parse_http_date(reply.headers["date"].to_str().unwrap()).unwrap();
    let ahead = date.duration_since(std::time::SystemTime::now()).unwrap();
    assert!((86_390..86_410).contains(&ahead.as_secs()), "{ahead:?}");
}

#[tokio::test]
async fn reset_breaks_the_connection() {
    let world = world().await;
    let fault = json!({ "method": "*", "fault": { "kind": "reset" }, "times": 1 });
    world.aws_control("/faults", fault).await;

    let request = world
        .http
        .post(world.ready("aws"))
        .header("content-type", FORM)
        .body("Action=GetCallerIdentity&Version=2011-06-15");
    assert!(request.send().await.is_err());
}

#[tokio::test]
async fn calls_are_logged_with_key_caller_and_code() {
    let world = world().await;
    let ada = world.user_keys("ada");
    world.assume_role(&ada, "reader", &[]).await;
    world.assume_role(&ada, "partner", &[]).await;

    let calls = world
        .control("GET", "/aws/calls?action=AssumeRole", None)
        .await;
    assert_eq!(calls.body["counts"], json!({ "AssumeRole": 2 }));
    let [ok, denied] = calls.items() else {
        panic!("{}", calls.body)
    };
    for (call, status, code) in [(ok, 200, json!(null)), (denied, 403, json!("AccessDenied"))] {
        assert_eq!(call["access_key_id"], ada.id.as_str());
        assert_eq!(call["caller_arn"], "arn:aws:iam::111122223333:user/ada");
        assert_eq!(call["region"], "eu-central-1");
        assert_eq!(call["params"]["RoleSessionName"], "test");
        assert_eq!((&call["status"], &call["code"]), (&json!(status), &code));
    }
    assert!(!calls.body.to_string().contains("canary"));

    world.control("DELETE", "/aws/calls", None).await;
    let calls = world.control("GET", "/aws/calls", None).await;
    assert_eq!(calls.body["counts"], json!({}));
}

#[tokio::test]
async fn passing_time_of_the_sandbox_passes_at_aws() {
    let world = world().await;
    let now = async || {
        let clock = world.control("GET", "/aws/clock", None).await;
        clock
            .text("/now")
            .parse::<jiff::Timestamp>()
            .unwrap()
            .as_second()
    };
    let before = now().await;

    world.advance_clock(3600).await;
    world.advance_aws_clock(60).await;
    assert!((3660..3670).contains(&(now().await - before)));
}

#[tokio::test]
async fn unknown_names_are_refused() {
    let world = world().await;
    let table = [
        (
            "/faults",
            json!({ "method": "Unknown", "fault": { "kind": "reset" } }),
            400,
        ),
        ("/throttle", json!({ "calls": 1, "action": "Unknown" }), 400),
        ("/roles/unknown/revoke-sessions", json!({}), 404),
        ("/keys/unknown", json!({ "active": false }), 404),
        ("/unknown", json!({}), 404),
        ("/roles", json!({ "name": "x", "trust": {} }), 400),
    ];

    for (path, body, status) in table {
        let reply = world
            .control("POST", &format!("/aws{path}"), Some(body))
            .await;
        assert_eq!(reply.status, status, "{path}");
    }
}
