//! What the methods mean, over real HTTP.

use std::time::Duration;

use reqwest::Method;

use super::*;

/// A sandbox and a client of it.
struct World {
    sandbox: Sandbox,
    http: reqwest::Client,
}

struct Said {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Said {
    fn code(&self) -> (u16, &str) {
        (
            self.status,
            self.body["error"]["code"].as_str().unwrap_or(""),
        )
    }
}

async fn world() -> World {
    with(Options::default()).await
}

async fn with(options: Options) -> World {
    let sandbox = start(options).await.unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    World {
        sandbox,
        http: reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .unwrap(),
    }
}

impl World {
    fn token(&self, name: &str) -> String {
        self.sandbox.ready["tokens"][name].as_str().unwrap().into()
    }

    fn role(&self, name: &str) -> &str {
        self.sandbox.ready["roles"][name].as_str().unwrap()
    }

    async fn as_admin(&self, verb: &str, path: &str, body: Value) -> Said {
        self.call(&self.token("admin"), verb, path, body).await
    }

    async fn call(&self, token: &str, verb: &str, path: &str, body: Value) -> Said {
        let url = format!(
            "{}/iam/v1{path}",
            self.sandbox.ready["endpoint"].as_str().unwrap()
        );
        let mut request = self
            .http
            .request(verb.parse::<Method>().unwrap(), url)
            .bearer_auth(token);
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null);
        Said {
            status,
            headers,
            body,
        }
    }

    async fn control(&self, verb: &str, path: &str, body: Value) -> Said {
        let url = format!("{}{path}", self.sandbox.ready["control"].as_str().unwrap());
        let response = self
            .http
            .request(verb.parse::<Method>().unwrap(), url)
            .json(&body)
            .send()
            .await
            .unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Said {
            status,
            headers,
            body: response.json().await.unwrap(),
        }
    }

    async fn assume(&self, who: &str, role: &str, body: Value) -> Said {
        self.call(
            &self.token(who),
            "POST",
            &format!("/roles/{}/assume", self.role(role)),
            body,
        )
        .await
    }

    async fn advance(&self, seconds: i64) {
        assert_eq!(
            self.control("POST", "/clock", json!({ "advance_seconds": seconds }))
                .await
                .status,
            200
        );
    }

    /// The id of the one item of a kind with this name.
    async fn id(&self, collection: &str, name: &str) -> String {
        let said = self
            .as_admin("GET", &format!("/{collection}?name={name}"), Value::Null)
            .await;
        said.body["items"][0]["id"].as_str().unwrap().into()
    }
}

#[tokio::test]
async fn a_role_is_assumed_by_whom_it_trusts_and_whose_policies_allow_it() {
    let world = world().await;
    assert_eq!(
        world.assume("dev", "S3ReadOnly", json!({})).await.status,
        201
    );
    assert_eq!(
        world
            .assume("ci-cd-pipeline", "S3ReadOnly", json!({}))
            .await
            .status,
        201
    );
    assert_eq!(
        world
            .assume("ci-cd-pipeline", "S3BucketAccess", json!({}))
            .await
            .code(),
        (403, "trust_policy_denied")
    );
    assert_eq!(
        world.assume("dev", "NoTrust", json!({})).await.code(),
        (403, "trust_policy_denied")
    );
    assert_eq!(
        world.assume("dev", "NotAllowed", json!({})).await.code(),
        (403, "access_denied")
    );
    let created = world
        .as_admin("POST", "/roles", json!({ "name": "Bare" }))
        .await;
    let path = format!("/roles/{}/assume", created.body["id"].as_str().unwrap());
    assert_eq!(
        world.as_admin("POST", &path, json!({})).await.code(),
        (403, "trust_policy_denied"),
        "trusts nobody"
    );
    let path = "/roles/019aaaaa-0000-7000-8000-000000000000/assume";
    assert_eq!(
        world.as_admin("POST", path, json!({})).await.code(),
        (404, "not_found")
    );
}

