use jiff::Timestamp;
use serde_json::json;

use super::{Reply, World, world};

fn session_id(assumed: &Reply) -> &str {
    assumed.text("/session/id")
}

fn session_token(assumed: &Reply) -> &str {
    assumed.text("/credentials/session_token")
}

/// In seconds.
fn duration(assumed: &Reply) -> i64 {
    let issued_at: Timestamp = assumed.text("/session/issued_at").parse().unwrap();
    let expires_at: Timestamp = assumed.text("/session/expires_at").parse().unwrap();

    expires_at.duration_since(issued_at).as_secs()
}

#[tokio::test]
async fn assume_role_needs_trust_and_permission() {
    let world = world().await;

    for (principal, role, code) in [
        ("dev", "S3ReadOnly", (201, "")),
        ("ci-cd-pipeline", "S3ReadOnly", (201, "")),
        (
            "ci-cd-pipeline",
            "S3BucketAccess",
            (403, "trust_policy_denied"),
        ),
        ("dev", "NoTrust", (403, "trust_policy_denied")),
        ("dev", "NotAllowed", (403, "access_denied")),
    ] {
        let assumed = world.assume(principal, role).await;
        assert_eq!(assumed.code(), code, "{principal} {role}");
    }
}

#[tokio::test]
async fn role_without_trust_policy_cannot_be_assumed() {
    let world = world().await;
    let role = world.create("roles", json!({ "name": "Bare" })).await;

    let assumed = world
        .post(&format!("/roles/{role}/assume"), json!({}))
        .await;
    assert_eq!(assumed.code(), (403, "trust_policy_denied"));
}

#[tokio::test]
async fn unknown_role_is_not_found() {
    let path = "/roles/019aaaaa-0000-7000-8000-000000000000/assume";

    let assumed = world().await.post(path, json!({})).await;
    assert_eq!(assumed.code(), (404, "not_found"));
}

#[tokio::test]
async fn session_has_the_requested_duration() {
    let world = world().await;
    let default = world.assume("dev", "S3ReadOnly").await;
    assert_eq!(duration(&default), 3600);

    for seconds in [900, 43_200] {
        let body = json!({ "duration_seconds": seconds });
        let assumed = world.assume_with("dev", "S3ReadOnly", body).await;

        assert_eq!(duration(&assumed), seconds);
        assert_eq!(
            assumed.text("/credentials/expires_at"),
            assumed.text("/session/expires_at")
        );
    }
}

#[tokio::test]
async fn invalid_duration_is_refused() {
    let world = world().await;

    for seconds in [
        json!(899),
        json!(43_201),
        json!(-1),
        json!("900"),
        json!(900.5),
    ] {
        let body = json!({ "duration_seconds": seconds });
        let assumed = world.assume_with("dev", "S3ReadOnly", body).await;

        assert_eq!(assumed.code(), (400, "invalid_request"), "{seconds}");
        assert!(
            assumed.message().starts_with("duration_seconds: "),
            "{seconds}"
        );
    }
}

#[tokio::test]
async fn limit_shortens_sessions() {
    let world = world().await;
    world.limit_sessions(31).await;

    assert_eq!(duration(&world.assume("dev", "S3ReadOnly").await), 31);
}

#[tokio::test]
async fn session_has_the_permissions_of_its_role() {
    let world = world().await;
    let assumed = world.assume("dev", "S3ReadOnly").await;
    let token = session_token(&assumed);

    assert_eq!(world.get_as(token, "/roles").await.status, 200);
    assert_eq!(
        world.get_as(token, "/users").await.code(),
        (403, "access_denied")
    );
}

#[tokio::test]
async fn revoked_session_is_refused() {
    let world = world().await;
    let assumed = world.assume("dev", "S3ReadOnly").await;
    let path = format!("/sts/sessions/{}", session_id(&assumed));

    let revoked = world.delete(&format!("{path}?reason=lost%20laptop")).await;
    assert_eq!(revoked.status, 204);

    let refused = world.get_as(session_token(&assumed), "/roles").await;
    assert_eq!(refused.code(), (401, "session_revoked"));

    let session = world.get(&path).await;
    assert_eq!(session.text("/status"), "revoked");
    assert_eq!(session.text("/revoke_reason"), "lost laptop");
    assert_eq!(
        session.text("/revoked_by"),
        world.id("users", "admin").await
    );
}

#[tokio::test]
async fn expired_session_is_refused() {
    let world = world().await;
    let assumed = world.assume("dev", "S3ReadOnly").await;
    let token = session_token(&assumed);

    world.advance_clock(3599).await;
    assert_eq!(world.get_as(token, "/roles").await.status, 200);

    world.advance_clock(1).await;
    assert_eq!(
        world.get_as(token, "/roles").await.code(),
        (401, "token_expired")
    );

    let session = world
        .get(&format!("/sts/sessions/{}", session_id(&assumed)))
        .await;
    assert_eq!(session.text("/status"), "expired");
}

#[tokio::test]
async fn session_may_read_and_revoke_only_itself() {
    let world = world().await;
    let own = world.assume("dev", "S3ReadOnly").await;
    let other = world.assume("dev", "S3ReadOnly").await;

    for (verb, session, status) in [
        ("GET", &own, 200),
        ("GET", &other, 403),
        ("DELETE", &other, 403),
        ("DELETE", &own, 204),
    ] {
        let path = format!("/sts/sessions/{}", session_id(session));
        let reply = world.call(session_token(&own), verb, &path, None).await;
        assert_eq!(reply.status, status, "{verb}");
    }
}

/// Three sessions of `dev`, and a revoked one of `ci-cd-pipeline`.
async fn world_with_sessions() -> World {
    let world = world().await;
    for role in ["S3ReadOnly", "S3BucketAccess", "S3ReadOnly"] {
        world.assume("dev", role).await;
    }

    let assumed = world.assume("ci-cd-pipeline", "S3ReadOnly").await;
    let path = format!("/sts/sessions/{}", session_id(&assumed));
    let revoked = world
        .call(world.token("ci-cd-pipeline"), "DELETE", &path, None)
        .await;
    assert_eq!(
        revoked.status, 204,
        "a principal may revoke its own session"
    );

    world
}

#[tokio::test]
async fn sessions_are_filtered_by_role_principal_and_activity() {
    let world = world_with_sessions().await;
    let role = world.role("S3ReadOnly");
    let dev = world.id("users", "dev").await;

    for (query, count) in [
        (String::new(), 4),
        ("?active_only=true".into(), 3),
        ("?active_only=false".into(), 4),
        (format!("?role_id={role}"), 3),
        (
            format!("?role_id={role}&principal_id={dev}&active_only=true"),
            2,
        ),
        ("?principal_type=service_account".into(), 1),
    ] {
        assert_eq!(
            world.count(&format!("/sts/sessions{query}")).await,
            count,
            "{query}"
        );
    }
}

#[tokio::test]
async fn principal_may_list_only_its_own_sessions() {
    let world = world_with_sessions().await;
    let dev = world.id("users", "dev").await;
    let sessions_of_dev = format!("/sts/sessions?principal_id={dev}");

    let own = world.get_as(world.token("dev"), &sessions_of_dev).await;
    assert_eq!(own.status, 200);

    for path in [&*sessions_of_dev, "/sts/sessions"] {
        let denied = world.get_as(world.token("ci-cd-pipeline"), path).await;
        assert_eq!(denied.code(), (403, "access_denied"), "{path}");
    }
}
