use serde_json::{Value, json};

use super::world;

#[tokio::test]
async fn calls_are_counted_and_listed_with_their_results() {
    let world = world().await;
    let fault = json!({ "kind": "status", "status": 503, "retry_after": "7" });
    let rule = json!({ "method": "getRole", "fault": fault, "times": 1 });
    world.control("POST", "/faults", Some(rule)).await;
    let path = format!("/roles/{}", world.role("NoTrust"));

    let faulty = world.get(&path).await;
    assert_eq!(faulty.code(), (503, "unavailable"));
    assert_eq!(faulty.headers["retry-after"], "7");
    assert_eq!(
        world.get(&path).await.status,
        200,
        "the fault was for one call"
    );
    assert_eq!(world.get_as("unknown", &path).await.status, 401);

    let calls = world.control("GET", "/calls?method=getRole", None).await;
    assert_eq!(calls.body["counts"]["getRole"], 3);
    let listed: Vec<_> = calls
        .items()
        .iter()
        .map(|call| (&call["status"], &call["fault"]))
        .collect();
    assert_eq!(
        listed,
        [
            (&json!(503), &json!("status")),
            (&json!(200), &Value::Null),
            (&json!(401), &Value::Null)
        ]
    );
}

#[tokio::test]
async fn deleting_the_calls_resets_the_counts() {
    let world = world().await;
    world.get("/roles").await;

    world.control("DELETE", "/calls", None).await;

    let counts = world.control("GET", "/calls/counts", None).await;
    assert_eq!(counts.body["counts"], json!({}));
}
