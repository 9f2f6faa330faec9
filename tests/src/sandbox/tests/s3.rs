//! What the keys of a session may do, and what S3 does not support.

use serde_json::{Value, json};

use super::s3_client::draft;
use super::world;

/// Decoded: `a b+c//ü`.
const KEY: &str = "/proof/a%20b%2Bc//%C3%BC";

#[tokio::test]
async fn object_has_the_data_and_headers_of_its_put() {
    let world = world().await;
    let keys = world.create_bucket().await;
    let put = draft("PUT", KEY, "first")
        .with("x-amz-meta-colour", "red")
        .with("content-type", "text/plain");
    assert_eq!(world.s3(&keys, put).await.status, 200);

    let object = world.s3(&keys, draft("GET", KEY, "")).await;
    assert_eq!(object.status, 200);
    assert_eq!(object.body, "first");
    assert_eq!(object.header("x-amz-meta-colour"), "red");
    assert_eq!(object.header("content-type"), "text/plain");

    let head = world.s3(&keys, draft("HEAD", KEY, "")).await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), "5");
    assert_eq!(head.body, "");

    assert_eq!(world.s3(&keys, draft("DELETE", KEY, "")).await.status, 204);
    assert_eq!(
        world.s3(&keys, draft("GET", KEY, "")).await.code(),
        (404, "NoSuchKey")
    );
}

#[tokio::test]
async fn bucket_with_objects_cannot_be_deleted() {
    let world = world().await;
    let keys = world.create_bucket().await;
    world.s3(&keys, draft("PUT", KEY, "first")).await;

    let deleted = world.s3(&keys, draft("DELETE", "/proof", "")).await;
    assert_eq!(deleted.code(), (409, "BucketNotEmpty"));

    world.s3(&keys, draft("DELETE", KEY, "")).await;
    assert_eq!(
        world.s3(&keys, draft("DELETE", "/proof", "")).await.status,
        204
    );
}

#[tokio::test]
async fn read_only_keys_can_read_but_not_write() {
    let world = world().await;
    let writer = world.create_bucket().await;
    let reader = world.keys("ci-cd-pipeline", "S3ReadOnly").await;
    world.s3(&writer, draft("PUT", KEY, "first")).await;

    let buckets = world.s3(&reader, draft("GET", "/", "")).await;
    assert_eq!(buckets.tag("Name"), "proof");
    assert_eq!(
        world.s3(&reader, draft("HEAD", "/proof", "")).await.status,
        200
    );
    let list = world
        .s3(&reader, draft("GET", "/proof", "").query("list-type", "2"))
        .await;
    assert_eq!(list.tag("Key"), "a b+c//ü");
    assert_eq!(list.tag("Size"), "5");
    assert_eq!(list.tag("KeyCount"), "1");
    let head = world.s3(&reader, draft("HEAD", KEY, "")).await;
    assert_eq!(head.status, 200);

    for write in [
        draft("PUT", KEY, "second"),
        draft("DELETE", KEY, ""),
        draft("PUT", "/another", ""),
        draft("DELETE", "/proof", ""),
    ] {
        let name = format!("{} {}", write.verb, write.path);
        assert_eq!(
            world.s3(&reader, write).await.code(),
            (403, "AccessDenied"),
            "{name}"
        );
    }
    let object = world.s3(&reader, draft("GET", KEY, "")).await;
    assert_eq!(object.body, "first");
}

#[tokio::test]
async fn policy_can_allow_one_folder_of_a_bucket() {
    let world = world().await;
    let writer = world.create_bucket().await;
    let document = json!({ "version": "2024-01-01", "statements": [
        { "effect": "allow", "actions": ["s3:GetObject"], "resources": ["crn:bycloud:s3:*:object/proof/open/*"] }] });
    let body = json!({ "name": "Open", "document": document });
    let policy = world.create("policies", body).await;
    world
        .attach(&format!("/roles/{}", world.role("NotAllowed")), &policy)
        .await;
    for key in ["open/a", "closed/a"] {
        world
            .s3(&writer, draft("PUT", &format!("/proof/{key}"), key))
            .await;
    }

    let keys = world.keys("admin", "NotAllowed").await;
    let object = world.s3(&keys, draft("GET", "/proof/open/a", "")).await;
    assert_eq!(object.body, "open/a");
    for path in ["/proof/closed/a", "/"] {
        let denied = world.s3(&keys, draft("GET", path, "")).await;
        assert_eq!(denied.code(), (403, "AccessDenied"), "{path}");
    }
}

