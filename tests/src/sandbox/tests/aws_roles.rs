//! Who may assume which role, and what a role's session may do.

use serde_json::json;

use super::aws_client::{AwsKeys, AwsReply, STS, Signing, form};
use super::{World, world};

fn denied(user: &str, action: &str, resource: &str) -> String {
    format!(
        "User: arn:aws:iam::111122223333:user/{user} is not authorized to perform: {action} on resource: {resource}"
    )
}

#[tokio::test]
async fn account_trust_needs_a_permission_of_the_user() {
    let world = world().await;
    let reader = world.fixture("/roles/reader");

    assert_eq!(
        world
            .assume_role(&world.user_keys("ci"), "reader", &[])
            .await
            .status,
        200
    );
    let reply = world
        .assume_role(&world.user_keys("ben"), "reader", &[])
        .await;
    reply.check_denied(&denied("ben", "sts:AssumeRole", reader));
}

#[tokio::test]
async fn unknown_role_is_denied_like_an_untrusted_one() {
    let world = world().await;
    let arn = "arn:aws:iam::111122223333:role/unknown";
    let params = [("RoleArn", arn), ("RoleSessionName", "test")];

    let reply = world
        .sts(&world.user_keys("ada"), "AssumeRole", &params)
        .await;
    reply.check_denied(&denied("ada", "sts:AssumeRole", arn));
}

#[tokio::test]
async fn external_id_must_be_the_trusted_one() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let partner = world.fixture("/roles/partner");

    for params in [vec![], vec![("ExternalId", "x-2")]] {
        let reply = world.assume_role(&ada, "partner", &params).await;
        reply.check_denied(&denied("ada", "sts:AssumeRole", partner));
    }
    let right = [("ExternalId", "x-1")];
    assert_eq!(world.assume_role(&ada, "partner", &right).await.status, 200);
}

async fn probe(world: &World, keys: &AwsKeys) -> AwsReply {
    world
        .sts(keys, "GetAccessKeyInfo", &[("AccessKeyId", &keys.id)])
        .await
}

#[tokio::test]
async fn explicit_and_implicit_denials_have_different_texts() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let reader = world.assume_role(&ada, "reader", &[]).await.keys();
    let short = world.assume_role(&ada, "short", &[]).await.keys();
    let text = |role: &str, reason: &str| {
        format!(
            "User: arn:aws:sts::111122223333:assumed-role/{role}/test is not authorized to perform: sts:GetAccessKeyInfo {reason}"
        )
    };
    assert_eq!(probe(&world, &reader).await.tag("Account"), "111122223333");
    let implicit = "because no identity-based policy allows the sts:GetAccessKeyInfo action";
    probe(&world, &short)
        .await
        .check_denied(&text("short", implicit));

    for role in ["reader", "short"] {
        world
            .aws_control(&format!("/roles/{role}/revoke-sessions"), json!({}))
            .await;
    }
    let explicit = "with an explicit deny in an identity-based policy";
    probe(&world, &reader)
        .await
        .check_denied(&text("reader", explicit));
    probe(&world, &short)
        .await
        .check_denied(&text("short", explicit));
    assert_eq!(
        world.sts(&reader, "GetCallerIdentity", &[]).await.status,
        200
    );
}

#[tokio::test]
async fn revocation_denies_sessions_that_began_before_it() {
    let world = world().await;
    let ada = world.user_keys("ada");
    world
        .aws_control(
            "/roles/reader/revoke-sessions",
            json!({ "ahead_seconds": 30 }),
        )
        .await;
    let too_early = world.assume_role(&ada, "reader", &[]).await.keys();
    assert_eq!(probe(&world, &too_early).await.status, 403);

    world.advance_aws_clock(31).await;
    let later = world.assume_role(&ada, "reader", &[]).await.keys();
    assert_eq!(probe(&world, &later).await.status, 200);
    assert_eq!(probe(&world, &too_early).await.status, 403);
}

#[tokio::test]
async fn deleted_role_cannot_be_assumed_and_its_session_may_do_nothing() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let session = world.assume_role(&ada, "reader", &[]).await.keys();
    world.control("DELETE", "/aws/roles/reader", None).await;

    assert_eq!(probe(&world, &session).await.status, 403);
    assert_eq!(
        world.sts(&session, "GetCallerIdentity", &[]).await.status,
        200
    );
    assert_eq!(world.assume_role(&ada, "reader", &[]).await.status, 403);
}

#[tokio::test]
async fn trust_in_a_principal_of_the_account_needs_no_permission() {
    let world = world().await;
    let trust = |name: &str| {
        json!({ "Statement": {
            "Effect": "Allow", "Principal": { "AWS": name }, "Action": "sts:AssumeRole",
        } })
    };
    let set = |name: &str| json!({ "name": "reader", "trust": trust(name) });
    let ben = world.user_keys("ben");

    world
        .aws_control("/roles", set("arn:aws:iam::111122223333:user/ben"))
        .await;
    assert_eq!(world.assume_role(&ben, "reader", &[]).await.status, 200);
    world
        .aws_control("/roles", set("arn:aws:iam::111122223333:user/ada"))
        .await;
    assert_eq!(world.assume_role(&ben, "reader", &[]).await.status, 403);
    assert_eq!(
        world
            .assume_role(&world.user_keys("ada"), "reader", &[])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn disabled_region_is_refused_and_others_are_not() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let identity = form("GetCallerIdentity", "2011-06-15", &[]);
    let region = "ap-east-1";
    world
        .aws_control("/regions", json!({ "region": region, "enabled": false }))
        .await;

    let reply = world
        .send_signed(&ada, &Signing { region, ..STS }, &identity)
        .await;
    assert_eq!(reply.code(), (403, "RegionDisabledException".into()));
    assert!(
        reply
            .message()
            .starts_with("STS is not activated in this region for account:")
    );
    assert_eq!(world.send_signed(&ada, &STS, &identity).await.status, 200);
}
