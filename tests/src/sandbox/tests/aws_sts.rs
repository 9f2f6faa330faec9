//! Sessions of STS: parameters, durations, chains, tags and source identities.

use super::aws_client::AwsReply;
use super::world;

const DENIED: &str = "User: arn:aws:iam::111122223333:user/ada is not authorized to perform";

#[tokio::test]
async fn assumed_role_has_an_hour_and_the_names_of_its_role() {
    let world = world().await;
    let reply = world
        .assume_role(&world.user_keys("ada"), "reader", &[])
        .await;
    let session = reply.keys();
    let expiration: jiff::Timestamp = reply.tag("Expiration").parse().unwrap();
    let date = httpdate::parse_http_date(reply.headers["date"].to_str().unwrap()).unwrap();
    let date = jiff::Timestamp::try_from(date).unwrap();
    let life = expiration.as_second() - date.as_second();
    assert!((3598..=3600).contains(&life), "{life}");
    assert!(session.secret.contains("canary") && session.token.unwrap().contains("canary"));

    let identity = world.sts(&reply.keys(), "GetCallerIdentity", &[]).await;
    let arn = "arn:aws:sts::111122223333:assumed-role/reader/test";
    assert_eq!(identity.tag("Arn"), arn);
    assert_eq!(identity.tag("UserId"), reply.tag("AssumedRoleId"));
    assert!(identity.tag("UserId").starts_with("AROA"));
}

#[tokio::test]
async fn parameters_out_of_range_are_refused() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let long = "a".repeat(2049);
    let table: [(&str, &str, &str); 10] = [
        (
            "Policy",
            "{\"€\"}",
            "'policy' failed to satisfy constraint: Member must satisfy regular expression pattern",
        ),
        (
            "DurationSeconds",
            "899",
            "'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900",
        ),
        ("DurationSeconds", "43201", "less than or equal to 43200"),
        (
            "ExternalId",
            "x",
            "'externalId' failed to satisfy constraint: Member must have length greater than or equal to 2",
        ),
        ("ExternalId", "x 1", "regular expression pattern"),
        ("SerialNumber", "short", "'serialNumber'"),
        (
            "TokenCode",
            "12345",
            "'tokenCode' failed to satisfy constraint: Member must have length greater than or equal to 6",
        ),
        (
            "TokenCode",
            "12345x",
            "'tokenCode' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\d]*",
        ),
        ("SourceIdentity", "a/b", "'sourceIdentity'"),
        (
            "Policy",
            &long,
            "'policy' failed to satisfy constraint: Member must have length less than or equal to 2048",
        ),
    ];

    for (name, value, message) in table {
        world
            .assume_role(&ada, "reader", &[(name, value)])
            .await
            .check_invalid(message);
    }
    let arn = world.fixture("/roles/reader");
    let params = [("RoleArn", arn), ("RoleSessionName", "a/b")];
    let reply = world.sts(&ada, "AssumeRole", &params).await;
    reply.check_invalid("Value 'a/b' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*");
    let params = [
        ("RoleArn", "arn:aws:s3:::bucket/role"),
        ("RoleSessionName", "test"),
    ];
    world
        .sts(&ada, "AssumeRole", &params)
        .await
        .check_invalid("arn:aws:s3:::bucket/role is invalid");
    let reply = world.sts(&ada, "AssumeRole", &[("RoleArn", arn)]).await;
    reply.check_invalid("Value null at 'roleSessionName'");
}

#[tokio::test]
async fn role_limits_the_duration() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let long = [("DurationSeconds", "3601")];

    let reply = world.assume_role(&ada, "short", &long).await;
    reply.check_invalid(
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
    );
    assert_eq!(world.assume_role(&ada, "short", &[]).await.status, 200);
    assert_eq!(
        world
            .assume_role(&ada, "reader", &[("DurationSeconds", "43200")])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn chained_session_lasts_an_hour_at_most() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let reader = world.assume_role(&ada, "reader", &[]).await.keys();

    let target = world.assume_role(&reader, "target", &[]).await;
    assert_eq!(
        world
            .sts(&target.keys(), "GetCallerIdentity", &[])
            .await
            .tag("Arn"),
        "arn:aws:sts::444455556666:assumed-role/target/test"
    );
    let of_user = world.sts(&ada, "GetSessionToken", &[]).await.keys();
    let long = [("DurationSeconds", "3601")];
    for (keys, role) in [(&reader, "target"), (&of_user, "reader")] {
        let reply = world.assume_role(keys, role, &long).await;
        reply.check_invalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining");
    }

    let direct = world.assume_role(&ada, "target", &[]).await;
    let target = world.fixture("/roles/target");
    direct.check_denied(&format!("{DENIED}: sts:AssumeRole on resource: {target}"));
}

#[tokio::test]
async fn session_token_is_for_long_term_keys() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let reply = world
        .sts(&ada, "GetSessionToken", &[("DurationSeconds", "129600")])
        .await;
    let session = reply.keys();
    let identity = world.sts(&session, "GetCallerIdentity", &[]).await;
    assert_eq!(identity.tag("Arn"), "arn:aws:iam::111122223333:user/ada");

    let role = world.assume_role(&ada, "reader", &[]).await.keys();
    for keys in [&session, &role] {
        let reply = world.sts(keys, "GetSessionToken", &[]).await;
        reply.check_denied("Cannot call GetSessionToken with session credentials");
    }
    let short = world
        .sts(&ada, "GetSessionToken", &[("DurationSeconds", "899")])
        .await;
    short.check_invalid("'durationSeconds'");
}

