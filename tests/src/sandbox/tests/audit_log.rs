use serde_json::{Value, json};

use super::{Reply, World, world};

impl World {
    /// Entries of the audit log, oldest first.
    async fn entries(&self, query: &str) -> Vec<Value> {
        let reply = self.get(&format!("/audit-logs?limit=1000&{query}")).await;
        reply.items().to_vec()
    }

    /// Action and status of the entries.
    async fn outcomes(&self, query: &str) -> Vec<String> {
        let entries = self.entries(query).await;
        let outcome =
            |entry: &Value| format!("{} {}", text(entry, "action"), text(entry, "status"));

        entries.iter().map(outcome).collect()
    }
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry[key].as_str().unwrap()
}

/// `dev` assumes a role, and lists roles and users with the session. Returns the replies to the
/// first two calls.
async fn call_with_session(world: &World) -> (Reply, Reply) {
    let assumed = world.assume("dev", "S3ReadOnly").await;
    let token = assumed.text("/credentials/session_token");
    let listed = world.get_as(token, "/roles").await;
    let denied = world.get_as(token, "/users").await;
    assert_eq!(denied.status, 403);

    (assumed, listed)
}

#[tokio::test]
async fn calls_of_a_session_are_entries_of_its_principal() {
    let world = world().await;
    let (assumed, listed) = call_with_session(&world).await;
    let dev = world.id("users", "dev").await;

    assert_eq!(
        world.outcomes(&format!("actor_id={dev}")).await,
        [
            "sts.assumeRole success",
            "iam.listRoles success",
            "iam.listUsers denied"
        ]
    );

    let entry = &world
        .entries(&format!("actor_id={dev}&action=iam.listRoles"))
        .await[0];
    assert_eq!(entry["session_id"], assumed.text("/session/id"));
    assert_eq!(entry["actor_type"], "user");
    assert_eq!(
        entry["request_id"],
        listed.headers["x-request-id"].to_str().unwrap()
    );
    assert_eq!(entry["resource_type"], "role");
    assert_eq!(entry["resource_id"], Value::Null);
    assert_eq!(entry["ip_address"], "127.0.0.1");

    let path = format!("/audit-logs/{}", text(entry, "id"));
    assert_eq!(&world.get(&path).await.body, entry);
}

#[tokio::test]
async fn entry_of_assume_role_has_the_role_and_the_new_session() {
    let world = world().await;
    let (assumed, _) = call_with_session(&world).await;

    let entry = &world.entries("action=sts.*").await[0];
    assert_eq!(entry["resource_id"], world.role("S3ReadOnly"));
    assert_eq!(entry["session_id"], Value::Null);
    assert_eq!(entry["details"]["session_id"], assumed.text("/session/id"));
}

#[tokio::test]
async fn refused_and_failed_calls_have_entries() {
    let world = world().await;
    call_with_session(&world).await;
    world.get_as("unknown", "/users").await;
    let admin = world.id("users", "admin").await;
    world.get(&format!("/roles/{admin}")).await;
    let role = world.create("roles", json!({ "name": "Audited" })).await;
    world.post("/roles", json!({ "name": "Audited" })).await;

    let denied = world.entries("status=denied&action=iam.listUsers").await;
    assert_eq!(denied.len(), 2);
    assert_eq!(denied[0]["details"]["code"], "access_denied");
    assert_eq!(denied[1]["actor_id"], Value::Null, "an unknown token");

    assert_eq!(
        world.outcomes("status=error").await,
        ["iam.getRole error", "iam.createRole error"]
    );
    assert_eq!(
        world.outcomes(&format!("resource_id={role}")).await,
        ["iam.createRole success"]
    );
    let by_accounts = world
        .entries("resource_type=role&actor_type=service_account")
        .await;
    assert_eq!(by_accounts.len(), 0);
    assert_eq!(world.entries("ip_address=192.0.2.1").await.len(), 0);
}

#[tokio::test]
async fn entries_are_filtered_by_time_and_sorted() {
    let world = world().await;
    call_with_session(&world).await;
    let entry = &world.entries("action=iam.listRoles").await[0];
    let at = text(entry, "timestamp");

    let all = world.entries("").await;
    let before = world.entries(&format!("to={at}")).await;
    assert!(
        before.iter().all(|other| text(other, "timestamp") < at),
        "`to` is exclusive"
    );
    assert!(before.len() < all.len());

    let since = world.entries(&format!("from={at}")).await;
    assert!(
        since.iter().any(|other| other["id"] == entry["id"]),
        "`from` is inclusive"
    );

    let ids: Vec<_> = all.iter().map(|entry| text(entry, "id")).collect();
    assert!(ids.is_sorted(), "oldest first");
}

#[tokio::test]
async fn refused_call_has_no_effect_but_an_entry() {
    let world = world().await;
    let account = world.id("service-accounts", "ci-cd-pipeline").await;
    world.assume("ci-cd-pipeline", "S3ReadOnly").await;
    let path = format!("/service-accounts/{account}");
    let active = format!("/sts/sessions?principal_id={account}&active_only=true");

    // The description is too long.
    let body = json!({ "enabled": false, "description": "x".repeat(1001) });
    assert_eq!(
        world.patch(&path, body).await.code(),
        (400, "invalid_request")
    );
    assert_eq!(world.count(&active).await, 1);
    let entries = world
        .entries("action=iam.updateServiceAccount&status=error")
        .await;
    assert_eq!(entries.len(), 1);

    let disabled = world.patch(&path, json!({ "enabled": false })).await;
    assert_eq!(disabled.status, 200);
    assert_eq!(world.count(&active).await, 0);
}
