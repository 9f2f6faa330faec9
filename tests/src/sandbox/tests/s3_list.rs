use super::s3_client::{Draft, Keys, S3Reply, draft};
use super::{World, world};

/// A bucket with six objects.
async fn world_with_objects() -> (World, Keys) {
    let world = world().await;
    let keys = world.create_bucket().await;
    for key in ["a/1", "a/2", "b", "c/1", "c/2", "d%261"] {
        let put = world
            .s3(&keys, draft("PUT", &format!("/proof/{key}"), ""))
            .await;
        assert_eq!(put.status, 200);
    }

    (world, keys)
}

fn list(parameters: &[(&str, &str)]) -> Draft {
    let mut list = draft("GET", "/proof", "").query("list-type", "2");
    for (name, value) in parameters {
        list = list.query(name, *value);
    }
    list
}

/// The key or the common prefix of a page with one item.
fn only_item(page: &S3Reply) -> String {
    assert_eq!(page.status, 200, "{}", page.body);
    assert_eq!(page.tag("KeyCount"), "1");

    match page.body.split_once("<CommonPrefixes><Prefix>") {
        Some((_, rest)) => rest.split_once('<').unwrap().0.into(),
        None => page.tag("Key").into(),
    }
}

#[tokio::test]
async fn pages_with_a_delimiter_are_complete() {
    let (world, keys) = world_with_objects().await;
    let parameters = [
        ("delimiter", "%2F"),
        ("max-keys", "1"),
        ("encoding-type", "url"),
    ];
    let mut items = Vec::new();

    let mut page = world.s3(&keys, list(&parameters)).await;
    items.push(only_item(&page));
    while page.tag("IsTruncated") == "true" {
        let token = page.tag("NextContinuationToken");
        page = world
            .s3(&keys, list(&parameters).query("continuation-token", token))
            .await;
        items.push(only_item(&page));
    }

    assert_eq!(page.tag("IsTruncated"), "false");
    assert_eq!(items, ["a%2F", "b", "c%2F", "d%261"]);
}

#[tokio::test]
async fn list_starts_after_a_key() {
    let (world, keys) = world_with_objects().await;

    let page = world
        .s3(&keys, list(&[("prefix", "c%2F"), ("start-after", "c%2F1")]))
        .await;
    assert_eq!(page.tag("KeyCount"), "1");
    assert_eq!(page.tag("Key"), "c/2");

    let page = world.s3(&keys, list(&[("start-after", "d")])).await;
    assert_eq!(page.tag("Key"), "d&amp;1");
}

#[tokio::test]
async fn page_of_zero_keys_is_not_truncated() {
    let (world, keys) = world_with_objects().await;

    let page = world.s3(&keys, list(&[("max-keys", "0")])).await;
    assert_eq!(page.tag("IsTruncated"), "false");
}

#[tokio::test]
async fn invalid_parameter_is_refused() {
    let (world, keys) = world_with_objects().await;

    for parameter in [
        ("max-keys", "many"),
        ("continuation-token", "xyz"),
        ("encoding-type", "rot13"),
    ] {
        let refused = world.s3(&keys, list(&[parameter])).await;
        assert_eq!(refused.code(), (400, "InvalidArgument"), "{parameter:?}");
    }
}
