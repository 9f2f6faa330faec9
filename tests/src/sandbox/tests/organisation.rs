//! Groups, invitations and the audit log.

use super::*;

impl World {
    /// Creates something as the administrator and returns its id.
    pub(super) async fn make(&self, collection: &str, body: Value) -> String {
        let said = self.as_admin("POST", &format!("/{collection}"), body).await;
        assert_eq!(said.status, 201, "{}", said.body);
        said.body["id"].as_str().unwrap().into()
    }

    async fn count(&self, path: &str) -> usize {
        let said = self.as_admin("GET", path, Value::Null).await;
        assert_eq!(said.status, 200, "{}", said.body);
        said.body["items"].as_array().unwrap().len()
    }
}

#[tokio::test]
async fn a_groups_policies_are_its_members_while_they_are_members() {
    let world = world().await;
    let group = world
        .make(
            "groups",
            json!({ "name": "developers", "description": "who builds" }),
        )
        .await;
    let admin_policy = world.id("policies", "AdministratorAccess").await;
    let attached = format!("/groups/{group}/policies");
    assert_eq!(
        world
            .as_admin("POST", &attached, json!({ "policy_id": admin_policy }))
            .await
            .status,
        204
    );
    assert_eq!(world.count(&attached).await, 1);
    assert_eq!(
        world
            .count(&format!("/policies/{admin_policy}/groups"))
            .await,
        1
    );
    for (collection, name) in [("users", "dev"), ("service-accounts", "ci-cd-pipeline")] {
        let (id, token) = (world.id(collection, name).await, world.token(name));
        let may = async || {
            world
                .call(&token, "GET", "/users", Value::Null)
                .await
                .status
        };
        let make = async |role: &str| {
            world
                .call(&token, "POST", "/roles", json!({ "name": role }))
                .await
                .status
        };
        assert_eq!(make(&format!("{name}-before")).await, 403);
        let groups = format!("/{collection}/{id}/groups");
        for _ in 0..2 {
            assert_eq!(
                world
                    .as_admin("POST", &groups, json!({ "group_id": group }))
                    .await
                    .status,
                204
            );
        }
        assert_eq!(make(&format!("{name}-within")).await, 201);
        assert_eq!(world.count(&groups).await, 1);
        assert_eq!(
            world.count(&format!("/groups/{group}/{collection}")).await,
            1
        );
        assert_eq!(
            world
                .as_admin("DELETE", &format!("/groups/{group}"), Value::Null)
                .await
                .code(),
            (409, "in_use")
        );

        // A session has the role's policies and none of its principal's groups.
        let session = world.assume(name, "S3ReadOnly", json!({})).await.body;
        let session = session["credentials"]["session_token"].as_str().unwrap();
        assert_eq!(
            world
                .call(session, "POST", "/roles", json!({ "name": "no" }))
                .await
                .status,
            403
        );

        let one = format!("{groups}/{group}");
        assert_eq!(
            world.as_admin("DELETE", &one, Value::Null).await.status,
            204
        );
        assert_eq!(
            world.as_admin("DELETE", &one, Value::Null).await.code(),
            (404, "not_found")
        );
        assert_eq!(make(&format!("{name}-after")).await, 403);
        assert_eq!(may().await, 200, "its own policies still hold");
    }
    assert_eq!(
        world
            .as_admin("DELETE", &format!("/groups/{group}"), Value::Null)
            .await
            .code(),
        (409, "in_use")
    );
    world
        .as_admin("DELETE", &format!("{attached}/{admin_policy}"), Value::Null)
        .await;
    assert_eq!(
        world
            .as_admin("DELETE", &format!("/groups/{group}"), Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(
        world
            .as_admin("GET", &format!("/groups/{group}"), Value::Null)
            .await
            .code(),
        (404, "not_found")
    );
}

#[tokio::test]
async fn a_groups_deny_overrules_what_its_members_are_allowed() {
    let world = world().await;
    let document = json!({ "version": "2024-01-01", "statements": [
        { "effect": "deny", "actions": ["sts:AssumeRole"], "resources": ["*:role/S3ReadOnly"] }] });
    let policy = world
        .make(
            "policies",
            json!({ "name": "NoReading", "document": document }),
        )
        .await;
    let group = world.make("groups", json!({ "name": "locked" })).await;
    let dev = world.id("users", "dev").await;
    world
        .as_admin(
            "POST",
            &format!("/groups/{group}/policies"),
            json!({ "policy_id": policy }),
        )
        .await;
    assert_eq!(
        world.assume("dev", "S3ReadOnly", json!({})).await.status,
        201
    );
    world
        .as_admin(
            "POST",
            &format!("/users/{dev}/groups"),
            json!({ "group_id": group }),
        )
        .await;
    assert_eq!(
        world.assume("dev", "S3ReadOnly", json!({})).await.code(),
        (403, "access_denied")
    );
    assert_eq!(
        world
            .assume("dev", "S3BucketAccess", json!({}))
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn an_invitation_becomes_a_user_in_the_groups_it_names_when_it_is_accepted() {
    let world = world().await;
    let group = world.make("groups", json!({ "name": "developers" })).await;
    let gone = world.make("groups", json!({ "name": "gone" })).await;
    let body = json!({ "email": "new@example.test", "group_ids": [group, gone] });
    let invitation = world.make("users", body.clone()).await;
    let path = format!("/invitations/{invitation}");
    assert_eq!(
        world.as_admin("GET", &path, Value::Null).await.body["status"],
        "pending"
    );
    assert_eq!(
        world.as_admin("POST", "/users", body).await.code(),
        (409, "conflict")
    );
    assert_eq!(world.count("/users").await, 2, "nobody yet");
    world
        .as_admin("DELETE", &format!("/groups/{gone}"), Value::Null)
        .await;

    let accepted = world
        .control(
            "POST",
            &format!("/invitations/{invitation}/accept"),
            json!({}),
        )
        .await
        .body;
    let user = accepted["id"].as_str().unwrap();
    assert_eq!(world.count(&format!("/users/{user}/groups")).await, 1);
    assert_eq!(
        world
            .as_admin("GET", &format!("/users/{user}"), Value::Null)
            .await
            .body["name"],
        "new"
    );
    assert_eq!(
        world
            .call(
                accepted["token"].as_str().unwrap(),
                "GET",
                "/roles",
                Value::Null
            )
            .await
            .status,
        403
    );
    assert_eq!(
        world.as_admin("GET", &path, Value::Null).await.body["status"],
        "accepted"
    );
    assert_eq!(
        world.as_admin("DELETE", &path, Value::Null).await.code(),
        (409, "conflict")
    );
    let again = world
        .as_admin("POST", "/users", json!({ "email": "new@example.test" }))
        .await;
    assert_eq!(again.code(), (409, "conflict"), "{}", again.body);

    let second = world
        .make("users", json!({ "email": "other@example.test" }))
        .await;
    assert_eq!(
        world
            .as_admin("DELETE", &format!("/invitations/{second}"), Value::Null)
            .await
            .status,
        204
    );
    let late = world
        .control("POST", &format!("/invitations/{second}/accept"), json!({}))
        .await;
    assert_eq!(late.code(), (409, "conflict"));
    for (status, want) in [("pending", 0), ("accepted", 1), ("cancelled", 1)] {
        assert_eq!(
            world.count(&format!("/invitations?status={status}")).await,
            want,
            "{status}"
        );
    }
    let missing = json!({ "email": "x@example.test", "group_ids": [gone] });
    assert_eq!(
        world.as_admin("POST", "/users", missing).await.code(),
        (404, "not_found")
    );
    let removed = world
        .as_admin("DELETE", &format!("/users/{user}"), Value::Null)
        .await;
    assert_eq!(removed.status, 204);
    assert_eq!(world.count(&format!("/groups/{group}/users")).await, 0);
}

#[tokio::test]
async fn nobody_removes_itself() {
    let world = world().await;
    let admin = world.id("users", "admin").await;
    assert_eq!(
        world
            .as_admin("DELETE", &format!("/users/{admin}"), Value::Null)
            .await
            .code(),
        (409, "conflict")
    );
    let account = world.id("service-accounts", "ci-cd-pipeline").await;
    let admin_policy = world.id("policies", "AdministratorAccess").await;
    let path = format!("/service-accounts/{account}");
    world
        .as_admin(
            "POST",
            &format!("{path}/policies"),
            json!({ "policy_id": admin_policy }),
        )
        .await;
    let said = world
        .call(&world.token("ci-cd-pipeline"), "DELETE", &path, Value::Null)
        .await;
    assert_eq!(said.code(), (409, "conflict"));
    assert_eq!(
        world.as_admin("DELETE", &path, Value::Null).await.status,
        204
    );
    assert_eq!(
        world
            .count(&format!("/policies/{admin_policy}/service-accounts"))
            .await,
        0
    );
}

#[tokio::test]
async fn every_call_leaves_an_audit_entry_refused_ones_too() {
    let world = world().await;
    let (admin, dev) = (
        world.id("users", "admin").await,
        world.id("users", "dev").await,
    );
    let assumed = world.assume("dev", "S3ReadOnly", json!({})).await;
    let session = assumed.body["session"]["id"].as_str().unwrap();
    let token = assumed.body["credentials"]["session_token"]
        .as_str()
        .unwrap();
    let role = world.role("S3ReadOnly");
    let listed = world.call(token, "GET", "/roles", Value::Null).await;
    world.call(token, "GET", "/users", Value::Null).await;
    world.call("nobody", "GET", "/users", Value::Null).await;
    world
        .as_admin("GET", &format!("/roles/{admin}"), Value::Null)
        .await;
    let made = world.make("roles", json!({ "name": "Audited" })).await;
    world
        .as_admin("POST", "/roles", json!({ "name": "Audited" }))
        .await;

    let items = async |query: &str| {
        let said = world
            .as_admin(
                "GET",
                &format!("/audit-logs?limit=1000&{query}"),
                Value::Null,
            )
            .await;
        said.body["items"].as_array().unwrap().clone()
    };
    let of = async |query: &str| {
        let entries = items(query).await;
        entries
            .iter()
            .map(|entry| {
                format!(
                    "{} {}",
                    entry["action"].as_str().unwrap(),
                    entry["status"].as_str().unwrap()
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of(&format!("actor_id={dev}")).await,
        [
            "sts.assumeRole success",
            "iam.listRoles success",
            "iam.listUsers denied"
        ]
    );
    let entry = &items(&format!("actor_id={dev}&action=iam.listRoles")).await[0];
    assert_eq!(entry["session_id"], session);
    assert_eq!(entry["actor_type"], "user");
    assert_eq!(
        entry["request_id"],
        listed.headers["x-request-id"].to_str().unwrap()
    );
    assert_eq!(
        (&entry["resource_type"], &entry["resource_id"]),
        (&json!("role"), &Value::Null)
    );
    assert_eq!(entry["ip_address"], "127.0.0.1");
    let path = format!("/audit-logs/{}", entry["id"].as_str().unwrap());
    assert_eq!(&world.as_admin("GET", &path, Value::Null).await.body, entry);

    let started = &items("action=sts.*").await[0];
    assert_eq!(
        (&started["resource_id"], &started["session_id"]),
        (&json!(role), &Value::Null)
    );
    assert_eq!(
        started["details"]["session_id"], session,
        "the session that the call made"
    );

    let denied = items("status=denied&action=iam.listUsers").await;
    assert_eq!(
        (denied.len(), &denied[1]["actor_id"]),
        (2, &Value::Null),
        "nobody is known to have asked"
    );
    assert_eq!(denied[0]["details"]["code"], "access_denied");
    assert_eq!(
        of("status=error").await,
        ["iam.getRole error", "iam.createRole error"]
    );
    assert_eq!(
        of(&format!("resource_id={made}")).await,
        ["iam.createRole success"]
    );
    assert_eq!(
        items("resource_type=role&actor_type=service_account")
            .await
            .len(),
        0
    );
    assert_eq!(items("ip_address=192.0.2.1").await.len(), 0);

    // `from` is inclusive, `to` exclusive.
    let at = entry["timestamp"].as_str().unwrap();
    let everything = items("").await;
    let before = items(&format!("to={at}")).await;
    assert!(
        before
            .iter()
            .all(|each| each["timestamp"].as_str().unwrap() < at)
    );
    assert!(
        items(&format!("from={at}"))
            .await
            .iter()
            .any(|each| each["id"] == entry["id"])
    );
    assert!(before.len() < everything.len());
    let ids: Vec<_> = everything
        .iter()
        .map(|each| each["id"].as_str().unwrap())
        .collect();
    assert!(ids.is_sorted(), "oldest first");
}

#[tokio::test]
async fn a_call_that_fails_changes_nothing_and_is_noted_all_the_same() {
    let world = world().await;
    let account = world.id("service-accounts", "ci-cd-pipeline").await;
    world
        .assume("ci-cd-pipeline", "S3ReadOnly", json!({}))
        .await;
    // It would revoke the session before it found the description too long.
    let long = json!({ "enabled": false, "description": "x".repeat(1001) });
    let path = format!("/service-accounts/{account}");
    assert_eq!(
        world.as_admin("PATCH", &path, long).await.code(),
        (400, "invalid_request")
    );
    assert_eq!(
        world
            .count(&format!(
                "/sts/sessions?principal_id={account}&active_only=true"
            ))
            .await,
        1
    );
    assert_eq!(
        world
            .count("/audit-logs?action=iam.updateServiceAccount&status=error")
            .await,
        1
    );
    assert_eq!(
        world
            .as_admin("PATCH", &path, json!({ "enabled": false }))
            .await
            .status,
        200
    );
    assert_eq!(
        world
            .count(&format!(
                "/sts/sessions?principal_id={account}&active_only=true"
            ))
            .await,
        0
    );
}

#[tokio::test]
async fn parameters_of_a_wrong_form_are_refused() {
    let world = world().await;
    let uuid = "550e8400-e29b-41d4-a716-446655440000";
    let bad = [
        (
            "GET",
            "/roles/none".into(),
            Value::Null,
            "role_id: it must be a UUID",
        ),
        (
            "GET",
            "/roles?marker=x".into(),
            Value::Null,
            "marker: it must be a UUID",
        ),
        (
            "GET",
            "/audit-logs?from=yesterday".into(),
            Value::Null,
            "from: it must be a time",
        ),
        (
            "GET",
            "/audit-logs?status=odd".into(),
            Value::Null,
            "status: it must be one of success",
        ),
        (
            "GET",
            "/invitations?status=odd".into(),
            Value::Null,
            "status: it must be one of pending",
        ),
        (
            "GET",
            "/sts/sessions?principal_type=robot".into(),
            Value::Null,
            "principal_type: it must be one of user",
        ),
        (
            "POST",
            "/users".into(),
            json!({ "email": "no address" }),
            "email: it must be an e-mail address",
        ),
        (
            "POST",
            "/users".into(),
            json!({ "email": "a@b.test", "group_ids": ["x"] }),
            "group_ids: it must be up to",
        ),
        (
            "POST",
            "/users".into(),
            json!({ "email": "a@b.test", "group_ids": [uuid, uuid] }),
            "group_ids: it must be",
        ),
        (
            "POST",
            "/groups".into(),
            json!({ "name": "x", "description": null }),
            "description: it must be a string",
        ),
        (
            "DELETE",
            format!("/sts/sessions/{uuid}?reason={}", "x".repeat(1001)),
            Value::Null,
            "reason: it must be 1000",
        ),
    ];
    for (verb, path, body, want) in bad {
        let said = world.as_admin(verb, &path, body).await;
        assert_eq!(said.code(), (400, "invalid_request"), "{path}");
        assert!(
            said.body["error"]["message"]
                .as_str()
                .unwrap()
                .starts_with(want),
            "{}",
            said.body
        );
    }
    let said = world.as_admin("PUT", "/roles", json!({})).await;
    assert_eq!(
        (said.status, said.headers["allow"].to_str().unwrap()),
        (405, "GET, POST")
    );
}

#[tokio::test]
async fn groups_invitations_and_the_log_are_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options {
        data: Some(dir.path().join("iam.db")),
        ..Options::default()
    };
    let first = with(options()).await;
    let group = first.make("groups", json!({ "name": "developers" })).await;
    let (dev, policy) = (
        first.id("users", "dev").await,
        first.id("policies", "AdministratorAccess").await,
    );
    first
        .as_admin(
            "POST",
            &format!("/users/{dev}/groups"),
            json!({ "group_id": group }),
        )
        .await;
    first
        .as_admin(
            "POST",
            &format!("/groups/{group}/policies"),
            json!({ "policy_id": policy }),
        )
        .await;
    let invitation = first
        .make(
            "users",
            json!({ "email": "new@example.test", "group_ids": [group] }),
        )
        .await;
    let log = first.as_admin("GET", "/audit-logs", Value::Null).await.body;
    drop(first);
    let second = with(options()).await;
    assert_eq!(
        second
            .call(&second.token("dev"), "GET", "/groups", Value::Null)
            .await
            .body["items"][0]["id"],
        group
    );
    let accepted = second
        .control(
            "POST",
            &format!("/invitations/{invitation}/accept"),
            json!({}),
        )
        .await
        .body;
    assert_eq!(
        second
            .count(&format!(
                "/users/{}/groups",
                accepted["id"].as_str().unwrap()
            ))
            .await,
        1
    );
    let entries = second
        .as_admin("GET", "/audit-logs", Value::Null)
        .await
        .body;
    assert!(
        entries["items"]
            .as_array()
            .unwrap()
            .starts_with(log["items"].as_array().unwrap())
    );
}

#[tokio::test]
async fn a_data_file_of_another_version_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("iam.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 1)
        .unwrap();
    let error = start(Options {
        data: Some(path),
        ..Options::default()
    })
    .await
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is of version 1, which this sandbox does not read"),
        "{error}"
    );
}
