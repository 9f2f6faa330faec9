use serde_json::json;

use super::{Reply, World, world};

impl World {
    async fn accept(&self, invitation: &str) -> Reply {
        let path = format!("/invitations/{invitation}/accept");
        self.control("POST", &path, Some(json!({}))).await
    }
}

#[tokio::test]
async fn accepted_invitation_creates_a_user_in_existing_groups() {
    let world = world().await;
    let group = world
        .create("groups", json!({ "name": "developers" }))
        .await;
    let deleted = world.create("groups", json!({ "name": "deleted" })).await;
    let body = json!({ "email": "new@example.test", "group_ids": [group, deleted] });

    let invitation = world.create("users", body).await;
    let path = format!("/invitations/{invitation}");
    assert_eq!(world.get(&path).await.text("/status"), "pending");
    assert_eq!(world.count("/users").await, 2, "no new user yet");

    world.delete(&format!("/groups/{deleted}")).await;
    let accepted = world.accept(&invitation).await;
    assert_eq!(world.get(&path).await.text("/status"), "accepted");

    let user = format!("/users/{}", accepted.text("/id"));
    assert_eq!(world.get(&user).await.text("/name"), "new");
    assert_eq!(world.count(&format!("{user}/groups")).await, 1);
    let denied = world.get_as(accepted.text("/token"), "/roles").await;
    assert_eq!(
        denied.status, 403,
        "the token is valid, but the user has no policy"
    );

    assert_eq!(world.delete(&user).await.status, 204);
    assert_eq!(world.count(&format!("/groups/{group}/users")).await, 0);
}

#[tokio::test]
async fn invited_or_existing_user_cannot_be_invited_again() {
    let world = world().await;
    let body = json!({ "email": "new@example.test" });

    let invitation = world.create("users", body.clone()).await;
    let again = world.post("/users", body.clone()).await;
    assert_eq!(again.code(), (409, "conflict"), "invited");

    world.accept(&invitation).await;
    let again = world.post("/users", body).await;
    assert_eq!(again.code(), (409, "conflict"), "a user: {}", again.body);
}

#[tokio::test]
async fn only_pending_invitations_can_be_cancelled_or_accepted() {
    let world = world().await;
    let accepted = world
        .create("users", json!({ "email": "new@example.test" }))
        .await;
    let cancelled = world
        .create("users", json!({ "email": "other@example.test" }))
        .await;

    world.accept(&accepted).await;
    let reply = world.delete(&format!("/invitations/{accepted}")).await;
    assert_eq!(reply.code(), (409, "conflict"));

    let reply = world.delete(&format!("/invitations/{cancelled}")).await;
    assert_eq!(reply.status, 204);
    assert_eq!(world.accept(&cancelled).await.code(), (409, "conflict"));

    for (status, count) in [("pending", 0), ("accepted", 1), ("cancelled", 1)] {
        let path = format!("/invitations?status={status}");
        assert_eq!(world.count(&path).await, count, "{status}");
    }
}

#[tokio::test]
async fn invitation_to_an_unknown_group_is_refused() {
    let world = world().await;
    let group = world.create("groups", json!({ "name": "deleted" })).await;
    world.delete(&format!("/groups/{group}")).await;

    let body = json!({ "email": "x@example.test", "group_ids": [group] });
    assert_eq!(world.post("/users", body).await.code(), (404, "not_found"));
}
