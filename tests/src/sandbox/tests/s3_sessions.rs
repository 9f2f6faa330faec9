//! Keys are valid only together, and only as long as their session.

use serde_json::json;

use super::s3_client::{Draft, Keys, draft};
use super::{World, world};

const MISMATCH: (u16, &str) = (403, "SignatureDoesNotMatch");
const INVALID_TOKEN: (u16, &str) = (400, "InvalidToken");

fn signed_get(world: &World, keys: &Keys) -> Draft {
    draft("GET", "/", "").signed(world.host(), keys, "s3", 0)
}

/// A request with keys of different sessions must be refused. The error must have no secret of the
/// others.
async fn check_refused(world: &World, mixed: &Keys, others: [&Keys; 2], code: (u16, &str)) {
    let refused = world.s3(mixed, draft("GET", "/", "")).await;

    assert_eq!(refused.code(), code);
    for keys in others {
        assert!(
            !refused.body.contains(&keys.secret),
            "an error has the secret"
        );
        assert!(
            !refused.body.contains(&keys.token),
            "an error has the token"
        );
    }
}

#[tokio::test]
async fn keys_with_a_wrong_part_are_refused() {
    let world = world().await;
    let keys = world.create_bucket().await;
    let other = world.keys("dev", "S3BucketAccess").await;
    let others = [&keys, &other];

    for secret in [&*other.secret, ""] {
        let mixed = Keys {
            secret: secret.into(),
            ..keys.clone()
        };
        check_refused(&world, &mixed, others, MISMATCH).await;
    }

    let mixed = Keys {
        id: "BYIA0000000000000000".into(),
        ..keys.clone()
    };
    check_refused(&world, &mixed, others, (403, "InvalidAccessKeyId")).await;
    let mixed = Keys {
        id: other.id.clone(),
        ..keys.clone()
    };
    check_refused(&world, &mixed, others, INVALID_TOKEN).await;

    for token in [&*other.token, "nonsense", world.token("admin")] {
        let mixed = Keys {
            token: token.into(),
            ..keys.clone()
        };
        check_refused(&world, &mixed, others, INVALID_TOKEN).await;
    }
}

#[tokio::test]
async fn keys_of_a_revoked_session_are_refused() {
    let world = world().await;
    let valid = world.create_bucket().await;
    let revoked = world.keys("dev", "S3BucketAccess").await;
    assert_eq!(world.send(&signed_get(&world, &revoked)).await.status, 200);

    let reply = world
        .delete(&format!("/sts/sessions/{}", revoked.session))
        .await;
    assert_eq!(reply.status, 204);

    let refused = world.send(&signed_get(&world, &revoked)).await;
    assert_eq!(refused.code(), INVALID_TOKEN);
    assert!(
        refused.tag("Message").contains("revoked"),
        "{}",
        refused.body
    );

    let put = world.s3(&revoked, draft("PUT", "/proof/k", "late")).await;
    assert_eq!(put.code(), INVALID_TOKEN);
    let object = world.s3(&valid, draft("GET", "/proof/k", "")).await;
    assert_eq!(object.code(), (404, "NoSuchKey"), "it was not stored");
}

#[tokio::test]
async fn keys_of_a_disabled_principal_are_refused() {
    let world = world().await;
    let keys = world.keys("ci-cd-pipeline", "S3ReadOnly").await;
    assert_eq!(world.send(&signed_get(&world, &keys)).await.status, 200);

    let id = world.id("service-accounts", "ci-cd-pipeline").await;
    let path = format!("/service-accounts/{id}");
    world.patch(&path, json!({ "enabled": false })).await;

    let refused = world.send(&signed_get(&world, &keys)).await;
    assert_eq!(refused.code(), INVALID_TOKEN);
}

#[tokio::test]
async fn keys_of_an_expired_session_are_refused() {
    let world = world().await;
    world.create_bucket().await;
    world.limit_sessions(30).await;
    let keys = world.keys("dev", "S3BucketAccess").await;
    assert_eq!(world.send(&signed_get(&world, &keys)).await.status, 200);

    world.advance_clock(31).await;

    let refused = world.send(&signed_get(&world, &keys)).await;
    assert_eq!(refused.code(), (400, "ExpiredToken"));
    let url = draft("GET", "/proof/k", "").presigned(world.host(), &keys, 600, 0);
    let refused = world.send(&url).await;
    assert_eq!(
        refused.code(),
        (400, "ExpiredToken"),
        "a URL that is valid for longer"
    );
}

#[tokio::test]
async fn refusals_are_in_the_audit_log_with_their_sessions() {
    let world = world().await;
    let revoked = world.keys("dev", "S3BucketAccess").await;
    let disabled = world.keys("ci-cd-pipeline", "S3ReadOnly").await;
    world.limit_sessions(30).await;
    let expired = world.keys("dev", "S3BucketAccess").await;

    world
        .delete(&format!("/sts/sessions/{}", revoked.session))
        .await;
    let id = world.id("service-accounts", "ci-cd-pipeline").await;
    world
        .patch(
            &format!("/service-accounts/{id}"),
            json!({ "enabled": false }),
        )
        .await;
    world.advance_clock(31).await;
    for keys in [&revoked, &disabled, &expired] {
        world.send(&signed_get(&world, keys)).await;
    }

    let entries = world
        .get("/audit-logs?action=s3.listBuckets&status=denied")
        .await;
    let sessions: Vec<_> = entries
        .items()
        .iter()
        .map(|entry| &entry["session_id"])
        .collect();
    assert_eq!(
        sessions,
        [&revoked.session, &disabled.session, &expired.session]
    );
}
