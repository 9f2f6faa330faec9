//! What leased keys are good for at the sandbox's S3.

use super::s3_client::draft;
use super::*;

#[tokio::test]
async fn keys_read_and_write_as_their_roles_policies_allow_and_no_more() {
    let world = world().await;
    let writer = world.with_bucket().await;
    let reader = world.keys("ci-cd-pipeline", "S3ReadOnly").await;
    let put = draft("PUT", "/proof/a%20b%2Bc//%C3%BC", "first").with("x-amz-meta-colour", "red");
    assert_eq!(
        world
            .s3(&writer, put.with("content-type", "text/plain"))
            .await
            .status,
        200
    );
    let got = world
        .s3(&reader, draft("GET", "/proof/a%20b%2Bc//%C3%BC", ""))
        .await;
    assert_eq!((got.status, got.body.as_str()), (200, "first"));
    assert_eq!(
        (
            &got.headers["x-amz-meta-colour"],
            &got.headers["content-type"]
        ),
        (&"red".parse().unwrap(), &"text/plain".parse().unwrap())
    );
    let head = world
        .s3(&reader, draft("HEAD", "/proof/a%20b%2Bc//%C3%BC", ""))
        .await;
    assert_eq!(
        (
            head.status,
            head.headers["content-length"].to_str().unwrap(),
            &*head.body
        ),
        (200, "5", "")
    );
    let listed = world
        .s3(&reader, draft("GET", "/proof", "").query("list-type", "2"))
        .await;
    assert_eq!(
        (
            listed.tag("Key"),
            listed.tag("Size"),
            listed.tag("KeyCount")
        ),
        ("a b+c//ü", "5", "1")
    );
    assert_eq!(
        world.s3(&reader, draft("GET", "/", "")).await.tag("Name"),
        "proof"
    );
    assert_eq!(
        world.s3(&reader, draft("HEAD", "/proof", "")).await.status,
        200
    );

    let writes = [
        draft("PUT", "/proof/a%20b%2Bc//%C3%BC", "second"),
        draft("DELETE", "/proof/a%20b%2Bc//%C3%BC", ""),
        draft("PUT", "/another", ""),
        draft("DELETE", "/proof", ""),
    ];
    for write in writes {
        let name = format!("{} {}", write.verb, write.path);
        assert_eq!(
            world.s3(&reader, write).await.code(),
            (403, "AccessDenied"),
            "{name}"
        );
    }
    assert_eq!(
        world
            .s3(&reader, draft("GET", "/proof/a%20b%2Bc//%C3%BC", ""))
            .await
            .body,
        "first",
        "nothing was changed"
    );
    assert_eq!(
        world
            .s3(&writer, draft("DELETE", "/proof", ""))
            .await
            .code(),
        (409, "BucketNotEmpty")
    );
    assert_eq!(
        world
            .s3(&writer, draft("DELETE", "/proof/a%20b%2Bc//%C3%BC", ""))
            .await
            .status,
        204
    );
    assert_eq!(
        world
            .s3(&writer, draft("DELETE", "/proof", ""))
            .await
            .status,
        204
    );
}

#[tokio::test]
async fn a_policy_can_allow_one_folder_of_one_bucket() {
    let world = world().await;
    let writer = world.with_bucket().await;
    let document = json!({ "version": "2024-01-01", "statements": [
        { "effect": "allow", "actions": ["s3:GetObject"], "resources": ["crn:bycloud:s3:*:object/proof/open/*"] }] });
    let policy = world
        .make("policies", json!({ "name": "Open", "document": document }))
        .await;
    let role = world.role("NotAllowed").to_owned();
    world
        .as_admin(
            "POST",
            &format!("/roles/{role}/policies"),
            json!({ "policy_id": policy }),
        )
        .await;
    let keys = world.keys("admin", "NotAllowed").await;
    for key in ["open/a", "closed/a"] {
        world
            .s3(&writer, draft("PUT", &format!("/proof/{key}"), key))
            .await;
    }
    assert_eq!(
        world
            .s3(&keys, draft("GET", "/proof/open/a", ""))
            .await
            .body,
        "open/a"
    );
    assert_eq!(
        world
            .s3(&keys, draft("GET", "/proof/closed/a", ""))
            .await
            .code(),
        (403, "AccessDenied")
    );
    assert_eq!(
        world.s3(&keys, draft("GET", "/", "")).await.code(),
        (403, "AccessDenied")
    );
}