#[tokio::test]
async fn a_session_has_the_length_that_was_asked_for_within_the_limits() {
    let world = world().await;
    let length = |said: &Said| {
        let time = |field: &str| {
            said.body["session"][field]
                .as_str()
                .unwrap()
                .parse::<jiff::Timestamp>()
                .unwrap()
        };
        time("expires_at")
            .duration_since(time("issued_at"))
            .as_secs()
    };
    assert_eq!(
        length(&world.assume("dev", "S3ReadOnly", json!({})).await),
        3600
    );
    for seconds in [900, 43_200] {
        let said = world
            .assume("dev", "S3ReadOnly", json!({ "duration_seconds": seconds }))
            .await;
        assert_eq!(length(&said), seconds);
        assert_eq!(
            said.body["credentials"]["expires_at"],
            said.body["session"]["expires_at"]
        );
    }
    for wrong in [
        json!(899),
        json!(43_201),
        json!(-1),
        json!("900"),
        json!(900.5),
    ] {
        let said = world
            .assume("dev", "S3ReadOnly", json!({ "duration_seconds": wrong }))
            .await;
        assert_eq!(said.code(), (400, "invalid_request"));
        assert!(
            said.body["error"]["message"]
                .as_str()
                .unwrap()
                .starts_with("duration_seconds: ")
        );
    }
    world
        .control("POST", "/limits", json!({ "max_session_seconds": 31 }))
        .await;
    assert_eq!(
        length(&world.assume("dev", "S3ReadOnly", json!({})).await),
        31
    );
}

#[tokio::test]
async fn a_session_acts_as_its_role_until_it_expires_or_is_revoked() {
    let world = world().await;
    let session = |said: &Said| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&said.body["session"]["id"]),
            text(&said.body["credentials"]["session_token"]),
        )
    };
    let (first, first_token) = session(&world.assume("dev", "S3ReadOnly", json!({})).await);
    assert_eq!(
        world
            .call(&first_token, "GET", "/roles", Value::Null)
            .await
            .status,
        200,
        "the role may list roles"
    );
    assert_eq!(
        world
            .call(&first_token, "GET", "/users", Value::Null)
            .await
            .code(),
        (403, "access_denied")
    );

    let path = format!("/sts/sessions/{first}?reason=lost%20laptop");
    assert_eq!(
        world.as_admin("DELETE", &path, Value::Null).await.status,
        204
    );
    assert_eq!(
        world
            .call(&first_token, "GET", "/roles", Value::Null)
            .await
            .code(),
        (401, "session_revoked")
    );
    let seen = world
        .as_admin("GET", &format!("/sts/sessions/{first}"), Value::Null)
        .await
        .body;
    assert_eq!(
        (&seen["status"], &seen["revoke_reason"]),
        (&json!("revoked"), &json!("lost laptop"))
    );
    assert_eq!(seen["revoked_by"], world.id("users", "admin").await);

    let (third, third_token) = session(&world.assume("dev", "S3ReadOnly", json!({})).await);
    let (fourth, _) = session(&world.assume("dev", "S3ReadOnly", json!({})).await);
    for (verb, id, want) in [
        ("GET", &third, 200),
        ("GET", &fourth, 403),
        ("DELETE", &fourth, 403),
        ("DELETE", &third, 204),
    ] {
        let said = world
            .call(
                &third_token,
                verb,
                &format!("/sts/sessions/{id}"),
                Value::Null,
            )
            .await;
        assert_eq!(
            said.status, want,
            "a session has a say over itself only: {verb}"
        );
    }

    let (second, second_token) = session(&world.assume("dev", "S3ReadOnly", json!({})).await);
    world.advance(3599).await;
    assert_eq!(
        world
            .call(&second_token, "GET", "/roles", Value::Null)
            .await
            .status,
        200
    );
    world.advance(1).await;
    assert_eq!(
        world
            .call(&second_token, "GET", "/roles", Value::Null)
            .await
            .code(),
        (401, "token_expired")
    );
    let seen = world
        .as_admin("GET", &format!("/sts/sessions/{second}"), Value::Null)
        .await
        .body;
    assert_eq!(seen["status"], "expired");
}

