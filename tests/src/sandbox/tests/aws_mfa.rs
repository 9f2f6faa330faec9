//! MFA codes, and sessions that carry them.

use super::aws_client::AwsKeys;
use super::{World, world};

const INVALID: &str = "MultiFactorAuthentication failed with invalid MFA one time pass code. ";
const UNKNOWN: &str = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.";

fn mfa<'a>(world: &'a World, code: &'a str) -> [(&'static str, &'a str); 2] {
    [
        ("SerialNumber", world.fixture("/mfa/serial")),
        ("TokenCode", code),
    ]
}

async fn assume_admin(world: &World, keys: &AwsKeys, params: &[(&str, &str)]) -> u16 {
    world.assume_role(keys, "admin", params).await.status
}

#[tokio::test]
async fn trust_with_mfa_needs_a_code() {
    let world = world().await;
    let ada = world.user_keys("ada");
    assert_eq!(assume_admin(&world, &ada, &[]).await, 403);

    let code = world.mfa_code().await;
    assert_eq!(assume_admin(&world, &ada, &mfa(&world, &code)).await, 200);
}

#[tokio::test]
async fn call_log_has_no_code() {
    let world = world().await;
    let code = world.mfa_code().await;
    assume_admin(&world, &world.user_keys("ada"), &mfa(&world, &code)).await;

    let calls = world.control("GET", "/aws/calls", None).await;
    let params = &calls.items()[0]["params"];
    assert_eq!(params["SerialNumber"], world.fixture("/mfa/serial"));
    assert_eq!(params["TokenCode"], serde_json::Value::Null);
}

#[tokio::test]
async fn code_is_accepted_once() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let code = world.mfa_code().await;
    assert_eq!(assume_admin(&world, &ada, &mfa(&world, &code)).await, 200);

    let again = world.assume_role(&ada, "admin", &mfa(&world, &code)).await;
    again.check_denied(INVALID);
    let again = world
        .sts(&ada, "GetSessionToken", &mfa(&world, &code))
        .await;
    again.check_denied(INVALID);

    world.advance_aws_clock(30).await;
    let next = world.mfa_code().await;
    assert_eq!(assume_admin(&world, &ada, &mfa(&world, &next)).await, 200);
}

#[tokio::test]
async fn wrong_code_and_wrong_serial_have_different_texts() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let code = world.mfa_code().await;
    let wrong = if code == "000000" { "000001" } else { "000000" };
    world
        .assume_role(&ada, "admin", &mfa(&world, wrong))
        .await
        .check_denied(INVALID);

    let ben = world.user_keys("ben");
    let reply = world
        .sts(&ben, "GetSessionToken", &mfa(&world, &code))
        .await;
    reply.check_denied(UNKNOWN);
    let unknown = [
        ("SerialNumber", "arn:aws:iam::111122223333:mfa/x"),
        ("TokenCode", &*code),
    ];
    world
        .sts(&ada, "GetSessionToken", &unknown)
        .await
        .check_denied(UNKNOWN);

    let serial_only = &mfa(&world, &code)[..1];
    let reply = world.sts(&ada, "GetSessionToken", serial_only).await;
    assert!(
        reply
            .message()
            .contains("must provide both MFA serial number")
    );
}

#[tokio::test]
async fn session_token_carries_mfa_to_role_assumptions() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let without = world.sts(&ada, "GetSessionToken", &[]).await.keys();
    assert_eq!(assume_admin(&world, &without, &[]).await, 403);

    let code = world.mfa_code().await;
    let with = world
        .sts(&ada, "GetSessionToken", &mfa(&world, &code))
        .await
        .keys();
    assert_eq!(assume_admin(&world, &with, &[]).await, 200);
}

#[tokio::test]
async fn role_session_does_not_carry_mfa() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let code = world.mfa_code().await;
    let admin = world
        .assume_role(&ada, "admin", &mfa(&world, &code))
        .await
        .keys();

    assert_eq!(assume_admin(&world, &admin, &[]).await, 403);
}

#[tokio::test]
async fn trust_can_limit_the_age_of_mfa() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let trust = serde_json::json!({ "Statement": {
        "Effect": "Allow",
        "Principal": { "AWS": "111122223333" },
        "Action": "sts:AssumeRole",
        "Condition": { "NumericLessThan": { "aws:MultiFactorAuthAge": "600" } },
    } });
    world
        .aws_control(
            "/roles",
            serde_json::json!({ "name": "admin", "trust": trust }),
        )
        .await;
    let code = world.mfa_code().await;
    let session = world
        .sts(&ada, "GetSessionToken", &mfa(&world, &code))
        .await
        .keys();

    assert_eq!(assume_admin(&world, &session, &[]).await, 200);
    world.advance_aws_clock(600).await;
    assert_eq!(assume_admin(&world, &session, &[]).await, 403);
}

#[tokio::test]
async fn session_without_mfa_cannot_call_iam() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let without = world.sts(&ada, "GetSessionToken", &[]).await.keys();
    let reply = world.iam(&without, "GetUser", &[]).await;
    assert_eq!(reply.code(), (403, "InvalidClientTokenId".into()));

    let code = world.mfa_code().await;
    let with = world
        .sts(&ada, "GetSessionToken", &mfa(&world, &code))
        .await
        .keys();
    assert_eq!(
        world.iam(&with, "GetUser", &[]).await.tag("UserName"),
        "ada"
    );
}