#[tokio::test]
async fn lists_come_in_pages_that_roll_up_at_a_delimiter_and_miss_nothing() {
    let world = world().await;
    let keys = world.with_bucket().await;
    for key in ["a/1", "a/2", "b", "c/1", "c/2", "d%261"] {
        assert_eq!(
            world
                .s3(&keys, draft("PUT", &format!("/proof/{key}"), ""))
                .await
                .status,
            200
        );
    }
    let list = |query: &[(&str, &str)]| {
        let start = draft("GET", "/proof", "").query("list-type", "2");
        query
            .iter()
            .fold(start, |draft, (name, value)| draft.query(name, *value))
    };
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let mut wanted = vec![
            ("delimiter", "%2F"),
            ("max-keys", "1"),
            ("encoding-type", "url"),
        ];
        wanted.extend((!token.is_empty()).then_some(("continuation-token", &*token)));
        let page = world.s3(&keys, list(&wanted)).await;
        assert_eq!(
            (page.status, page.tag("KeyCount")),
            (200, "1"),
            "{}",
            page.body
        );
        let prefix = page
            .body
            .split_once("<CommonPrefixes>")
            .map(|(_, rest)| rest);
        let prefix = prefix.and_then(|rest| rest.split_once("<Prefix>")?.1.split_once('<'));
        seen.push(prefix.map_or_else(
            || page.tag("Key").to_owned(),
            |(prefix, _)| prefix.to_owned(),
        ));
        token = page.tag("NextContinuationToken").to_owned();
        if page.tag("IsTruncated") == "false" {
            break;
        }
    }
    assert_eq!(seen, ["a%2F", "b", "c%2F", "d%261"]);
    let some = world
        .s3(&keys, list(&[("prefix", "c%2F"), ("start-after", "c%2F1")]))
        .await;
    assert_eq!((some.tag("KeyCount"), some.tag("Key")), ("1", "c/2"));
    assert_eq!(
        world
            .s3(&keys, list(&[("start-after", "d")]))
            .await
            .tag("Key"),
        "d&amp;1"
    );
    assert_eq!(
        world
            .s3(&keys, list(&[("max-keys", "0")]))
            .await
            .tag("IsTruncated"),
        "false"
    );
    for wrong in [
        ("max-keys", "many"),
        ("continuation-token", "xyz"),
        ("encoding-type", "rot13"),
    ] {
        assert_eq!(
            world.s3(&keys, list(&[wrong])).await.code(),
            (400, "InvalidArgument"),
            "{wrong:?}"
        );
    }
}

#[tokio::test]
async fn sts_says_whose_keys_they_are_without_a_policy() {
    let world = world().await;
    let keys = world.keys("admin", "NotAllowed").await;
    let ask = |body: &str| {
        let form =
            draft("POST", "/", body).with("content-type", "application/x-www-form-urlencoded");
        form.signed(world.host(), &keys, "sts", 0)
    };
    let said = world
        .send(&ask("Action=GetCallerIdentity&Version=2011-06-15"))
        .await;
    let arn = format!(
        "arn:aws:sts::000000000000:assumed-role/NotAllowed/{}",
        keys.session
    );
    assert_eq!(
        (said.status, said.tag("Arn"), said.tag("Account")),
        (200, &*arn, "000000000000")
    );
    assert!(
        said.tag("UserId").ends_with(&keys.session)
            && said.tag("UserId").starts_with(world.role("NotAllowed"))
    );
    assert_eq!(
        world.send(&ask("Action=GetSessionToken")).await.code(),
        (400, "InvalidAction")
    );
    let mut changed = ask("Action=GetCallerIdentity&Version=2011-06-15");
    changed.body = b"Action=GetCallerIdentity&Version=2011-06-16".into();
    assert_eq!(
        world.send(&changed).await.code(),
        (403, "SignatureDoesNotMatch")
    );
    let for_s3 =
        draft("POST", "/", "Action=GetCallerIdentity").signed(world.host(), &keys, "s3", 0);
    assert_eq!(
        world.send(&for_s3).await.code(),
        (400, "IncompleteSignature")
    );
    let path = format!("/sts/sessions/{}", keys.session);
    assert_eq!(
        world.as_admin("DELETE", &path, Value::Null).await.status,
        204
    );
    assert_eq!(
        world.send(&ask("Action=GetCallerIdentity")).await.code(),
        (403, "InvalidClientTokenId")
    );
}

