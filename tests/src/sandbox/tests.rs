//! Tests of the sandbox over HTTP, by feature.

mod audit_log;
mod auth_params;
mod aws_client;
mod aws_control;
mod aws_iam;
mod aws_mfa;
mod aws_roles;
mod aws_signatures;
mod aws_sts;
mod call_log;
mod control;
mod faults;
mod groups;
mod input;
mod invitations;
mod pagination;
mod policies;
mod s3;
mod s3_aws;
mod s3_chunked;
mod s3_client;
mod s3_list;
mod s3_sessions;
mod s3_signatures;
mod sessions;
mod sigv4;
mod start;
mod storage;
mod sts;
mod tokens;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::{Options, Sandbox, start};

/// A sandbox and a client. Calls without a token are the administrator's.
struct World {
    sandbox: Sandbox,
    http: reqwest::Client,
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    /// The status and the error code, which is empty for a success.
    fn code(&self) -> (u16, &str) {
        let code = self.body["error"]["code"].as_str().unwrap_or("");
        (self.status, code)
    }

    fn message(&self) -> &str {
        self.text("/error/message")
    }

    /// A text in the body, by JSON pointer.
    fn text(&self, pointer: &str) -> &str {
        let value = self.body.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no {pointer} in {}", self.body))
    }

    fn items(&self) -> &[Value] {
        let items = self.body["items"].as_array();
        items.unwrap_or_else(|| panic!("no items in {}", self.body))
    }
}

async fn world() -> World {
    World::start(Options::default()).await
}

impl World {
    async fn start(options: Options) -> Self {
        let sandbox = start(options).await.unwrap();
        // An error means that another test has installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .unwrap();

        Self { sandbox, http }
    }

    fn ready(&self, name: &str) -> &str {
        self.sandbox.ready[name].as_str().unwrap()
    }

    fn token(&self, principal: &str) -> &str {
        self.sandbox.ready["tokens"][principal].as_str().unwrap()
    }

    fn role(&self, name: &str) -> &str {
        self.sandbox.ready["roles"][name].as_str().unwrap()
    }

    async fn get(&self, path: &str) -> Reply {
        self.get_as(self.token("admin"), path).await
    }

    async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(self.token("admin"), "POST", path, Some(body))
            .await
    }

    async fn patch(&self, path: &str, body: Value) -> Reply {
        self.call(self.token("admin"), "PATCH", path, Some(body))
            .await
    }

    async fn delete(&self, path: &str) -> Reply {
        self.call(self.token("admin"), "DELETE", path, None).await
    }

    async fn get_as(&self, token: &str, path: &str) -> Reply {
        self.call(token, "GET", path, None).await
    }

    async fn call(&self, token: &str, verb: &str, path: &str, body: Option<Value>) -> Reply {
        let url = format!("{}/iam/v1{path}", self.ready("endpoint"));
        let request = self
            .http
            .request(verb.parse().unwrap(), url)
            .bearer_auth(token);

        send(request, body).await
    }

    async fn control(&self, verb: &str, path: &str, body: Option<Value>) -> Reply {
        let url = format!("{}{path}", self.ready("control"));

        send(self.http.request(verb.parse().unwrap(), url), body).await
    }

    async fn assume(&self, principal: &str, role: &str) -> Reply {
        self.assume_with(principal, role, json!({})).await
    }

    async fn assume_with(&self, principal: &str, role: &str, body: Value) -> Reply {
        let path = format!("/roles/{}/assume", self.role(role));

        self.call(self.token(principal), "POST", &path, Some(body))
            .await
    }

    async fn advance_clock(&self, seconds: i64) {
        let body = json!({ "advance_seconds": seconds });
        let reply = self.control("POST", "/clock", Some(body)).await;
        assert_eq!(reply.status, 200);
    }

    async fn limit_sessions(&self, seconds: u32) {
        let body = json!({ "max_session_seconds": seconds });
        let reply = self.control("POST", "/limits", Some(body)).await;
        assert_eq!(reply.status, 200);
    }

    /// The id of the first resource with a name.
    async fn id(&self, collection: &str, name: &str) -> String {
        let reply = self.get(&format!("/{collection}?name={name}")).await;

        reply.text("/items/0/id").into()
    }

    /// Creates a resource and returns its id.
    async fn create(&self, collection: &str, body: Value) -> String {
        let reply = self.post(&format!("/{collection}"), body).await;
        assert_eq!(reply.status, 201, "{}", reply.body);

        reply.text("/id").into()
    }

    /// Attaches a policy to an owner such as `/users/ID`.
    async fn attach(&self, owner: &str, policy: &str) {
        let reply = self
            .post(&format!("{owner}/policies"), json!({ "policy_id": policy }))
            .await;
        assert_eq!(reply.status, 204);
    }

    /// Adds a member such as `/users/ID` to a group.
    async fn join(&self, member: &str, group: &str) {
        let reply = self
            .post(&format!("{member}/groups"), json!({ "group_id": group }))
            .await;
        assert_eq!(reply.status, 204);
    }

    /// The number of items of a list.
    async fn count(&self, path: &str) -> usize {
        let reply = self.get(path).await;
        assert_eq!(reply.status, 200, "{}", reply.body);

        reply.items().len()
    }
}

async fn send(request: reqwest::RequestBuilder, body: Option<Value>) -> Reply {
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let text = response.text().await.unwrap();

    Reply {
        status,
        headers,
        body: serde_json::from_str(&text).unwrap_or(Value::Null),
    }
}
