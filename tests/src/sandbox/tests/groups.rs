use serde_json::json;

use super::{World, world};

async fn create_role_as(world: &World, token: &str, name: &str) -> u16 {
    world
        .call(token, "POST", "/roles", Some(json!({ "name": name })))
        .await
        .status
}

/// A group with the policy `AdministratorAccess`: the ids of both.
async fn admin_group(world: &World) -> (String, String) {
    let body = json!({ "name": "developers", "description": "build" });
    let group = world.create("groups", body).await;
    let policy = world.id("policies", "AdministratorAccess").await;
    world.attach(&format!("/groups/{group}"), &policy).await;

    (group, policy)
}

#[tokio::test]
async fn policies_of_a_group_apply_to_its_members() {
    let world = world().await;
    let (group, _) = admin_group(&world).await;

    for (collection, name) in [("users", "dev"), ("service-accounts", "ci-cd-pipeline")] {
        let token = world.token(name);
        let id = world.id(collection, name).await;
        let member = format!("/{collection}/{id}");
        let membership = format!("{member}/groups/{group}");
        assert_eq!(
            create_role_as(&world, token, &format!("{name}-before")).await,
            403
        );

        world.join(&member, &group).await;
        world.join(&member, &group).await;
        assert_eq!(world.count(&format!("{member}/groups")).await, 1);
        assert_eq!(
            world.count(&format!("/groups/{group}/{collection}")).await,
            1
        );
        assert_eq!(
            create_role_as(&world, token, &format!("{name}-while")).await,
            201
        );

        let assumed = world.assume(name, "S3ReadOnly").await;
        let session = assumed.text("/credentials/session_token");
        assert_eq!(
            create_role_as(&world, session, "session").await,
            403,
            "only the role's"
        );

        assert_eq!(world.delete(&membership).await.status, 204);
        assert_eq!(world.delete(&membership).await.code(), (404, "not_found"));
        assert_eq!(
            create_role_as(&world, token, &format!("{name}-after")).await,
            403
        );
        assert_eq!(
            world.get_as(token, "/users").await.status,
            200,
            "its own policies remain"
        );
    }
}

#[tokio::test]
async fn group_in_use_cannot_be_deleted() {
    let world = world().await;
    let (group, policy) = admin_group(&world).await;
    let path = format!("/groups/{group}");
    let policies = format!("{path}/policies");
    assert_eq!(world.count(&policies).await, 1);
    assert_eq!(world.count(&format!("/policies/{policy}/groups")).await, 1);

    let dev = world.id("users", "dev").await;
    world.join(&format!("/users/{dev}"), &group).await;
    assert_eq!(
        world.delete(&path).await.code(),
        (409, "in_use"),
        "it has a member"
    );

    world.delete(&format!("/users/{dev}/groups/{group}")).await;
    assert_eq!(
        world.delete(&path).await.code(),
        (409, "in_use"),
        "it has a policy"
    );

    world.delete(&format!("{policies}/{policy}")).await;
    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(world.get(&path).await.code(), (404, "not_found"));
}

#[tokio::test]
async fn group_with_service_account_cannot_be_deleted() {
    let world = world().await;
    let group = world.create("groups", json!({ "name": "machines" })).await;
    let account = world.id("service-accounts", "ci-cd-pipeline").await;
    world
        .join(&format!("/service-accounts/{account}"), &group)
        .await;

    let deleted = world.delete(&format!("/groups/{group}")).await;
    assert_eq!(deleted.code(), (409, "in_use"));
}

#[tokio::test]
async fn deny_of_a_group_wins_over_allow_of_a_member() {
    let world = world().await;
    let document = json!({ "version": "2024-01-01", "statements": [
        { "effect": "deny", "actions": ["sts:AssumeRole"], "resources": ["*:role/S3ReadOnly"] }] });
    let body = json!({ "name": "NoReading", "document": document });
    let policy = world.create("policies", body).await;
    let group = world.create("groups", json!({ "name": "locked" })).await;
    world.attach(&format!("/groups/{group}"), &policy).await;
    assert_eq!(world.assume("dev", "S3ReadOnly").await.status, 201);

    let dev = world.id("users", "dev").await;
    world.join(&format!("/users/{dev}"), &group).await;

    let denied = world.assume("dev", "S3ReadOnly").await;
    assert_eq!(denied.code(), (403, "access_denied"));
    assert_eq!(world.assume("dev", "S3BucketAccess").await.status, 201);
}
