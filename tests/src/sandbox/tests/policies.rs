use serde_json::{Value, json};

use super::{World, world};

#[tokio::test]
async fn policy_applies_while_it_is_attached() {
    let world = world().await;
    let policy = world.id("policies", "AdministratorAccess").await;

    for (collection, name) in [("users", "dev"), ("service-accounts", "ci-cd-pipeline")] {
        let id = world.id(collection, name).await;
        let owner = format!("/{collection}/{id}");
        let attached = format!("{owner}/policies/{policy}");
        assert_eq!(create_role_as(&world, name, "before").await, 403);

        world.attach(&owner, &policy).await;
        world.attach(&owner, &policy).await;
        assert_eq!(
            world.count(&format!("{owner}/policies")).await,
            2,
            "attached once"
        );
        assert_eq!(create_role_as(&world, name, "while").await, 201);
        let owners = world.get(&format!("/policies/{policy}/{collection}")).await;
        assert!(owners.body.to_string().contains(name));

        assert_eq!(world.delete(&attached).await.status, 204);
        assert_eq!(world.delete(&attached).await.code(), (404, "not_found"));
        assert_eq!(create_role_as(&world, name, "after").await, 403);
    }
}

async fn create_role_as(world: &World, principal: &str, suffix: &str) -> u16 {
    let body = json!({ "name": format!("{principal}-{suffix}") });

    world
        .call(world.token(principal), "POST", "/roles", Some(body))
        .await
        .status
}

#[tokio::test]
async fn attached_policy_cannot_be_deleted() {
    let world = world().await;
    let policy = world.id("policies", "AdministratorAccess").await;

    for (collection, name) in [("users", "dev"), ("service-accounts", "ci-cd-pipeline")] {
        let id = world.id(collection, name).await;
        let owner = format!("/{collection}/{id}");
        world.attach(&owner, &policy).await;

        let deleted = world.delete(&format!("/policies/{policy}")).await;
        assert_eq!(deleted.code(), (409, "in_use"), "{collection}");

        world.delete(&format!("{owner}/policies/{policy}")).await;
    }
}

#[tokio::test]
async fn role_is_created_changed_and_deleted() {
    let trust_policy = json!({ "version": "2024-01-01", "statements": [
        { "effect": "allow", "principals": ["*"] }] });
    let body = json!({ "name": "New", "trust_policy": trust_policy });

    check_lifecycle("roles", body, "description", json!("changed")).await;
}

#[tokio::test]
async fn policy_is_created_changed_and_deleted() {
    let document = json!({ "version": "2024-01-01", "statements": [
        { "effect": "allow", "actions": ["s3:*"] }] });
    let body = json!({ "name": "New", "document": document });

    check_lifecycle("policies", body, "name", json!("Newer")).await;
}

async fn check_lifecycle(collection: &str, body: Value, key: &str, value: Value) {
    let world = world().await;
    let collection = format!("/{collection}");

    let created = world.post(&collection, body.clone()).await;
    assert_eq!(created.status, 201, "{}", created.body);
    let path = format!("{collection}/{}", created.text("/id"));
    assert_eq!(world.get(&path).await.body, created.body);

    let second = world.post(&collection, body).await;
    assert_eq!(second.code(), (409, "conflict"), "the name is taken");

    let change = json!({ key: value });
    let changed = world.patch(&path, change.clone()).await;
    assert_eq!(changed.body[key], value);

    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(world.get(&path).await.code(), (404, "not_found"));
    assert_eq!(world.patch(&path, change).await.code(), (404, "not_found"));
    assert_eq!(world.delete(&path).await.code(), (404, "not_found"));
}

#[tokio::test]
async fn role_with_a_policy_cannot_be_deleted() {
    let world = world().await;

    let deleted = world
        .delete(&format!("/roles/{}", world.role("S3ReadOnly")))
        .await;
    assert_eq!(deleted.code(), (409, "in_use"));
}

#[tokio::test]
async fn role_with_an_active_session_cannot_be_deleted() {
    let world = world().await;
    let path = format!("/roles/{}", world.role("NotAllowed"));
    world.post(&format!("{path}/assume"), json!({})).await;

    assert_eq!(world.delete(&path).await.code(), (409, "in_use"));

    world.advance_clock(3601).await;
    assert_eq!(world.delete(&path).await.status, 204);
}
