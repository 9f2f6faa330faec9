use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{World, world};

/// `/service-accounts/ID` of `ci-cd-pipeline`.
async fn account_path(world: &World) -> String {
    let id = world.id("service-accounts", "ci-cd-pipeline").await;

    format!("/service-accounts/{id}")
}

#[tokio::test]
async fn unknown_token_is_refused() {
    let world = world().await;

    for token in ["", "nonsense"] {
        assert_eq!(
            world.get_as(token, "/roles").await.code(),
            (401, "invalid_token")
        );
    }
}

#[tokio::test]
async fn credential_is_valid_until_it_expires_or_is_deleted() {
    let world = world().await;
    let path = format!("{}/credentials", account_path(&world).await);
    let expires_at = (Timestamp::now() + Duration::from_secs(60)).to_string();
    let body = json!({ "name": "short", "expires_at": expires_at });

    let created = world.post(&path, body).await;
    let secret = created.text("/secret");
    assert_eq!(world.get_as(secret, "/roles").await.status, 200);

    world.advance_clock(61).await;
    assert_eq!(
        world.get_as(secret, "/roles").await.code(),
        (401, "token_expired")
    );

    let deleted = world
        .delete(&format!("{path}/{}", created.text("/id")))
        .await;
    assert_eq!(deleted.status, 204);
    assert_eq!(
        world.get_as(secret, "/roles").await.code(),
        (401, "invalid_token")
    );
}

#[tokio::test]
async fn only_the_create_reply_has_the_secret() {
    let world = world().await;
    let path = format!("{}/credentials", account_path(&world).await);

    let created = world.post(&path, json!({ "name": "second" })).await;
    let list = world.get(&path).await;

    assert_eq!(list.items().len(), 2);
    assert!(!list.body.to_string().contains(created.text("/secret")));
}

#[tokio::test]
async fn credential_with_invalid_expiry_is_refused() {
    let world = world().await;
    let path = format!("{}/credentials", account_path(&world).await);

    for expires_at in ["yesterday", "2020-01-01T00:00:00Z"] {
        let reply = world
            .post(&path, json!({ "name": "x", "expires_at": expires_at }))
            .await;
        assert_eq!(reply.code(), (400, "invalid_request"), "{expires_at}");
    }
}

#[tokio::test]
async fn disabling_an_account_ends_its_token_and_sessions() {
    let world = world().await;
    let token = world.token("ci-cd-pipeline");
    let assumed = world.assume("ci-cd-pipeline", "S3ReadOnly").await;
    let session_token = assumed.text("/credentials/session_token");
    let path = account_path(&world).await;

    let disabled = world.patch(&path, json!({ "enabled": false })).await;
    assert_eq!(disabled.body["enabled"], false);
    assert_eq!(
        world.get_as(token, "/roles").await.code(),
        (401, "principal_disabled")
    );
    assert_eq!(
        world.get_as(session_token, "/roles").await.code(),
        (401, "session_revoked")
    );

    world.patch(&path, json!({ "enabled": true })).await;
    assert_eq!(world.get_as(token, "/roles").await.status, 200);

    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(
        world.get_as(token, "/roles").await.code(),
        (401, "invalid_token")
    );
}

#[tokio::test]
async fn removed_user_has_no_valid_token() {
    let world = world().await;
    let body = json!({ "email": "new@example.test" });
    let user = world.control("POST", "/users", Some(body)).await;
    let token = user.text("/token");
    let path = format!("/users/{}", user.text("/id"));

    let denied = world.get_as(token, "/roles").await;
    assert_eq!(
        denied.code(),
        (403, "access_denied"),
        "the user has no policy"
    );
    assert_eq!(world.get(&path).await.text("/email"), "new@example.test");

    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(
        world.get_as(token, "/roles").await.code(),
        (401, "invalid_token")
    );
    assert_eq!(world.get(&path).await.code(), (404, "not_found"));
}

#[tokio::test]
async fn principal_cannot_remove_itself() {
    let world = world().await;
    let admin = world.id("users", "admin").await;
    let removed = world.delete(&format!("/users/{admin}")).await;
    assert_eq!(removed.code(), (409, "conflict"));

    let path = account_path(&world).await;
    let policy = world.id("policies", "AdministratorAccess").await;
    world.attach(&path, &policy).await;
    let removed = world
        .call(world.token("ci-cd-pipeline"), "DELETE", &path, None)
        .await;
    assert_eq!(removed.code(), (409, "conflict"));

    assert_eq!(
        world.delete(&path).await.status,
        204,
        "another principal may"
    );
    let owners = format!("/policies/{policy}/service-accounts");
    assert_eq!(world.count(&owners).await, 0);
}
