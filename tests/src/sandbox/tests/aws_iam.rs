//! IAM: access keys, MFA devices, roles and the simulation of policies.

use serde_json::json;

use super::aws_client::AwsKeys;
use super::world;

#[tokio::test]
async fn key_is_created_used_deactivated_and_deleted() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let created = world.iam(&ada, "CreateAccessKey", &[]).await;
    let new = AwsKeys {
        token: None,
        ..created.keys()
    };
    assert!(new.id.starts_with("AKIA") && new.secret.contains("canary"));
    assert_eq!(world.sts(&new, "GetCallerIdentity", &[]).await.status, 200);

    let full = world.iam(&ada, "CreateAccessKey", &[]).await;
    assert_eq!(full.code(), (409, "LimitExceeded".into()));
    let old = ("AccessKeyId", ada.id.as_str());
    let inactive = [old, ("Status", "Inactive")];
    assert_eq!(
        world.iam(&new, "UpdateAccessKey", &inactive).await.status,
        200
    );
    assert_eq!(world.sts(&ada, "GetCallerIdentity", &[]).await.status, 403);

    assert_eq!(world.iam(&new, "DeleteAccessKey", &[old]).await.status, 200);
    let gone = world.iam(&new, "DeleteAccessKey", &[old]).await;
    assert_eq!(gone.code(), (404, "NoSuchEntity".into()));
    let listed = world
        .iam(&new, "ListAccessKeys", &[("UserName", "ada")])
        .await;
    assert_eq!(listed.tag("AccessKeyId"), new.id);
    assert_eq!(listed.tag("Status"), "Active");
    assert_eq!(listed.body.matches("<member>").count(), 1);
}

#[tokio::test]
async fn new_key_is_unknown_until_it_has_propagated() {
    let world = world().await;
    world
        .aws_control("/propagation", json!({ "seconds": 10 }))
        .await;
    let ada = world.user_keys("ada");
    let created = world.iam(&ada, "CreateAccessKey", &[]).await;
    let new = AwsKeys {
        token: None,
        ..created.keys()
    };

    let reply = world.sts(&new, "GetCallerIdentity", &[]).await;
    assert_eq!(reply.code(), (403, "InvalidClientTokenId".into()));
    world.advance_aws_clock(10).await;
    assert_eq!(world.sts(&new, "GetCallerIdentity", &[]).await.status, 200);
}

#[tokio::test]
async fn last_use_of_a_key_is_recorded() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let ben = world.user_keys("ben");
    let of_ben = [("AccessKeyId", ben.id.as_str())];
    let before = world.iam(&ada, "GetAccessKeyLastUsed", &of_ben).await;
    assert_eq!(before.tag("ServiceName"), "N/A");

    world.sts(&ben, "GetCallerIdentity", &[]).await;
    let after = world.iam(&ada, "GetAccessKeyLastUsed", &of_ben).await;
    assert_eq!(
        (after.tag("ServiceName"), after.tag("Region")),
        ("sts".into(), "eu-central-1".into())
    );
}

#[tokio::test]
async fn user_and_mfa_device_are_listed() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let user = world.iam(&ada, "GetUser", &[("UserName", "ci")]).await;
    assert_eq!(user.tag("Arn"), "arn:aws:iam::111122223333:user/ci");

    let devices = world.iam(&ada, "ListMFADevices", &[]).await;
    assert_eq!(
        devices.tag("SerialNumber"),
        "arn:aws:iam::111122223333:mfa/ada"
    );
    let none = world
        .iam(&ada, "ListMFADevices", &[("UserName", "ben")])
        .await;
    assert_eq!(none.tag("SerialNumber"), "");
    let unknown = world.iam(&ada, "GetUser", &[("UserName", "x")]).await;
    assert_eq!(unknown.code(), (404, "NoSuchEntity".into()));
}

#[tokio::test]
async fn user_without_permission_is_denied_implicitly() {
    let world = world().await;
    let ben = world.user_keys("ben");

    let reply = world.iam(&ben, "GetRole", &[("RoleName", "reader")]).await;
    reply.check_denied("User: arn:aws:iam::111122223333:user/ben is not authorized to perform: iam:GetRole on resource: role reader because no identity-based policy allows the iam:GetRole action");
}

#[tokio::test]
async fn role_has_its_trust_policy_and_its_longest_session() {
    let world = world().await;
    let role = world
        .iam(&world.user_keys("ada"), "GetRole", &[("RoleName", "short")])
        .await;

    assert_eq!(role.tag("MaxSessionDuration"), "3600");
    let document = role.tag("AssumeRolePolicyDocument");
    let document = percent_encoding::percent_decode_str(&document)
        .decode_utf8()
        .unwrap();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let principal = &document["Statement"][0]["Principal"]["AWS"];
    assert_eq!(principal, "arn:aws:iam::111122223333:root");
}

#[tokio::test]
async fn role_policy_is_put_read_and_deleted() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let name = [
        ("RoleName", "reader"),
        ("PolicyName", "AWSRevokeOlderSessions"),
    ];
    let missing = world.iam(&ada, "GetRolePolicy", &name).await;
    assert_eq!(missing.code(), (404, "NoSuchEntity".into()));

    let document = r#"{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;
    let put = [name[0], name[1], ("PolicyDocument", document)];
    assert_eq!(world.iam(&ada, "PutRolePolicy", &put).await.status, 200);
    let got = world.iam(&ada, "GetRolePolicy", &name).await;
    let text = got.tag("PolicyDocument");
    assert_eq!(
        percent_encoding::percent_decode_str(&text)
            .decode_utf8()
            .unwrap(),
        document
    );

    assert_eq!(world.iam(&ada, "DeleteRolePolicy", &name).await.status, 200);
    assert_eq!(world.iam(&ada, "DeleteRolePolicy", &name).await.status, 404);
    let malformed = [name[0], name[1], ("PolicyDocument", "{")];
    let reply = world.iam(&ada, "PutRolePolicy", &malformed).await;
    assert_eq!(reply.code(), (400, "MalformedPolicyDocument".into()));
}

#[tokio::test]
async fn simulation_decides_by_the_policies_of_the_principal() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let reader = world.fixture("/roles/reader");
    let decision = async |source: &str, action: &str, resource: &str| {
        let params = [
            ("PolicySourceArn", source),
            ("ActionNames.member.1", action),
            ("ResourceArns.member.1", resource),
        ];
        world
            .iam(&ada, "SimulatePrincipalPolicy", &params)
            .await
            .tag("EvalDecision")
    };

    let ci = "arn:aws:iam::111122223333:user/ci";
    assert_eq!(decision(ci, "sts:AssumeRole", reader).await, "allowed");
    assert_eq!(decision(ci, "iam:GetRole", reader).await, "implicitDeny");
    world
        .aws_control("/roles/reader/revoke-sessions", json!({}))
        .await;
    // Without an issue time in the context, the deny does not apply.
    assert_eq!(decision(reader, "s3:GetObject", "*").await, "allowed");
}
