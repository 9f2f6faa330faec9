//! Refusals. Each request is valid except for one thing.

use super::s3_client::{Draft, Keys, draft, hex_sha256, signing_time};
use super::{World, world};

const MISMATCH: (u16, &str) = (403, "SignatureDoesNotMatch");
const INVALID_TOKEN: (u16, &str) = (400, "InvalidToken");
const DENIED: (u16, &str) = (403, "AccessDenied");
const SKEWED: (u16, &str) = (403, "RequestTimeTooSkewed");

fn signed_put(world: &World, keys: &Keys) -> Draft {
    draft("PUT", "/proof/k", "changed")
        .with("x-amz-meta-a", "1")
        .query("x-id", "PutObject")
        .signed(world.host(), keys, "s3", 0)
}

fn signed_get(world: &World, keys: &Keys, shift: i64) -> Draft {
    draft("GET", "/", "").signed(world.host(), keys, "s3", shift)
}

type Change<'a> = (&'a str, (u16, &'a str), &'a dyn Fn(&mut Draft));

/// Each change must be refused without an effect.
async fn check_changes(world: &World, keys: &Keys, changes: &[Change<'_>]) {
    world.s3(keys, draft("PUT", "/proof/k", "original")).await;

    for (name, code, change) in changes {
        let mut put = signed_put(world, keys);
        change(&mut put);

        assert_eq!(world.send(&put).await.code(), *code, "{name}");
        assert_eq!(world.object(keys).await, "original", "{name}");
    }

    assert_eq!(world.send(&signed_put(world, keys)).await.status, 200);
    assert_eq!(world.object(keys).await, "changed");
}

#[tokio::test]
async fn request_changed_after_signing_is_refused() {
    let world = world().await;
    let keys = world.create_bucket().await;

    let changes: [Change<'_>; 8] = [
        ("header changed", MISMATCH, &|put| {
            put.set("x-amz-meta-a", "2");
        }),
        ("header removed", MISMATCH, &|put| {
            put.remove("x-amz-meta-a");
        }),
        ("header added", DENIED, &|put| {
            put.headers.push(("x-amz-meta-b".into(), "1".into()));
        }),
        ("host changed", MISMATCH, &|put| {
            put.set("host", "elsewhere.test");
        }),
        ("parameter changed", MISMATCH, &|put| {
            put.set_query("x-id", "GetObject");
        }),
        ("parameter removed", MISMATCH, &|put| put.query.clear()),
        ("path changed", MISMATCH, &|put| put.path += "2"),
        ("verb changed", MISMATCH, &|put| put.verb = "DELETE"),
    ];
    check_changes(&world, &keys, &changes).await;
}

#[tokio::test]
async fn body_changed_after_signing_is_refused() {
    let world = world().await;
    let keys = world.create_bucket().await;
    let forged_hash = hex_sha256("forged");

    let changes: [Change<'_>; 3] = [
        ("body changed", (400, "XAmzContentSHA256Mismatch"), &|put| {
            put.body = b"forged".into();
        }),
        ("body and hash changed", MISMATCH, &|put| {
            put.body = b"forged".into();
            put.set("x-amz-content-sha256", &forged_hash);
        }),
        ("hash removed", MISMATCH, &|put| {
            put.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
        }),
    ];
    check_changes(&world, &keys, &changes).await;
}

#[tokio::test]
async fn request_without_its_token_or_signature_is_refused() {
    let world = world().await;
    let keys = world.create_bucket().await;
    let other = world.keys("dev", "S3BucketAccess").await;

    let changes: [Change<'_>; 3] = [
        ("token of another session", INVALID_TOKEN, &|put| {
            put.set("x-amz-security-token", &other.token);
        }),
        ("token removed", INVALID_TOKEN, &|put| {
            put.remove("x-amz-security-token");
        }),
        ("signature removed", DENIED, &|put| {
            put.remove("authorization");
        }),
    ];
    check_changes(&world, &keys, &changes).await;
}

#[tokio::test]
async fn signature_for_another_service_is_refused() {
    let world = world().await;
    let keys = world.create_bucket().await;

    let for_ec2 = draft("GET", "/", "").signed(world.host(), &keys, "ec2", 0);
    assert_eq!(
        world.send(&for_ec2).await.code(),
        (400, "AuthorizationHeaderMalformed")
    );
}

#[tokio::test]
async fn signature_is_valid_for_15_minutes() {
    let world = world().await;
    let keys = world.create_bucket().await;

    for (shift, code) in [
        (-880, (200, "")),
        (880, (200, "")),
        (-920, SKEWED),
        (920, SKEWED),
    ] {
        let reply = world.send(&signed_get(&world, &keys, shift)).await;
        assert_eq!(reply.code(), code, "{shift} s");
    }
}

#[tokio::test]
async fn old_request_cannot_be_replayed() {
    let world = world().await;
    let keys = world.create_bucket().await;
    let recorded = signed_get(&world, &keys, 0);
    assert_eq!(world.send(&recorded).await.status, 200);

    world.advance_clock(920).await;
    assert_eq!(world.send(&recorded).await.code(), SKEWED);

    let mut redated = recorded.clone();
    let new_date = signing_time(920);
    redated.set("x-amz-date", &new_date);
    // The credential scope has the old day.
    let is_same_day = recorded.header("x-amz-date").unwrap()[..8] == new_date[..8];
    let code = if is_same_day {
        MISMATCH
    } else {
        (400, "AuthorizationHeaderMalformed")
    };
    assert_eq!(world.send(&redated).await.code(), code);

    let new = world.send(&signed_get(&world, &keys, 920)).await;
    assert_eq!(new.status, 200, "the session is still valid");
}

fn presigned_get(world: &World, keys: &Keys, shift: i64) -> Draft {
    draft("GET", "/proof/k", "").presigned(world.host(), keys, 60, shift)
}

#[tokio::test]
async fn presigned_url_is_valid_for_its_time() {
    let world = world().await;
    let keys = world.create_bucket().await;
    world.s3(&keys, draft("PUT", "/proof/k", "here")).await;

    let future = presigned_get(&world, &keys, 1000);
    assert_eq!(world.send(&future).await.code(), DENIED, "not valid yet");

    let url = presigned_get(&world, &keys, 0);
    assert_eq!(world.send(&url).await.body, "here");

    world.advance_clock(61).await;
    assert_eq!(world.send(&url).await.code(), DENIED, "expired");
}

#[tokio::test]
async fn changed_presigned_url_is_refused() {
    let world = world().await;
    let keys = world.create_bucket().await;
    world.s3(&keys, draft("PUT", "/proof/k", "here")).await;

    let mut longer = presigned_get(&world, &keys, 0);
    longer.set_query("X-Amz-Expires", "600");
    assert_eq!(world.send(&longer).await.code(), MISMATCH, "a longer time");

    let mut other = presigned_get(&world, &keys, 0);
    other.path = "/proof/j".into();
    assert_eq!(world.send(&other).await.code(), MISMATCH, "another key");

    let unsigned_header = presigned_get(&world, &keys, 0).with("x-amz-meta-a", "1");
    assert_eq!(
        world.send(&unsigned_header).await.code(),
        DENIED,
        "an unsigned header"
    );
}

#[tokio::test]
async fn presigned_put_takes_any_body() {
    let world = world().await;
    let keys = world.create_bucket().await;
    let mut put = draft("PUT", "/proof/k", "").presigned(world.host(), &keys, 600, 0);
    put.body = b"any".into();

    assert_eq!(world.send(&put).await.status, 200);
    assert_eq!(world.object(&keys).await, "any");
}

#[tokio::test]
async fn wrong_or_unsupported_checksum_header_is_refused() {
    let world = world().await;
    let keys = world.create_bucket().await;

    for (header, value, code) in [
        ("x-amz-checksum-crc32", "NhCmhg==", (200, "")),
        ("x-amz-checksum-crc32", "AAAAAA==", (400, "BadDigest")),
        ("x-amz-checksum-sha1", "x", (501, "NotImplemented")),
    ] {
        let put = draft("PUT", "/proof/k", "hello").with(header, value);
        assert_eq!(world.s3(&keys, put).await.code(), code, "{header}: {value}");
    }
}