#[tokio::test]
async fn sessions_are_listed_by_role_principal_and_activity_and_ones_own_without_a_policy() {
    let world = world().await;
    for role in ["S3ReadOnly", "S3BucketAccess", "S3ReadOnly"] {
        world.assume("dev", role, json!({})).await;
    }
    let revoked = world
        .assume("ci-cd-pipeline", "S3ReadOnly", json!({}))
        .await
        .body["session"]["id"]
        .clone();
    let path = format!("/sts/sessions/{}", revoked.as_str().unwrap());
    let ci = world.token("ci-cd-pipeline");
    assert_eq!(
        world.call(&ci, "DELETE", &path, Value::Null).await.status,
        204,
        "one's own"
    );
    let count = async |query: &str| {
        let said = world
            .as_admin("GET", &format!("/sts/sessions{query}"), Value::Null)
            .await;
        said.body["items"].as_array().unwrap().len()
    };
    let role = world.role("S3ReadOnly");
    let dev = world.id("users", "dev").await;
    assert_eq!(count("").await, 4);
    assert_eq!(count("?active_only=true").await, 3);
    assert_eq!(count("?active_only=false").await, 4);
    assert_eq!(count(&format!("?role_id={role}")).await, 3);
    assert_eq!(
        count(&format!(
            "?role_id={role}&principal_id={dev}&active_only=true"
        ))
        .await,
        2
    );
    assert_eq!(count("?principal_type=service_account").await, 1);
    let own = format!("/sts/sessions?principal_id={dev}");
    assert_eq!(
        world
            .call(&world.token("dev"), "GET", &own, Value::Null)
            .await
            .status,
        200
    );
    assert_eq!(
        world.call(&ci, "GET", &own, Value::Null).await.code(),
        (403, "access_denied")
    );
    assert_eq!(
        world
            .call(&ci, "GET", "/sts/sessions", Value::Null)
            .await
            .code(),
        (403, "access_denied")
    );
}

