//! What the sandbox's S3 refuses. Each refusal is of a request that is good but for one thing.

use super::s3_client::{Draft, Keys, draft, hexed};
use super::*;
use sha2::{Digest, Sha256};

impl World {
    async fn object(&self, keys: &Keys) -> String {
        self.s3(keys, draft("GET", "/proof/k", "")).await.body
    }
}

#[tokio::test]
async fn a_request_that_was_changed_after_it_was_signed_is_refused_and_has_no_effect() {
    let world = world().await;
    let keys = world.with_bucket().await;
    let other = world.keys("dev", "S3BucketAccess").await;
    world.s3(&keys, draft("PUT", "/proof/k", "original")).await;
    let good = || {
        let put = draft("PUT", "/proof/k", "changed")
            .with("x-amz-meta-a", "1")
            .query("x-id", "PutObject");
        put.signed(world.host(), &keys, "s3", 0)
    };
    let spoil = |change: &dyn Fn(&mut Draft)| {
        let mut spoiled = good();
        change(&mut spoiled);
        spoiled
    };
    let mismatch = (403, "SignatureDoesNotMatch");
    let hash = hexed(&Sha256::digest("forged"));
    let table: [(&str, (u16, &str), Draft); 14] = [
        (
            "a header's value",
            mismatch,
            spoil(&|d| d.set("x-amz-meta-a", "2")),
        ),
        (
            "a signed header less",
            mismatch,
            spoil(&|d| d.remove("x-amz-meta-a")),
        ),
        (
            "a header more",
            (403, "AccessDenied"),
            spoil(&|d| d.headers.push(("x-amz-meta-b".into(), "1".into()))),
        ),
        (
            "the host",
            mismatch,
            spoil(&|d| d.set("host", "elsewhere.test")),
        ),
        (
            "the query",
            mismatch,
            spoil(&|d| d.query[0].1 = "GetObject".into()),
        ),
        ("a parameter less", mismatch, spoil(&|d| d.query.clear())),
        ("the path", mismatch, spoil(&|d| d.path += "2")),
        ("the verb", mismatch, spoil(&|d| d.verb = "DELETE")),
        (
            "the body",
            (400, "XAmzContentSHA256Mismatch"),
            spoil(&|d| d.body = b"forged".into()),
        ),
        ("the body and its hash", mismatch, {
            let mut both = spoil(&|d| d.body = b"forged".into());
            both.set("x-amz-content-sha256", &hash);
            both
        }),
        (
            "no hash for the body",
            mismatch,
            spoil(&|d| d.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD")),
        ),
        (
            "the token",
            (400, "InvalidToken"),
            spoil(&|d| d.set("x-amz-security-token", &other.token)),
        ),
        (
            "no token",
            (400, "InvalidToken"),
            spoil(&|d| d.remove("x-amz-security-token")),
        ),
        (
            "no signature",
            (403, "AccessDenied"),
            spoil(&|d| d.remove("authorization")),
        ),
    ];
    for (what, want, spoiled) in &table {
        assert_eq!(world.send(spoiled).await.code(), *want, "{what}");
        assert_eq!(world.object(&keys).await, "original", "{what}");
    }
    assert_eq!(world.send(&good()).await.status, 200);
    assert_eq!(world.object(&keys).await, "changed");
}

#[tokio::test]
async fn keys_that_are_not_one_sessions_are_refused() {
    let world = world().await;
    let keys = world.with_bucket().await;
    let other = world.keys("dev", "S3BucketAccess").await;
    let iam_token = world.token("admin");
    let table = [
        (
            (403, "SignatureDoesNotMatch"),
            Keys {
                secret: other.secret.clone(),
                ..keys.clone()
            },
        ),
        (
            (403, "SignatureDoesNotMatch"),
            Keys {
                secret: String::new(),
                ..keys.clone()
            },
        ),
        (
            (403, "InvalidAccessKeyId"),
            Keys {
                id: "BYIA0000000000000000".into(),
                ..keys.clone()
            },
        ),
        (
            (400, "InvalidToken"),
            Keys {
                id: other.id.clone(),
                ..keys.clone()
            },
        ),
        (
            (400, "InvalidToken"),
            Keys {
                token: other.token.clone(),
                ..keys.clone()
            },
        ),
        (
            (400, "InvalidToken"),
            Keys {
                token: "nonsense".into(),
                ..keys.clone()
            },
        ),
        (
            (400, "InvalidToken"),
            Keys {
                token: iam_token,
                ..keys.clone()
            },
        ),
    ];
    for (number, (want, mixed)) in table.iter().enumerate() {
        let said = world.s3(mixed, draft("GET", "/", "")).await;
        assert_eq!(said.code(), *want, "row {number}");
        assert!(
            !said.body.contains(&keys.secret) && !said.body.contains(&keys.token),
            "a secret is in an error"
        );
    }
    let elsewhere = draft("GET", "/", "").signed(world.host(), &keys, "ec2", 0);
    assert_eq!(
        world.send(&elsewhere).await.code(),
        (400, "AuthorizationHeaderMalformed"),
        "another service's"
    );
}

#[tokio::test]
async fn a_request_counts_for_fifteen_minutes_and_cannot_be_replayed_later() {
    let world = world().await;
    let keys = world.with_bucket().await;
    let signed = |shift| draft("GET", "/", "").signed(world.host(), &keys, "s3", shift);
    for (shift, want) in [(-880, 200), (880, 200), (-920, 403), (920, 403)] {
        assert_eq!(world.send(&signed(shift)).await.status, want, "{shift} s");
    }
    assert_eq!(
        world.send(&signed(-920)).await.code(),
        (403, "RequestTimeTooSkewed")
    );
    let caught = signed(0);
    assert_eq!(world.send(&caught).await.status, 200);
    world.advance(920).await;
    assert_eq!(
        world.send(&caught).await.code(),
        (403, "RequestTimeTooSkewed")
    );
    let mut redated = caught.clone();
    let (before, after) = (
        redated.header("x-amz-date").unwrap().to_owned(),
        super::s3_client::stamp(920),
    );
    redated.set("x-amz-date", &after);
    // A signature is for a day, too.
    let is_same_day = before[..8] == after[..8];
    let want = if is_same_day {
        (403, "SignatureDoesNotMatch")
    } else {
        (400, "AuthorizationHeaderMalformed")
    };
    assert_eq!(
        world.send(&redated).await.code(),
        want,
        "a new date on an old signature"
    );
    assert_eq!(
        world.send(&signed(920)).await.status,
        200,
        "the session itself goes on"
    );
}

#[tokio::test]
async fn a_presigned_url_counts_for_its_time_and_as_it_is() {
    let world = world().await;
    let keys = world.with_bucket().await;
    world.s3(&keys, draft("PUT", "/proof/k", "here")).await;
    let sign = |seconds, shift| {
        draft("GET", "/proof/k", "").presigned(world.host(), &keys, seconds, shift)
    };
    let good = sign(60, 0);
    assert_eq!(world.send(&good).await.body, "here");
    assert_eq!(
        world.send(&sign(60, 1000)).await.code(),
        (403, "AccessDenied"),
        "not yet"
    );
    let mut longer = good.clone();
    longer
        .query
        .iter_mut()
        .filter(|(name, _)| name == "X-Amz-Expires")
        .for_each(|(_, value)| *value = "600".into());
    assert_eq!(
        world.send(&longer).await.code(),
        (403, "SignatureDoesNotMatch")
    );
    let mut another = good.clone();
    another.path = "/proof/j".into();
    assert_eq!(
        world.send(&another).await.code(),
        (403, "SignatureDoesNotMatch")
    );
    let mut ranged = good.clone();
    ranged.headers.push(("x-amz-meta-a".into(), "1".into()));
    assert_eq!(
        world.send(&ranged).await.code(),
        (403, "AccessDenied"),
        "a header that is not signed"
    );
    world.advance(61).await;
    assert_eq!(
        world.send(&good).await.code(),
        (403, "AccessDenied"),
        "expired"
    );
    let upload = draft("PUT", "/proof/up", "").presigned(world.host(), &keys, 600, 0);
    assert_eq!(
        world
            .send(&Draft {
                body: b"any".into(),
                ..upload
            })
            .await
            .status,
        200,
        "its body is not signed"
    );
}

#[tokio::test]
async fn keys_end_with_their_session() {
    let world = world().await;
    let kept = world.with_bucket().await;
    world
        .control("POST", "/limits", json!({ "max_session_seconds": 30 }))
        .await;
    let short = world.keys("dev", "S3BucketAccess").await;
    let revoked = world.keys("dev", "S3BucketAccess").await;
    let account = world.keys("ci-cd-pipeline", "S3ReadOnly").await;
    let get = |keys: &Keys| draft("GET", "/", "").signed(world.host(), keys, "s3", 0);
    for keys in [&short, &revoked, &account] {
        assert_eq!(world.send(&get(keys)).await.status, 200);
    }
    let path = format!("/sts/sessions/{}", revoked.session);
    assert_eq!(
        world.as_admin("DELETE", &path, Value::Null).await.status,
        204
    );
    let said = world.send(&get(&revoked)).await;
    assert_eq!(said.code(), (400, "InvalidToken"));
    assert!(said.tag("Message").contains("revoked"), "{}", said.body);
    let put = world.s3(&revoked, draft("PUT", "/proof/k", "late")).await;
    assert_eq!(put.code(), (400, "InvalidToken"));

    let id = world.id("service-accounts", "ci-cd-pipeline").await;
    world
        .as_admin(
            "PATCH",
            &format!("/service-accounts/{id}"),
            json!({ "enabled": false }),
        )
        .await;
    assert_eq!(
        world.send(&get(&account)).await.code(),
        (400, "InvalidToken"),
        "its principal was disabled"
    );

    world.advance(31).await;
    assert_eq!(world.send(&get(&short)).await.code(), (400, "ExpiredToken"));
    let url = draft("GET", "/proof/k", "").presigned(world.host(), &short, 600, 0);
    assert_eq!(
        world.send(&url).await.code(),
        (400, "ExpiredToken"),
        "a URL does not outlive the session"
    );
    assert_eq!(
        world.s3(&kept, draft("GET", "/proof/k", "")).await.code(),
        (404, "NoSuchKey"),
        "nothing was written"
    );
    let entries = world
        .as_admin(
            "GET",
            "/audit-logs?action=s3.listBuckets&status=denied",
            Value::Null,
        )
        .await
        .body;
    let sessions: Vec<_> = entries["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["session_id"])
        .collect();
    assert_eq!(
        sessions,
        [&revoked.session, &account.session, &short.session],
        "whose keys they were is noted"
    );
}

/// A body of one chunk and an end, signed or not, and what a test does to it on the way.
fn chunked(
    world: &World,
    keys: &Keys,
    kind: &str,
    trailer: &str,
    spoil: &dyn Fn(String) -> String,
) -> Draft {
    let mut put = draft("PUT", "/proof/k", "").with("x-amz-content-sha256", kind);
    put = put
        .with("content-encoding", "aws-chunked")
        .with("x-amz-decoded-content-length", "5");
    if !trailer.is_empty() {
        put = put.with("x-amz-trailer", trailer.split_once(':').unwrap().0);
    }
    let mut put = put.signed(world.host(), keys, "s3", 0);
    let is_signed = kind.starts_with("STREAMING-AWS4");
    let mut previous = put.signature();
    let mut body = String::new();
    for data in ["hello", ""] {
        let covered = format!(
            "{}\n{}",
            hexed(&Sha256::digest("")),
            hexed(&Sha256::digest(data))
        );
        previous = put.link("PAYLOAD", &previous, &covered);
        body += &format!("{:x}", data.len());
        if is_signed {
            body += &format!(";chunk-signature={previous}");
        }
        body += "\r\n";
        if !data.is_empty() {
            body += &format!("{data}\r\n");
        }
    }
    if !trailer.is_empty() {
        body += &format!("{trailer}\r\n");
        if is_signed {
            let signature = put.link(
                "TRAILER",
                &previous,
                &hexed(&Sha256::digest(format!("{trailer}\n"))),
            );
            body += &format!("x-amz-trailer-signature:{signature}\r\n");
        }
    }
    body += "\r\n";
    put.body = spoil(body).into_bytes();
    put
}

const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
/// Of `hello`.
const CRC32: &str = "x-amz-checksum-crc32:NhCmhg==";

#[tokio::test]
async fn a_body_in_chunks_is_stored_without_them_when_all_of_it_is_good() {
    let world = world().await;
    let keys = world.with_bucket().await;
    for (kind, trailer) in [
        (SIGNED, ""),
        (SIGNED_TRAILER, CRC32),
        (UNSIGNED_TRAILER, CRC32),
    ] {
        world.s3(&keys, draft("DELETE", "/proof/k", "")).await;
        let said = world
            .send(&chunked(&world, &keys, kind, trailer, &|body| body))
            .await;
        assert_eq!(said.status, 200, "{kind}: {}", said.body);
        let got = world
            .s3(
                &keys,
                draft("GET", "/proof/k", "").with("x-amz-checksum-mode", "ENABLED"),
            )
            .await;
        assert_eq!(
            (got.body.as_str(), got.headers.get("content-encoding")),
            ("hello", None),
            "{kind}"
        );
        let sum = got
            .headers
            .get("x-amz-checksum-crc32")
            .map(|sum| format!("x-amz-checksum-crc32:{}", sum.to_str().unwrap()));
        assert_eq!(sum.unwrap_or_default(), trailer, "{kind}");
    }
}

#[tokio::test]
async fn a_body_in_chunks_is_refused_whole_if_any_of_it_is_wrong() {
    let world = world().await;
    let keys = world.with_bucket().await;
    world.s3(&keys, draft("PUT", "/proof/k", "original")).await;
    type Row<'a> = (
        &'a str,
        (u16, &'a str),
        &'a str,
        &'a str,
        &'a dyn Fn(String) -> String,
    );
    let mismatch = (403, "SignatureDoesNotMatch");
    let table: [Row<'_>; 12] = [
        ("a chunk", mismatch, SIGNED, "", &|body| {
            body.replace("hello", "jello")
        }),
        ("the signatures", mismatch, SIGNED, "", &|body| {
            body.replace("signature=", "signature=00")
        }),
        ("no signatures", mismatch, SIGNED, "", &|_| {
            "5\r\nhello\r\n0\r\n\r\n".into()
        }),
        (
            "the end is cut off",
            (400, "IncompleteBody"),
            SIGNED,
            "",
            &|b| b.split_inclusive("hello\r\n").next().unwrap().into(),
        ),
        (
            "cut within a chunk",
            (400, "IncompleteBody"),
            SIGNED,
            "",
            &|b| b.split("llo").next().unwrap().into(),
        ),
        (
            "more behind the end",
            (400, "InvalidRequest"),
            SIGNED,
            "",
            &|body| body + "5\r\nhello\r\n",
        ),
        ("the trailer", mismatch, SIGNED_TRAILER, CRC32, &|body| {
            body.replace("NhCmhg", "NhCmhh")
        }),
        ("no trailer", mismatch, SIGNED_TRAILER, CRC32, &|body| {
            body.split("x-amz-ch").next().unwrap().to_owned() + "\r\n"
        }),
        (
            "a chunk, not its sum",
            (400, "BadDigest"),
            UNSIGNED_TRAILER,
            CRC32,
            &|body| body.replace("hello", "jello"),
        ),
        (
            "the sum",
            (400, "BadDigest"),
            UNSIGNED_TRAILER,
            CRC32,
            &|body| body.replace("NhCmhg", "NhCmhh"),
        ),
        (
            "no sum",
            (400, "MalformedTrailerError"),
            UNSIGNED_TRAILER,
            CRC32,
            &|_| "5\r\nhello\r\n0\r\n\r\n".into(),
        ),
        (
            "a shorter body",
            (400, "IncompleteBody"),
            UNSIGNED_TRAILER,
            CRC32,
            &|body| body.replace("5\r\nhello", "4\r\nhell"),
        ),
    ];
    for (what, want, kind, trailer, spoil) in table {
        assert_eq!(
            world
                .send(&chunked(&world, &keys, kind, trailer, spoil))
                .await
                .code(),
            want,
            "{what}"
        );
        assert_eq!(world.object(&keys).await, "original", "{what}");
    }
}

#[tokio::test]
async fn a_checksum_in_a_header_is_compared() {
    let world = world().await;
    let keys = world.with_bucket().await;
    let put = |sum: &str| draft("PUT", "/proof/k", "hello").with("x-amz-checksum-crc32", sum);
    assert_eq!(world.s3(&keys, put("NhCmhg==")).await.status, 200);
    assert_eq!(
        world.s3(&keys, put("AAAAAA==")).await.code(),
        (400, "BadDigest")
    );
    let sha1 = draft("PUT", "/proof/k", "hello").with("x-amz-checksum-sha1", "x");
    assert_eq!(world.s3(&keys, sha1).await.code(), (501, "NotImplemented"));
}

#[tokio::test]
async fn what_is_not_known_is_refused_and_not_guessed() {
    let world = world().await;
    let keys = world.with_bucket().await;
    world.s3(&keys, draft("PUT", "/proof/k", "x")).await;
    let unknown = (501, "NotImplemented");
    let table = [
        (unknown, draft("POST", "/proof/k", "").query("uploads", "")),
        (unknown, draft("GET", "/proof", "")),
        (
            unknown,
            draft("GET", "/proof/k", "").query("versionId", "1"),
        ),
        (
            unknown,
            draft("PUT", "/proof/k", "").with("x-amz-copy-source", "proof/j"),
        ),
        (
            unknown,
            draft("PUT", "/proof/k", "y").with("if-none-match", "*"),
        ),
        (
            unknown,
            draft("PUT", "/proof/k", "y").with("content-md5", "x"),
        ),
        (unknown, draft("PUT", "/", "")),
        ((400, "InvalidBucketName"), draft("PUT", "/No", "")),
        ((400, "InvalidBucketName"), draft("PUT", "/-bucket", "")),
        (
            (400, "KeyTooLongError"),
            draft("PUT", &format!("/proof/{}", "k".repeat(1025)), ""),
        ),
        ((400, "InvalidURI"), draft("GET", "/proof/%FF", "")),
        ((409, "BucketAlreadyOwnedByYou"), draft("PUT", "/proof", "")),
        ((404, "NoSuchBucket"), draft("PUT", "/nowhere/k", "")),
        (
            (412, "PreconditionFailed"),
            draft("GET", "/proof/k", "").with("if-match", "\"other\""),
        ),
        (
            (416, "InvalidRange"),
            draft("GET", "/proof/k", "").with("range", "bytes=1-"),
        ),
        ((404, ""), draft("HEAD", "/proof/none", "")),
    ];
    for (want, request) in table {
        let name = format!("{} {} {:?}", request.verb, request.path, request.headers);
        assert_eq!(world.s3(&keys, request).await.code(), want, "{name}");
    }
    assert_eq!(world.object(&keys).await, "x", "nothing was changed");
}
