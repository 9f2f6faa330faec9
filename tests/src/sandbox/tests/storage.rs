//! Data in a file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use super::s3_client::draft;
use super::{Options, World, start};

fn options(folder: &Path) -> Options {
    Options {
        data: Some(folder.join("iam.db")),
        ..Options::default()
    }
}

#[tokio::test]
async fn roles_sessions_and_tokens_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = World::start(options(folder.path())).await;
    let role = first.post("/roles", json!({ "name": "Kept" })).await.body;
    let assumed = first.assume("dev", "S3ReadOnly").await;
    let ready = first.sandbox.ready.clone();
    drop(first);

    let second = World::start(options(folder.path())).await;
    assert_eq!(second.sandbox.ready["tokens"], ready["tokens"]);
    assert_eq!(second.sandbox.ready["roles"], ready["roles"]);

    let path = format!("/roles/{}", role["id"].as_str().unwrap());
    assert_eq!(second.get(&path).await.body, role);

    let token = assumed.text("/credentials/session_token");
    assert_eq!(second.get_as(token, "/roles").await.status, 200);
}

#[tokio::test]
async fn groups_invitations_and_audit_log_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = World::start(options(folder.path())).await;
    let group = first
        .create("groups", json!({ "name": "developers" }))
        .await;
    let dev = first.id("users", "dev").await;
    let policy = first.id("policies", "AdministratorAccess").await;
    first.join(&format!("/users/{dev}"), &group).await;
    first.attach(&format!("/groups/{group}"), &policy).await;
    let body = json!({ "email": "new@example.test", "group_ids": [group] });
    let invitation = first.create("users", body).await;
    let log = first.get("/audit-logs").await;
    drop(first);

    let second = World::start(options(folder.path())).await;
    let groups = second.get_as(second.token("dev"), "/groups").await;
    assert_eq!(groups.text("/items/0/id"), group);

    let path = format!("/invitations/{invitation}/accept");
    let accepted = second.control("POST", &path, Some(json!({}))).await;
    let groups = format!("/users/{}/groups", accepted.text("/id"));
    assert_eq!(second.count(&groups).await, 1);

    let entries = second.get("/audit-logs").await;
    assert!(entries.items().starts_with(log.items()));
}

#[tokio::test]
async fn objects_and_access_keys_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = World::start(options(folder.path())).await;
    let keys = first.create_bucket().await;
    first.s3(&keys, draft("PUT", "/proof/kept", "here")).await;
    drop(first);

    let second = World::start(options(folder.path())).await;
    let object = second.s3(&keys, draft("GET", "/proof/kept", "")).await;
    assert_eq!(object.body, "here");
}

#[tokio::test]
async fn data_file_has_mode_600() {
    let folder = tempfile::tempdir().unwrap();
    let _world = World::start(options(folder.path())).await;

    let metadata = std::fs::metadata(folder.path().join("iam.db")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn data_file_of_another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let connection = rusqlite::Connection::open(options.data.as_ref().unwrap()).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    drop(connection);

    let error = start(options.clone()).await.unwrap_err();
    assert!(
        error.to_string().contains("has schema version 1"),
        "{error}"
    );

    let connection = rusqlite::Connection::open(options.data.unwrap()).unwrap();
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0));
    assert_eq!(version, Ok(1), "the file is unchanged");
}