#[tokio::test]
async fn every_kind_of_bad_token_has_its_code() {
    let world = world().await;
    for token in ["", "nonsense"] {
        assert_eq!(
            world.call(token, "GET", "/roles", Value::Null).await.code(),
            (401, "invalid_token")
        );
    }
    let account = world.id("service-accounts", "ci-cd-pipeline").await;
    let path = format!("/service-accounts/{account}/credentials");
    let end = (jiff::Timestamp::now() + Duration::from_secs(60)).to_string();
    let made = world
        .as_admin("POST", &path, json!({ "name": "short", "expires_at": end }))
        .await;
    let (id, secret) = (
        made.body["id"].as_str().unwrap(),
        made.body["secret"].as_str().unwrap(),
    );
    let list = world.as_admin("GET", &path, Value::Null).await.body;
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    assert!(
        !list.to_string().contains(secret),
        "A14: in the reply that creates it, and nowhere else"
    );

    assert_eq!(
        world
            .call(secret, "GET", "/roles", Value::Null)
            .await
            .status,
        200
    );
    world.advance(61).await;
    assert_eq!(
        world
            .call(secret, "GET", "/roles", Value::Null)
            .await
            .code(),
        (401, "token_expired")
    );
    assert_eq!(
        world
            .as_admin("DELETE", &format!("{path}/{id}"), Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(
        world
            .call(secret, "GET", "/roles", Value::Null)
            .await
            .code(),
        (401, "invalid_token")
    );
    for wrong in ["yesterday", "2020-01-01T00:00:00Z"] {
        let said = world
            .as_admin("POST", &path, json!({ "name": "x", "expires_at": wrong }))
            .await;
        assert_eq!(said.code(), (400, "invalid_request"));
    }
}

#[tokio::test]
async fn disabling_or_deleting_a_service_account_ends_its_token_and_its_sessions() {
    let world = world().await;
    let ci = world.token("ci-cd-pipeline");
    let token = world
        .assume("ci-cd-pipeline", "S3ReadOnly", json!({}))
        .await
        .body["credentials"]["session_token"]
        .clone();
    let path = format!(
        "/service-accounts/{}",
        world.id("service-accounts", "ci-cd-pipeline").await
    );
    assert_eq!(
        world
            .as_admin("PATCH", &path, json!({ "enabled": false }))
            .await
            .body["enabled"],
        false
    );
    assert_eq!(
        world.call(&ci, "GET", "/roles", Value::Null).await.code(),
        (401, "principal_disabled")
    );
    let session = world
        .call(token.as_str().unwrap(), "GET", "/roles", Value::Null)
        .await;
    assert_eq!(session.code(), (401, "session_revoked"));
    world
        .as_admin("PATCH", &path, json!({ "enabled": true }))
        .await;
    assert_eq!(
        world.call(&ci, "GET", "/roles", Value::Null).await.status,
        200
    );
    assert_eq!(
        world.as_admin("DELETE", &path, Value::Null).await.status,
        204
    );
    assert_eq!(
        world.call(&ci, "GET", "/roles", Value::Null).await.code(),
        (401, "invalid_token")
    );
}

#[tokio::test]
async fn policies_take_effect_when_attached_and_end_when_detached_and_cannot_be_deleted_between() {
    let world = world().await;
    let admin_policy = world.id("policies", "AdministratorAccess").await;
    for (collection, name, token) in [
        ("users", "dev", world.token("dev")),
        (
            "service-accounts",
            "ci-cd-pipeline",
            world.token("ci-cd-pipeline"),
        ),
    ] {
        let path = format!(
            "/{collection}/{}/policies",
            world.id(collection, name).await
        );
        let may_create = async |role: String| {
            world
                .call(&token, "POST", "/roles", json!({ "name": role }))
                .await
                .status
        };
        assert_eq!(may_create(format!("{name}1")).await, 403);
        for _ in 0..2 {
            assert_eq!(
                world
                    .as_admin("POST", &path, json!({ "policy_id": admin_policy }))
                    .await
                    .status,
                204
            );
        }
        assert_eq!(
            world.as_admin("GET", &path, Value::Null).await.body["items"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        assert_eq!(may_create(format!("{name}2")).await, 201);
        let used = world
            .as_admin("DELETE", &format!("/policies/{admin_policy}"), Value::Null)
            .await;
        assert_eq!(used.code(), (409, "in_use"));
        let holders = world
            .as_admin(
                "GET",
                &format!("/policies/{admin_policy}/{collection}"),
                Value::Null,
            )
            .await
            .body;
        assert!(holders.to_string().contains(name));
        let one = format!("{path}/{admin_policy}");
        assert_eq!(
            world.as_admin("DELETE", &one, Value::Null).await.status,
            204
        );
        assert_eq!(
            world.as_admin("DELETE", &one, Value::Null).await.code(),
            (404, "not_found")
        );
        assert_eq!(may_create(format!("{name}3")).await, 403);
    }
}

#[tokio::test]
async fn roles_and_policies_are_made_changed_and_deleted_and_conflicts_are_refused() {
    let world = world().await;
    let document = json!({ "version": "2024-01-01", "statements": [{ "effect": "allow", "actions": ["s3:*"] }] });
    let trust = json!({ "version": "2024-01-01", "statements": [{ "effect": "allow", "principals": ["*"] }] });
    for (collection, body, change) in [
        (
            "roles",
            json!({ "name": "New", "trust_policy": trust }),
            json!({ "description": "changed" }),
        ),
        (
            "policies",
            json!({ "name": "New", "document": document }),
            json!({ "name": "Newer" }),
        ),
    ] {
        let made = world
            .as_admin("POST", &format!("/{collection}"), body.clone())
            .await;
        assert_eq!(made.status, 201, "{}", made.body);
        assert_eq!(
            world
                .as_admin("POST", &format!("/{collection}"), body)
                .await
                .code(),
            (409, "conflict")
        );
        let path = format!("/{collection}/{}", made.body["id"].as_str().unwrap());
        assert_eq!(
            world.as_admin("GET", &path, Value::Null).await.body,
            made.body
        );
        let changed = world.as_admin("PATCH", &path, change.clone()).await.body;
        let (key, value) = change.as_object().unwrap().iter().next().unwrap();
        assert_eq!(&changed[key], value);
        assert_eq!(
            world.as_admin("DELETE", &path, Value::Null).await.status,
            204
        );
        for (verb, body) in [
            ("GET", Value::Null),
            ("PATCH", change),
            ("DELETE", Value::Null),
        ] {
            assert_eq!(
                world.as_admin(verb, &path, body).await.code(),
                (404, "not_found")
            );
        }
    }
    let role = format!("/roles/{}", world.role("S3ReadOnly"));
    assert_eq!(
        world.as_admin("DELETE", &role, Value::Null).await.code(),
        (409, "in_use"),
        "a policy is attached"
    );
    let bare = world.role("NotAllowed").to_owned();
    world
        .as_admin("POST", &format!("/roles/{bare}/assume"), json!({}))
        .await;
    let bare = format!("/roles/{bare}");
    assert_eq!(
        world.as_admin("DELETE", &bare, Value::Null).await.code(),
        (409, "in_use"),
        "a session is active"
    );
    world.advance(3601).await;
    assert_eq!(
        world.as_admin("DELETE", &bare, Value::Null).await.status,
        204
    );
}

#[tokio::test]
async fn bad_input_is_refused_with_the_parameter_that_is_wrong() {
    let world = world().await;
    let cases = [
        ("POST", "/roles", json!({}), "name: it is required"),
        (
            "POST",
            "/roles",
            json!({ "name": 5 }),
            "name: it must be a string",
        ),
        (
            "POST",
            "/roles",
            json!({ "name": "x", "colour": "red" }),
            "colour: createRole has no such parameter",
        ),
        (
            "POST",
            "/roles",
            json!({ "name": "x*" }),
            "name: 1 to 128 letters",
        ),
        (
            "POST",
            "/roles",
            json!({ "name": "x", "trust_policy": {} }),
            "trust_policy: missing field",
        ),
        (
            "POST",
            "/roles",
            json!([1]),
            "the body is not a JSON object",
        ),
        (
            "POST",
            "/roles?name=x",
            json!({ "name": "x" }),
            "belong into the body",
        ),
        (
            "POST",
            "/policies",
            json!({ "name": "x", "document": "text" }),
            "document: it must be an object",
        ),
        (
            "GET",
            "/roles?limit=0",
            Value::Null,
            "limit: 0 is not from 1 to 1000",
        ),
        ("GET", "/roles?limit=1001", Value::Null, "limit: 1001"),
        (
            "GET",
            "/roles?limit=ten",
            Value::Null,
            "limit: it must be an integer",
        ),
        (
            "GET",
            "/roles?limit=1&limit=2",
            Value::Null,
            "limit: it is given twice",
        ),
        (
            "GET",
            "/sts/sessions?active_only=1",
            Value::Null,
            "active_only: it must be true or false",
        ),
        (
            "GET",
            "/roles?shape=round",
            Value::Null,
            "shape: listRoles has no such parameter",
        ),
    ];
    for (verb, path, body, want) in cases {
        let said = world.as_admin(verb, path, body).await;
        assert_eq!(said.code(), (400, "invalid_request"), "{verb} {path}");
        assert!(
            said.body["error"]["message"]
                .as_str()
                .unwrap()
                .contains(want),
            "{want}: {}",
            said.body
        );
        assert!(said.headers.contains_key("x-request-id") && said.headers.contains_key("date"));
    }
    assert_eq!(
        world.as_admin("GET", "/nothing", Value::Null).await.status,
        404
    );
    assert_eq!(
        world.as_admin("DELETE", "/roles", Value::Null).await.status,
        405
    );
    let large = json!({ "name": "x".repeat(2 << 20) });
    assert_eq!(
        world.as_admin("POST", "/roles", large).await.code(),
        (400, "invalid_request")
    );
}

#[tokio::test]
async fn pages_follow_one_another_while_items_come_and_go() {
    let world = world().await;
    let make = async |name: String| {
        let said = world
            .as_admin("POST", "/roles", json!({ "name": name }))
            .await;
        said.body["id"].as_str().unwrap().to_owned()
    };
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(make(format!("Page{number}")).await);
    }
    let page = async |query: String| {
        world
            .as_admin(
                "GET",
                &format!("/roles?name=Page*&limit=4{query}"),
                Value::Null,
            )
            .await
    };
    let first = page(String::new()).await.body;
    assert_eq!(first["items"].as_array().unwrap().len(), 4);
    let marker = first["next_marker"].as_str().unwrap();
    assert_eq!(marker, ids[3]);
    // What the marker names may be gone by the time it is used.
    assert_eq!(
        world
            .as_admin("DELETE", &format!("/roles/{marker}"), Value::Null)
            .await
            .status,
        204
    );
    ids.push(make("Page10".into()).await);
    let second = page(format!("&marker={marker}")).await.body;
    let third = page(format!(
        "&marker={}",
        second["next_marker"].as_str().unwrap()
    ))
    .await
    .body;
    assert!(third["next_marker"].is_null());
    let seen: Vec<_> = [&first, &second, &third]
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|item| item["id"].as_str().unwrap())
        .collect();
    assert_eq!(seen, ids);
    assert_eq!(
        world
            .as_admin("GET", "/roles?name=page*", Value::Null)
            .await
            .body["items"],
        json!([]),
        "case counts"
    );
    let exact = world
        .as_admin("GET", "/roles?name=Page1", Value::Null)
        .await
        .body;
    assert_eq!(exact["items"].as_array().unwrap().len(), 1, "not Page10");
}

#[tokio::test]
async fn a_removed_user_is_gone_with_tokens_and_sessions() {
    let world = world().await;
    let user = world
        .control("POST", "/users", json!({ "email": "new@example.test" }))
        .await
        .body;
    let token = user["token"].as_str().unwrap();
    assert_eq!(
        world.call(token, "GET", "/roles", Value::Null).await.code(),
        (403, "access_denied"),
        "no policy yet"
    );
    let path = format!("/users/{}", user["id"].as_str().unwrap());
    assert_eq!(
        world.as_admin("GET", &path, Value::Null).await.body["email"],
        "new@example.test"
    );
    assert_eq!(
        world.as_admin("DELETE", &path, Value::Null).await.status,
        204
    );
    assert_eq!(
        world.call(token, "GET", "/roles", Value::Null).await.code(),
        (401, "invalid_token")
    );
    assert_eq!(
        world.as_admin("GET", &path, Value::Null).await.code(),
        (404, "not_found")
    );
}

#[tokio::test]
async fn what_was_stored_in_a_file_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options {
        data: Some(dir.path().join("iam.db")),
        ..Options::default()
    };
    let first = with(options()).await;
    let role = first
        .as_admin("POST", "/roles", json!({ "name": "Kept" }))
        .await
        .body;
    let token =
        first.assume("dev", "S3ReadOnly", json!({})).await.body["credentials"]["session_token"]
            .clone();
    let ready = first.sandbox.ready.clone();
    drop(first);
    let second = with(options()).await;
    assert_eq!(
        (
            &second.sandbox.ready["tokens"],
            &second.sandbox.ready["roles"]
        ),
        (&ready["tokens"], &ready["roles"])
    );
    let path = format!("/roles/{}", role["id"].as_str().unwrap());
    assert_eq!(second.as_admin("GET", &path, Value::Null).await.body, role);
    assert_eq!(
        second
            .call(token.as_str().unwrap(), "GET", "/roles", Value::Null)
            .await
            .status,
        200
    );
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(dir.path().join("iam.db"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_bad_start_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = dir.path().join("fixture.json");
    std::fs::write(
        &fixture,
        r#"{"organization":"o","users":[{"name":"a","email":"a@example.test","policies":["P"]}]}"#,
    )
    .unwrap();
    let cases = [
        (
            Options {
                listen: "192.0.2.1:0".parse().unwrap(),
                ..Options::default()
            },
            "not a loopback address",
        ),
        (
            Options {
                s3: "192.0.2.1:0".parse().unwrap(),
                ..Options::default()
            },
            "not a loopback address",
        ),
        (
            Options {
                data: Some(dir.path().into()),
                ..Options::default()
            },
            "the data file",
        ),
        (
            Options {
                fixture: Some(fixture),
                ..Options::default()
            },
            "there is no policy P",
        ),
        (
            Options {
                fixture: Some("/nonexistent".into()),
                ..Options::default()
            },
            "/nonexistent",
        ),
    ];
    for (options, want) in cases {
        let error = start(options).await.unwrap_err();
        assert!(
            error.to_string().contains(want) && !error.hint().is_empty(),
            "{error}"
        );
    }
}

mod faults;
mod organisation;
mod s3;
mod s3_client;
mod s3_refusals;
mod sigv4;
