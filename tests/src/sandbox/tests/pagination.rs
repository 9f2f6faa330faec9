use serde_json::json;

use super::{World, world};

/// Creates `Page0` to `Page9` and returns their ids.
async fn create_roles(world: &World) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(
            world
                .create("roles", json!({ "name": format!("Page{number}") }))
                .await,
        );
    }
    ids
}

#[tokio::test]
async fn pages_are_complete_while_items_are_added_and_deleted() {
    let world = world().await;
    let mut ids = create_roles(&world).await;

    let first = world.get("/roles?name=Page*&limit=4").await;
    let marker = first.text("/next_marker");
    assert_eq!(first.items().len(), 4);
    assert_eq!(marker, ids[3]);

    // The marker remains valid without its item.
    assert_eq!(world.delete(&format!("/roles/{marker}")).await.status, 204);
    ids.push(world.create("roles", json!({ "name": "Page10" })).await);

    let second = world
        .get(&format!("/roles?name=Page*&limit=4&marker={marker}"))
        .await;
    let marker = second.text("/next_marker");
    let third = world
        .get(&format!("/roles?name=Page*&limit=4&marker={marker}"))
        .await;
    assert!(third.body["next_marker"].is_null());

    let listed: Vec<_> = [&first, &second, &third]
        .iter()
        .flat_map(|page| page.items())
        .map(|item| item["id"].as_str().unwrap())
        .collect();
    assert_eq!(listed, ids);
}

#[tokio::test]
async fn name_filter_is_exact_and_case_sensitive() {
    let world = world().await;
    create_roles(&world).await;
    world.create("roles", json!({ "name": "Page10" })).await;

    assert_eq!(world.count("/roles?name=Page*").await, 11);
    assert_eq!(world.count("/roles?name=page*").await, 0, "another case");
    assert_eq!(world.count("/roles?name=Page1").await, 1, "not Page10");
}
