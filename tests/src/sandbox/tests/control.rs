use serde_json::json;

use super::world;

#[tokio::test]
async fn invalid_fault_rule_is_refused() {
    let world = world().await;

    for (rule, reason) in [
        (
            json!({ "method": "getRol", "fault": { "kind": "reset" } }),
            "unknown method getRol",
        ),
        (
            json!({ "method": "*", "fault": { "kind": "rest" } }),
            "rest",
        ),
        (
            json!({ "method": "*", "fault": { "kind": "wrong_date", "seconds": i64::MAX } }),
            "is more than",
        ),
        (
            json!({ "method": "*", "fault": { "kind": "wrong_date", "seconds": i64::MIN } }),
            "is more than",
        ),
        (
            json!({ "method": "*", "fault": { "kind": "huge", "bytes": u64::MAX } }),
            "is more than",
        ),
        (
            json!({ "method": "*", "fault": { "kind": "delay", "ms": u64::MAX } }),
            "is more than",
        ),
    ] {
        let reply = world.control("POST", "/faults", Some(rule)).await;

        assert_eq!(reply.status, 400, "{}", reply.body);
        assert!(reply.message().contains(reason), "{reason}: {}", reply.body);
    }

    assert_eq!(world.get("/roles").await.status, 200, "no rule was added");
}

#[tokio::test]
async fn clock_cannot_move_by_more_than_a_century() {
    let world = world().await;

    for seconds in [i64::MAX, i64::MIN] {
        let body = json!({ "advance_seconds": seconds });
        let reply = world.control("POST", "/clock", Some(body)).await;
        assert_eq!(reply.status, 400, "{seconds}");
    }
}

#[tokio::test]
async fn omitted_limit_is_refused() {
    let reply = world()
        .await
        .control("POST", "/limits", Some(json!({})))
        .await;

    assert_eq!(reply.status, 400);
}