#[tokio::test]
async fn every_request_is_in_the_audit_log_with_its_session_and_in_the_list_of_requests() {
    let world = world().await;
    let writer = world.with_bucket().await;
    let reader = world.keys("ci-cd-pipeline", "S3ReadOnly").await;
    assert_eq!(
        world
            .control("DELETE", "/s3-requests", Value::Null)
            .await
            .status,
        200
    );
    world.s3(&writer, draft("PUT", "/proof/k", "x")).await;
    world.s3(&reader, draft("PUT", "/proof/k", "y")).await;
    world.s3(&reader, draft("GET", "/proof/none", "")).await;
    world
        .s3(&reader, draft("GET", "/proof/none", "").query("acl", ""))
        .await;
    world.send(&draft("GET", "/proof/k", "")).await;
    let requests = world.control("GET", "/s3-requests", Value::Null).await.body;
    let wanted = json!([
        { "access_key_id": writer.id, "operation": "putObject", "status": 200, "code": null },
        { "access_key_id": reader.id, "operation": "putObject", "status": 403, "code": "AccessDenied" },
        { "access_key_id": reader.id, "operation": "getObject", "status": 404, "code": "NoSuchKey" },
        { "access_key_id": reader.id, "operation": null, "status": 501, "code": "NotImplemented" },
        { "access_key_id": null, "operation": "getObject", "status": 403, "code": "AccessDenied" },
    ]);
    assert_eq!(requests, wanted);
    let entries = world
        .as_admin("GET", "/audit-logs?action=s3.*", Value::Null)
        .await
        .body["items"]
        .clone();
    let seen: Vec<_> = (entries.as_array().unwrap().iter().skip(1))
        .map(|entry| {
            (
                entry["action"].as_str().unwrap(),
                entry["status"].as_str().unwrap(),
                entry["session_id"].clone(),
            )
        })
        .collect();
    let wanted = [
        ("s3.putObject", "success", json!(writer.session)),
        ("s3.putObject", "denied", json!(reader.session)),
        ("s3.getObject", "error", json!(reader.session)),
        ("s3.getObject", "denied", Value::Null),
    ];
    assert_eq!(seen, wanted);
    assert_eq!(
        (&entries[1]["resource_type"], &entries[1]["resource_id"]),
        (&json!("object"), &json!("proof/k"))
    );
    let told = format!("{requests}{entries}");
    for keys in [&writer, &reader] {
        assert!(
            !told.contains(&keys.secret) && !told.contains(&keys.token),
            "a secret is in a log"
        );
    }
    world.control("DELETE", "/s3-requests", Value::Null).await;
    assert_eq!(
        world.control("GET", "/s3-requests", Value::Null).await.body,
        json!([])
    );
}

#[tokio::test]
async fn objects_and_keys_are_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options {
        data: Some(dir.path().join("iam.db")),
        ..Options::default()
    };
    let first = with(options()).await;
    let keys = first.with_bucket().await;
    first.s3(&keys, draft("PUT", "/proof/kept", "here")).await;
    drop(first);
    let second = with(options()).await;
    assert_eq!(
        second.s3(&keys, draft("GET", "/proof/kept", "")).await.body,
        "here"
    );
}

#[tokio::test]
async fn a_data_file_from_before_s3_gets_it_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("iam.db");
    let options = || Options {
        data: Some(path.clone()),
        ..Options::default()
    };
    let first = with(options()).await;
    let role = first.make("roles", json!({ "name": "Kept" })).await;
    drop(first);
    let before =
        "DROP TABLE session_keys; DROP TABLE objects; DROP TABLE buckets; PRAGMA user_version = 2;";
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(before)
        .unwrap();
    let second = with(options()).await;
    assert_eq!(
        second
            .as_admin("GET", &format!("/roles/{role}"), Value::Null)
            .await
            .status,
        200
    );
    second.with_bucket().await;
}
