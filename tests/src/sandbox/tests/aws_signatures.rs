//! Signatures, keys and session tokens of AWS requests.

use serde_json::json;

use super::aws_client::{AwsKeys, FORM, IAM, STS, Signing, form, send};
use super::world;

fn identity() -> String {
    form("GetCallerIdentity", "2011-06-15", &[])
}

#[tokio::test]
async fn caller_identity_of_long_term_keys_is_the_user() {
    let world = world().await;
    let reply = world
        .sts(&world.user_keys("ben"), "GetCallerIdentity", &[])
        .await;

    assert_eq!(reply.status, 200);
    assert_eq!(reply.tag("Arn"), "arn:aws:iam::111122223333:user/ben");
    assert_eq!(reply.tag("Account"), "111122223333");
    assert!(reply.tag("UserId").starts_with("AIDA"));
    assert_eq!(reply.headers["x-amzn-requestid"], reply.tag("RequestId"));
}

#[tokio::test]
async fn wrong_secret_is_a_signature_that_does_not_match() {
    let world = world().await;
    let keys = AwsKeys {
        secret: "wrong".into(),
        ..world.user_keys("ada")
    };

    let reply = world.sts(&keys, "GetCallerIdentity", &[]).await;
    assert_eq!(reply.code(), (403, "SignatureDoesNotMatch".into()));
    assert!(
        reply
            .message()
            .starts_with("The request signature we calculated")
    );
}

#[tokio::test]
async fn unknown_inactive_and_deleted_keys_are_invalid() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let unknown = AwsKeys {
        id: "AKIAUNKNOWNUNKNOWN22".into(),
        ..ada.clone()
    };
    let invalid = (403, "InvalidClientTokenId".to_owned());
    assert_eq!(
        world.sts(&unknown, "GetCallerIdentity", &[]).await.code(),
        invalid
    );

    let path = format!("/keys/{}", ada.id);
    world.aws_control(&path, json!({ "active": false })).await;
    assert_eq!(
        world.sts(&ada, "GetCallerIdentity", &[]).await.code(),
        invalid
    );
    world.aws_control(&path, json!({ "active": true })).await;
    assert_eq!(world.sts(&ada, "GetCallerIdentity", &[]).await.status, 200);

    world.control("DELETE", &format!("/aws{path}"), None).await;
    assert_eq!(
        world.sts(&ada, "GetCallerIdentity", &[]).await.code(),
        invalid
    );
}

#[tokio::test]
async fn temporary_keys_need_their_own_session_token() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let session = world.assume_role(&ada, "reader", &[]).await.keys();
    let other = world.assume_role(&ada, "reader", &[]).await.keys();
    assert!(session.id.starts_with("ASIA"), "{}", session.id);

    for token in [None, Some("x".into()), other.token] {
        let keys = AwsKeys {
            token,
            ..session.clone()
        };
        let reply = world.sts(&keys, "GetCallerIdentity", &[]).await;
        assert_eq!(reply.code(), (403, "InvalidClientTokenId".into()));
    }
    let with_token = AwsKeys {
        token: session.token,
        ..ada
    };
    let reply = world.sts(&with_token, "GetCallerIdentity", &[]).await;
    assert_eq!(reply.code(), (403, "InvalidClientTokenId".into()));
}

#[tokio::test]
async fn clocks_may_differ_by_15_minutes() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let table = [
        (-890, ""),
        (890, ""),
        (-910, "Signature expired: "),
        (910, "Signature not yet current: "),
    ];

    for (shift, message) in table {
        let reply = world
            .send_signed(&ada, &Signing { shift, ..STS }, &identity())
            .await;
        assert!(
            reply.message().starts_with(message),
            "{shift}: {}",
            reply.body
        );
        let status = if message.is_empty() { 200 } else { 403 };
        assert_eq!(reply.status, status, "{shift}");
    }
}

