use serde_json::{Value, json};

use super::{World, world};

const UUID: &str = "550e8400-e29b-41d4-a716-446655440000";

/// Sends a call of the administrator that must be refused, and checks the start of the message.
async fn check_refused(world: &World, verb: &str, path: &str, body: Option<Value>, reason: &str) {
    let reply = world.call(world.token("admin"), verb, path, body).await;

    assert_eq!(reply.code(), (400, "invalid_request"), "{verb} {path}");
    assert!(
        reply.message().starts_with(reason),
        "{reason}: {}",
        reply.body
    );
    assert!(reply.headers.contains_key("x-request-id"));
    assert!(reply.headers.contains_key("date"));
}

#[tokio::test]
async fn invalid_body_is_refused_with_the_parameter() {
    let world = world().await;

    for (path, body, reason) in [
        ("/roles", json!({}), "name: it is required"),
        ("/roles", json!({ "name": 5 }), "name: it must be a string"),
        (
            "/roles",
            json!({ "name": "x", "colour": "red" }),
            "colour: createRole has no such parameter",
        ),
        (
            "/roles",
            json!({ "name": "x*" }),
            "name: it must be 1 to 128 letters",
        ),
        (
            "/roles",
            json!({ "name": "x", "trust_policy": {} }),
            "trust_policy: missing field",
        ),
        ("/roles", json!([1]), "the body is not a JSON object"),
        (
            "/roles?name=x",
            json!({ "name": "x" }),
            "parameters belong in the body",
        ),
        (
            "/policies",
            json!({ "name": "x", "document": "text" }),
            "document: it must be an object",
        ),
        (
            "/users",
            json!({ "email": "no address" }),
            "email: it must be an e-mail address",
        ),
        (
            "/users",
            json!({ "email": "a@b.test", "group_ids": ["x"] }),
            "group_ids: it must be at most 100 distinct UUIDs",
        ),
        (
            "/users",
            json!({ "email": "a@b.test", "group_ids": [UUID, UUID] }),
            "group_ids: it must be at most 100 distinct UUIDs",
        ),
        (
            "/groups",
            json!({ "name": "x", "description": null }),
            "description: it must be a string",
        ),
    ] {
        check_refused(&world, "POST", path, Some(body), reason).await;
    }
}

#[tokio::test]
async fn invalid_path_or_query_is_refused_with_the_parameter() {
    let world = world().await;

    for (path, reason) in [
        ("/roles?limit=0", "limit: 0 is not from 1 to 1000"),
        ("/roles?limit=1001", "limit: 1001"),
        ("/roles?limit=ten", "limit: it must be an integer"),
        ("/roles?limit=1&limit=2", "limit: it is given twice"),
        (
            "/sts/sessions?active_only=1",
            "active_only: it must be true or false",
        ),
        (
            "/roles?shape=round",
            "shape: listRoles has no such parameter",
        ),
        ("/roles/none", "role_id: it must be a UUID"),
        ("/roles?marker=x", "marker: it must be a UUID"),
        (
            "/audit-logs?from=yesterday",
            "from: it must be an RFC 3339 time",
        ),
        (
            "/audit-logs?status=odd",
            "status: it must be one of success",
        ),
        (
            "/invitations?status=odd",
            "status: it must be one of pending",
        ),
        (
            "/sts/sessions?principal_type=robot",
            "principal_type: it must be one of user",
        ),
    ] {
        check_refused(&world, "GET", path, None, reason).await;
    }

    let path = format!("/sts/sessions/{UUID}?reason={}", "x".repeat(1001));
    let reason = "reason: it must have at most 1000 characters";
    check_refused(&world, "DELETE", &path, None, reason).await;
}

#[tokio::test]
async fn too_large_body_is_refused() {
    let body = json!({ "name": "x".repeat(2 << 20) });

    let reply = world().await.post("/roles", body).await;
    assert_eq!(reply.code(), (400, "invalid_request"));
}

#[tokio::test]
async fn unknown_path_is_not_found() {
    assert_eq!(world().await.get("/nothing").await.status, 404);
}

#[tokio::test]
async fn unsupported_verb_lists_the_supported_ones() {
    let world = world().await;
    assert_eq!(world.delete("/roles").await.status, 405);

    let reply = world
        .call(world.token("admin"), "PUT", "/roles", Some(json!({})))
        .await;
    assert_eq!(reply.status, 405);
    assert_eq!(reply.headers["allow"], "GET, POST");
}
