//! STS `GetCallerIdentity`, on the port of S3.

use super::s3_client::{Draft, Keys, draft};
use super::{World, world};

const GET_CALLER_IDENTITY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

fn signed(world: &World, keys: &Keys, body: &str) -> Draft {
    let form = draft("POST", "/", body).with("content-type", "application/x-www-form-urlencoded");

    form.signed(world.host(), keys, "sts", 0)
}

#[tokio::test]
async fn caller_identity_needs_no_policy() {
    let world = world().await;
    let keys = world.keys("admin", "NotAllowed").await;
    let session = &keys.session;

    let reply = world
        .send(&signed(&world, &keys, GET_CALLER_IDENTITY))
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.tag("Arn"),
        format!("arn:aws:sts::000000000000:assumed-role/NotAllowed/{session}")
    );
    assert_eq!(
        reply.tag("UserId"),
        format!("{}:{session}", world.role("NotAllowed"))
    );
    assert_eq!(reply.tag("Account"), "000000000000");
}

#[tokio::test]
async fn other_actions_are_refused() {
    let world = world().await;
    let keys = world.keys("admin", "NotAllowed").await;

    let reply = world
        .send(&signed(&world, &keys, "Action=GetSessionToken"))
        .await;
    assert_eq!(reply.code(), (400, "InvalidAction"));
}

#[tokio::test]
async fn wrong_signature_has_the_error_code_of_sts() {
    let world = world().await;
    let keys = world.keys("admin", "NotAllowed").await;

    let mut changed = signed(&world, &keys, GET_CALLER_IDENTITY);
    changed.body = b"Action=GetCallerIdentity&Version=2011-06-16".into();
    assert_eq!(
        world.send(&changed).await.code(),
        (403, "SignatureDoesNotMatch")
    );

    let for_s3 = draft("POST", "/", GET_CALLER_IDENTITY).signed(world.host(), &keys, "s3", 0);
    assert_eq!(
        world.send(&for_s3).await.code(),
        (400, "IncompleteSignature")
    );
}

#[tokio::test]
async fn revoked_session_has_an_invalid_token() {
    let world = world().await;
    let keys = world.keys("admin", "NotAllowed").await;
    let revoked = world
        .delete(&format!("/sts/sessions/{}", keys.session))
        .await;
    assert_eq!(revoked.status, 204);

    let reply = world
        .send(&signed(&world, &keys, GET_CALLER_IDENTITY))
        .await;
    assert_eq!(reply.code(), (403, "InvalidClientTokenId"));
}