#[tokio::test]
async fn moved_aws_clock_is_in_the_date_and_in_the_message() {
    let world = world().await;
    let ada = world.user_keys("ada");
    world.advance_aws_clock(7200).await;

    let reply = world.sts(&ada, "GetCallerIdentity", &[]).await;
    assert_eq!(reply.code(), (403, "SignatureDoesNotMatch".into()));
    let message = reply.message();
    assert!(message.contains(" is now earlier than ") && message.ends_with(" - 15 min.)"));
    let date = httpdate::parse_http_date(reply.headers["date"].to_str().unwrap()).unwrap();
    let ahead = date.duration_since(std::time::SystemTime::now()).unwrap();
    assert!((7190..7210).contains(&ahead.as_secs()), "{ahead:?}");

    let corrected = Signing { shift: 7200, ..STS };
    assert_eq!(
        world
            .send_signed(&ada, &corrected, &identity())
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn expired_session_is_an_expired_token() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let params = [("DurationSeconds", "900")];
    let session = world.assume_role(&ada, "reader", &params).await.keys();
    world.advance_aws_clock(899).await;
    assert_eq!(
        world.sts(&session, "GetCallerIdentity", &[]).await.status,
        200
    );

    world.advance_aws_clock(1).await;
    let at_end = Signing { shift: 900, ..STS };
    let reply = world.send_signed(&session, &at_end, &identity()).await;
    assert_eq!(reply.code(), (403, "ExpiredToken".into()));
    assert_eq!(
        reply.message(),
        "The security token included in the request is expired"
    );
}

#[tokio::test]
async fn scope_must_have_the_service_and_the_region_of_iam() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let get_user = form("GetUser", "2010-05-08", &[]);
    let regional = Signing {
        region: "eu-central-1",
        ..IAM
    };
    let table = [
        (
            &STS,
            &get_user,
            "Credential should be scoped to correct service: 'iam'. ",
        ),
        (
            &IAM,
            &identity(),
            "Credential should be scoped to correct service: 'sts'. ",
        ),
        (
            &regional,
            &get_user,
            "Credential should be scoped to a valid region, not 'eu-central-1'. ",
        ),
    ];

    for (signing, body, message) in table {
        let reply = world.send_signed(&ada, signing, body).await;
        assert_eq!(reply.code(), (403, "SignatureDoesNotMatch".into()));
        assert_eq!(reply.message(), message);
    }
}

#[tokio::test]
async fn changed_body_does_not_match() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let signed = world
        .http
        .post(world.ready("aws"))
        .header("content-type", FORM)
        .header("x-amz-date", "20260101T000000Z");
    let credential = format!("{}/20260101/eu-central-1/sts/aws4_request", ada.id);
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date, Signature=00"
    );

    let reply = send(
        signed
            .header("authorization", authorization)
            .body(identity()),
    )
    .await;
    assert_eq!(reply.code(), (403, "SignatureDoesNotMatch".into()));
}

#[tokio::test]
async fn nonsense_gets_the_status_and_code_of_aws() {
    let world = world().await;
    let url = world.ready("aws");
    let post = || world.http.post(url).header("content-type", FORM);
    let json = world
        .http
        .post(url)
        .header("content-type", "application/json");
    let unknown = form("Unknown", "2011-06-15", &[]);
    let old = form("GetCallerIdentity", "2010-01-01", &[]);
    let table = [
        (
            world.http.post(format!("{url}/x")).body(identity()),
            404,
            "UnknownOperationException",
        ),
        (json.body(identity()), 404, "UnknownOperationException"),
        (world.http.delete(url), 405, "UnsupportedMethod"),
        (post(), 400, "MissingAction"),
        (post().body(unknown), 400, "InvalidAction"),
        (post().body(old), 400, "InvalidAction"),
        (post().body(identity()), 403, "MissingAuthenticationToken"),
        (
            post()
                .header("authorization", "AWS4-HMAC-SHA256 x")
                .body(identity()),
            400,
            "IncompleteSignature",
        ),
    ];

    for (request, status, code) in table {
        let reply = send(request).await;
        assert_eq!(reply.code(), (status, code.into()));
        assert!(!reply.tag("RequestId").is_empty());
    }
}