#[tokio::test]
async fn tags_need_permission_and_the_trusted_value() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let team = |value| {
        [
            ("Tags.member.1.Key", "team"),
            ("Tags.member.1.Value", value),
        ]
    };
    let (tagged, reader) = (
        world.fixture("/roles/tagged"),
        world.fixture("/roles/reader"),
    );

    assert_eq!(
        world
            .assume_role(&ada, "tagged", &team("core"))
            .await
            .status,
        200
    );
    let wrong = world.assume_role(&ada, "tagged", &team("other")).await;
    wrong.check_denied(&format!("{DENIED}: sts:AssumeRole on resource: {tagged}"));
    let untrusted = world.assume_role(&ada, "reader", &team("core")).await;
    untrusted.check_denied(&format!("{DENIED}: sts:TagSession on resource: {reader}"));

    let double = [
        team("core"),
        [("Tags.member.2.Key", "Team"), ("Tags.member.2.Value", "x")],
    ];
    let reply = world.assume_role(&ada, "tagged", &double.concat()).await;
    assert!(
        reply.message().starts_with("Duplicate tag keys found."),
        "{}",
        reply.body
    );
}

#[tokio::test]
async fn transitive_tags_stay_along_a_chain() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let team = [
        ("Tags.member.1.Key", "team"),
        ("Tags.member.1.Value", "core"),
    ];
    let unknown = [team.as_slice(), &[("TransitiveTagKeys.member.1", "cost")]].concat();
    let reply = world.assume_role(&ada, "tagged", &unknown).await;
    assert_eq!(reply.code(), (400, "InvalidParameterValue".into()));

    let transitive = [team.as_slice(), &[("TransitiveTagKeys.member.1", "team")]].concat();
    let session = world.assume_role(&ada, "tagged", &transitive).await.keys();
    allow_assume(&world, "tagged").await;
    let conflict = world.assume_role(&session, "tagged", &team).await;
    assert_eq!(conflict.code(), (400, "InvalidParameterValue".into()));

    // `reader` does not allow sts:TagSession, which the transitive tag needs.
    let chained = world.assume_role(&session, "reader", &[]).await;
    assert!(
        chained.message().contains("sts:TagSession"),
        "{}",
        chained.body
    );
}

#[tokio::test]
async fn source_identity_needs_permission_and_cannot_change() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let identity = |name| [("SourceIdentity", name)];
    let (named, reader) = (
        world.fixture("/roles/named"),
        world.fixture("/roles/reader"),
    );

    let missing = world.assume_role(&ada, "named", &[]).await;
    missing.check_denied(&format!("{DENIED}: sts:AssumeRole on resource: {named}"));
    let untrusted = world.assume_role(&ada, "reader", &identity("ada")).await;
    untrusted.check_denied(&format!(
        "{DENIED}: sts:SetSourceIdentity on resource: {reader}"
    ));

    let reply = world.assume_role(&ada, "named", &identity("ada")).await;
    assert_eq!(reply.tag("SourceIdentity"), "ada");
    allow_assume(&world, "named").await;
    let changed: AwsReply = world
        .assume_role(&reply.keys(), "named", &identity("ben"))
        .await;
    assert!(
        changed.message().contains("sts:SetSourceIdentity"),
        "{}",
        changed.body
    );
    assert_eq!(
        world
            .assume_role(&reply.keys(), "named", &[])
            .await
            .tag("SourceIdentity"),
        "ada"
    );
}

/// Lets a role assume roles.
async fn allow_assume(world: &super::World, role: &str) {
    let policy = r#"{"Statement":{"Effect":"Allow","Action":"sts:*","Resource":"*"}}"#;
    let params = [
        ("RoleName", role),
        ("PolicyName", "p"),
        ("PolicyDocument", policy),
    ];
    let reply = world
        .iam(&world.user_keys("ada"), "PutRolePolicy", &params)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

#[tokio::test]
async fn session_policies_limit_the_permissions_of_the_role() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let id = ada.id.clone();
    let key = [("AccessKeyId", id.as_str())];
    let action = "sts:GetAccessKeyInfo";
    let who = "User: arn:aws:sts::111122223333:assumed-role/reader/test is not authorized to perform: sts:GetAccessKeyInfo";
    let deny = r#"{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;
    let other = r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;
    let table = [
        (
            "Policy",
            deny,
            format!("{who} with an explicit deny in a session policy"),
        ),
        (
            "Policy",
            other,
            format!("{who} because no session policy allows the {action} action"),
        ),
        (
            "PolicyArns.member.1.arn",
            "arn:aws:iam::aws:policy/ReadOnlyAccess",
            String::new(),
        ),
    ];

    for (name, value, message) in table {
        let assumed = world.assume_role(&ada, "reader", &[(name, value)]).await;
        assert!(!assumed.tag("PackedPolicySize").is_empty());
        let reply = world.sts(&assumed.keys(), "GetAccessKeyInfo", &key).await;
        assert_eq!(reply.message(), message);
    }
}

#[tokio::test]
async fn unusable_session_policies_are_refused() {
    let world = world().await;
    let ada = world.user_keys("ada");
    let statement = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#;
    let long = format!(r#"{{"Statement":[{}]}}"#, vec![statement; 38].join(","));
    assert!(long.len() <= 2048, "{}", long.len());
    let mut params = vec![("Policy".to_owned(), long)];
    for n in 1..=9 {
        params.push((format!("Tags.member.{n}.Key"), format!("key-{n}")));
        params.push((format!("Tags.member.{n}.Value"), "v".repeat(250)));
    }
    let params: Vec<_> = params
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();

    let reply = world.assume_role(&ada, "tagged", &params).await;
    assert_eq!(reply.code(), (400, "PackedPolicyTooLarge".into()));
    let reply = world.assume_role(&ada, "reader", &[("Policy", "{")]).await;
    assert_eq!(reply.code(), (400, "MalformedPolicyDocument".into()));
}