#[tokio::test]
async fn requests_are_in_the_request_log_and_the_audit_log() {
    let world = world().await;
    let writer = world.create_bucket().await;
    let reader = world.keys("ci-cd-pipeline", "S3ReadOnly").await;
    world.control("DELETE", "/s3-requests", None).await;

    world.s3(&writer, draft("PUT", "/proof/k", "x")).await;
    world.s3(&reader, draft("PUT", "/proof/k", "y")).await;
    world.s3(&reader, draft("GET", "/proof/none", "")).await;
    world
        .s3(&reader, draft("GET", "/proof/none", "").query("acl", ""))
        .await;
    world.send(&draft("GET", "/proof/k", "")).await;

    let requests = world.control("GET", "/s3-requests", None).await.body;
    assert_eq!(
        requests,
        json!([
            { "access_key_id": writer.id, "operation": "putObject", "status": 200, "code": null },
            { "access_key_id": reader.id, "operation": "putObject", "status": 403, "code": "AccessDenied" },
            { "access_key_id": reader.id, "operation": "getObject", "status": 404, "code": "NoSuchKey" },
            { "access_key_id": reader.id, "operation": null, "status": 501, "code": "NotImplemented" },
            { "access_key_id": null, "operation": "getObject", "status": 403, "code": "AccessDenied" },
        ])
    );

    let log = world.get("/audit-logs?action=s3.*").await;
    // The first entry is of the bucket.
    let entries: Vec<_> = log.items()[1..]
        .iter()
        .map(|entry| (&entry["action"], &entry["status"], &entry["session_id"]))
        .collect();
    assert_eq!(
        entries,
        [
            (
                &json!("s3.putObject"),
                &json!("success"),
                &json!(writer.session)
            ),
            (
                &json!("s3.putObject"),
                &json!("denied"),
                &json!(reader.session)
            ),
            (
                &json!("s3.getObject"),
                &json!("error"),
                &json!(reader.session)
            ),
            (&json!("s3.getObject"), &json!("denied"), &Value::Null),
        ]
    );
    assert_eq!(log.items()[1]["resource_type"], "object");
    assert_eq!(log.items()[1]["resource_id"], "proof/k");
}

#[tokio::test]
async fn logs_have_no_secrets() {
    let world = world().await;
    let writer = world.create_bucket().await;
    let reader = world.keys("ci-cd-pipeline", "S3ReadOnly").await;
    world.s3(&writer, draft("PUT", "/proof/k", "x")).await;
    world.s3(&reader, draft("PUT", "/proof/k", "y")).await;

    let requests = world.control("GET", "/s3-requests", None).await;
    let entries = world.get("/audit-logs?action=s3.*").await;
    let logs = format!("{}{}", requests.body, entries.body);
    for keys in [&writer, &reader] {
        assert!(logs.contains(&keys.id));
        assert!(!logs.contains(&keys.secret));
        assert!(!logs.contains(&keys.token));
    }
}

#[tokio::test]
async fn request_log_can_be_cleared() {
    let world = world().await;
    world.create_bucket().await;

    let cleared = world.control("DELETE", "/s3-requests", None).await;
    assert_eq!(cleared.status, 200);
    assert_eq!(
        world.control("GET", "/s3-requests", None).await.body,
        json!([])
    );
}

#[tokio::test]
async fn unsupported_request_is_refused() {
    let world = world().await;
    let keys = world.create_bucket().await;
    world.s3(&keys, draft("PUT", "/proof/k", "x")).await;

    for request in [
        draft("POST", "/proof/k", "").query("uploads", ""),
        draft("GET", "/proof", ""),
        draft("GET", "/proof/k", "").query("versionId", "1"),
        draft("PUT", "/proof/k", "").with("x-amz-copy-source", "proof/j"),
        draft("PUT", "/proof/k", "y").with("if-none-match", "*"),
        draft("PUT", "/proof/k", "y").with("content-md5", "x"),
        draft("PUT", "/", ""),
    ] {
        let name = format!("{} {} {:?}", request.verb, request.path, request.headers);
        let refused = world.s3(&keys, request).await;
        assert_eq!(refused.code(), (501, "NotImplemented"), "{name}");
    }
    assert_eq!(world.object(&keys).await, "x", "unchanged");
}

#[tokio::test]
async fn invalid_request_has_the_error_code_of_s3() {
    let world = world().await;
    let keys = world.create_bucket().await;
    world.s3(&keys, draft("PUT", "/proof/k", "x")).await;
    let long_key = format!("/proof/{}", "k".repeat(1025));
    let get = draft("GET", "/proof/k", "");

    for (code, request) in [
        ((400, "InvalidBucketName"), draft("PUT", "/No", "")),
        ((400, "InvalidBucketName"), draft("PUT", "/-bucket", "")),
        ((400, "KeyTooLongError"), draft("PUT", &long_key, "")),
        ((400, "InvalidURI"), draft("GET", "/proof/%FF", "")),
        ((409, "BucketAlreadyOwnedByYou"), draft("PUT", "/proof", "")),
        ((404, "NoSuchBucket"), draft("PUT", "/nowhere/k", "")),
        (
            (412, "PreconditionFailed"),
            get.clone().with("if-match", "\"other\""),
        ),
        ((416, "InvalidRange"), get.with("range", "bytes=1-")),
        ((404, ""), draft("HEAD", "/proof/none", "")),
    ] {
        let name = format!("{} {} {:?}", request.verb, request.path, request.headers);
        assert_eq!(world.s3(&keys, request).await.code(), code, "{name}");
    }
    assert_eq!(world.object(&keys).await, "x", "unchanged");
}
