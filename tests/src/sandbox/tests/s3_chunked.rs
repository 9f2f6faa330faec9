//! Bodies in chunks (`aws-chunked`).

use super::s3_client::{Draft, Keys, draft, hex_sha256};
use super::{World, world};

const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

const CHECKSUM_HEADER: &str = "x-amz-checksum-crc32";
/// The trailer with the checksum of `hello`.
const TRAILER: &str = "x-amz-checksum-crc32:NhCmhg==";

/// A put of `hello` in one chunk. The kind decides about signatures and a trailer.
fn chunked_put(world: &World, keys: &Keys, kind: &str) -> Draft {
    let mut put = draft("PUT", "/proof/k", "")
        .with("x-amz-content-sha256", kind)
        .with("content-encoding", "aws-chunked")
        .with("x-amz-decoded-content-length", "5");
    if kind.ends_with("TRAILER") {
        put = put.with("x-amz-trailer", CHECKSUM_HEADER);
    }

    let mut put = put.signed(world.host(), keys, "s3", 0);
    put.body = chunked_body(&put, kind).into_bytes();
    put
}

fn chunked_body(put: &Draft, kind: &str) -> String {
    let is_signed = kind.starts_with("STREAMING-AWS4");
    let empty_hash = hex_sha256("");
    let mut signature = put.signature();
    let mut body = String::new();

    for data in ["hello", ""] {
        let text = format!("{empty_hash}\n{}", hex_sha256(data));
        signature = put.sign_next("PAYLOAD", &signature, &text);
        body += &format!("{:x}", data.len());
        if is_signed {
            body += &format!(";chunk-signature={signature}");
        }
        body += "\r\n";
        if !data.is_empty() {
            body += &format!("{data}\r\n");
        }
    }

    if kind.ends_with("TRAILER") {
        body += &format!("{TRAILER}\r\n");
        if is_signed {
            let text = hex_sha256(format!("{TRAILER}\n"));
            let signature = put.sign_next("TRAILER", &signature, &text);
            body += &format!("x-amz-trailer-signature:{signature}\r\n");
        }
    }
    body + "\r\n"
}

#[tokio::test]
async fn chunked_body_is_stored_decoded() {
    let world = world().await;
    let keys = world.create_bucket().await;

    for (kind, checksum) in [
        (SIGNED, None),
        (SIGNED_TRAILER, Some("NhCmhg==")),
        (UNSIGNED_TRAILER, Some("NhCmhg==")),
    ] {
        world.s3(&keys, draft("DELETE", "/proof/k", "")).await;
        let put = world.send(&chunked_put(&world, &keys, kind)).await;
        assert_eq!(put.status, 200, "{kind}: {}", put.body);

        let get = draft("GET", "/proof/k", "").with("x-amz-checksum-mode", "ENABLED");
        let object = world.s3(&keys, get).await;
        assert_eq!(object.body, "hello", "{kind}");
        assert!(!object.headers.contains_key("content-encoding"), "{kind}");
        let header = object.headers.get(CHECKSUM_HEADER);
        assert_eq!(
            header.map(|value| value.to_str().unwrap()),
            checksum,
            "{kind}"
        );
    }
}

type Change<'a> = (&'a str, (u16, &'a str), fn(String) -> String);

/// Each change of the body must be refused without an effect.
async fn check_changes(kind: &str, changes: &[Change<'_>]) {
    let world = world().await;
    let keys = world.create_bucket().await;
    world.s3(&keys, draft("PUT", "/proof/k", "original")).await;

    for (name, code, change) in changes {
        let mut put = chunked_put(&world, &keys, kind);
        put.body = change(String::from_utf8(put.body).unwrap()).into_bytes();

        assert_eq!(world.send(&put).await.code(), *code, "{name}");
        assert_eq!(world.object(&keys).await, "original", "{name}");
    }
}

const MISMATCH: (u16, &str) = (403, "SignatureDoesNotMatch");
const INCOMPLETE: (u16, &str) = (400, "IncompleteBody");
const BAD_DIGEST: (u16, &str) = (400, "BadDigest");
const WITHOUT_SIGNATURES: &str = "5\r\nhello\r\n0\r\n\r\n";

#[tokio::test]
async fn changed_signed_chunks_are_refused() {
    check_changes(
        SIGNED,
        &[
            ("chunk changed", MISMATCH, |body| {
                body.replace("hello", "jello")
            }),
            ("signatures changed", MISMATCH, |body| {
                body.replace("signature=", "signature=00")
            }),
            ("signatures removed", MISMATCH, |_| {
                WITHOUT_SIGNATURES.into()
            }),
            ("last chunk removed", INCOMPLETE, |body| {
                body.split_inclusive("hello\r\n").next().unwrap().into()
            }),
            ("cut off in a chunk", INCOMPLETE, |body| {
                body.split("llo").next().unwrap().into()
            }),
            (
                "chunk added behind the end",
                (400, "InvalidRequest"),
                |body| body + "5\r\nhello\r\n",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn changed_signed_trailer_is_refused() {
    check_changes(
        SIGNED_TRAILER,
        &[
            ("trailer changed", MISMATCH, |body| {
                body.replace("NhCmhg", "NhCmhh")
            }),
            ("trailer removed", MISMATCH, |body| {
                body.split("x-amz-ch").next().unwrap().to_owned() + "\r\n"
            }),
        ],
    )
    .await;
}

#[tokio::test]
async fn changed_unsigned_chunks_are_refused() {
    check_changes(
        UNSIGNED_TRAILER,
        &[
            ("chunk changed", BAD_DIGEST, |body| {
                body.replace("hello", "jello")
            }),
            ("checksum changed", BAD_DIGEST, |body| {
                body.replace("NhCmhg", "NhCmhh")
            }),
            ("trailer removed", (400, "MalformedTrailerError"), |_| {
                WITHOUT_SIGNATURES.into()
            }),
            ("chunk shortened", INCOMPLETE, |body| {
                body.replace("5\r\nhello", "4\r\nhell")
            }),
        ],
    )
    .await;
}
