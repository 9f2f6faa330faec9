//! Sessions of AWS roles at S3.

use serde_json::json;

use super::aws_client::AwsKeys;
use super::s3_client::{Keys, draft};
use super::{World, world};

fn s3_keys(keys: AwsKeys) -> Keys {
    Keys {
        id: keys.id,
        secret: keys.secret,
        token: keys.token.unwrap_or_default(),
        session: String::new(),
    }
}

/// Keys of `admin`, which may do everything, and of `reader`.
async fn sessions(world: &World) -> (Keys, Keys) {
    let ada = world.user_keys("ada");
    let code = world.mfa_code().await;
    let mfa = [
        ("SerialNumber", world.fixture("/mfa/serial")),
        ("TokenCode", &*code),
    ];
    let admin = world.assume_role(&ada, "admin", &mfa).await.keys();
    let reader = world.assume_role(&ada, "reader", &[]).await.keys();

    (s3_keys(admin), s3_keys(reader))
}

#[tokio::test]
async fn session_has_the_permissions_of_its_aws_role() {
    let world = world().await;
    let (admin, reader) = sessions(&world).await;
    assert_eq!(world.s3(&admin, draft("PUT", "/aws", "")).await.status, 200);
    assert_eq!(
        world
            .s3(&admin, draft("PUT", "/aws/k", "text"))
            .await
            .status,
        200
    );

    assert_eq!(
        world.s3(&reader, draft("GET", "/aws/k", "")).await.body,
        "text"
    );
    let denied = world.s3(&reader, draft("PUT", "/aws/k", "other")).await;
    assert_eq!(denied.code(), (403, "AccessDenied"));
    let reason = "s3:PutObject on resource: arn:aws:s3:::aws/k because no identity-based policy";
    assert!(denied.tag("Message").contains(reason), "{}", denied.body);
}

#[tokio::test]
async fn revoked_expired_and_incomplete_aws_keys_are_refused() {
    let world = world().await;
    let (admin, reader) = sessions(&world).await;
    let list = || draft("GET", "/", "");
    assert_eq!(world.s3(&reader, list()).await.status, 200);

    let other_token = Keys {
        token: reader.token.clone(),
        ..admin.clone()
    };
    let wrong_secret = Keys {
        secret: reader.secret.clone(),
        ..admin.clone()
    };
    let reply = world.s3(&other_token, list()).await;
    assert_eq!(reply.code(), (403, "InvalidAccessKeyId"));
    let reply = world.s3(&wrong_secret, list()).await;
    assert_eq!(reply.code(), (403, "SignatureDoesNotMatch"));

    world
        .aws_control("/roles/reader/revoke-sessions", json!({}))
        .await;
    assert_eq!(
        world.s3(&reader, list()).await.code(),
        (403, "AccessDenied")
    );
    world.advance_aws_clock(3600).await;
    assert_eq!(world.s3(&admin, list()).await.code(), (400, "ExpiredToken"));
}
