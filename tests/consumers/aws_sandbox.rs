//! The sandbox's AWS and ministack, a server of other authors, give the same answers to the same calls of botocore.

use rolekeeper_tests::harness::{Home, SandboxProcess};
use serde_json::{Value, json};

use super::aws_sandbox_calls::{Client, Keys, credentials, user_keys};
use super::ministack::{ACCOUNT, Ministack};

/// A step, and what the server answered: status, code, and the beginning of the message.
type Outcome = (&'static str, u64, String, String);

/// Steps whose texts differ, and why. Their statuses and codes are the same.
const OTHER_TEXTS: [(&str, &str); 6] = [
    (
        "without permission",
        "AWS gives no reason why a role cannot be assumed",
    ),
    ("unknown role", "ministack does not name the caller"),
    (
        "denied by a session policy",
        "ministack names the wrong kind of policy",
    ),
    (
        "not in the session policy",
        "ministack names the wrong kind of policy",
    ),
    (
        "malformed session policy",
        "ministack has a text of its own",
    ),
    ("get an unknown role", "ministack has a text of its own"),
];

/// A server with the users `ada` (everything) and `ben` (nothing) and the roles of [`story`].
struct Server {
    client: Client,
    ada: Keys,
    ben: Keys,
}

impl Server {
    fn sandbox(home: &Home, sandbox: &SandboxProcess) -> Self {
        Self {
            client: Client::new(home, sandbox.aws()),
            ada: user_keys(sandbox, "ada"),
            ben: user_keys(sandbox, "ben"),
        }
    }

    /// Creates the users and roles of the sandbox's fixture as the root user.
    fn ministack(home: &Home, ministack: &Ministack) -> Self {
        let mut client = Client::new(home, &ministack.url);
        let root = [json!("test"), json!("test"), Value::Null];
        let mut call = |method: &str, params: Value| {
            let mut result = client.iam(&root, method, params);
            assert_eq!(result["status"], 200, "{method}: {result}");
            result["reply"].take()
        };

        let [ada, ben] = ["ada", "ben"].map(|name| {
            let user = json!({ "UserName": name });
            call("create_user", user.clone());
            let key = &call("create_access_key", user)["AccessKey"];
            [
                key["AccessKeyId"].clone(),
                key["SecretAccessKey"].clone(),
                Value::Null,
            ]
        });
        let everything = document(&[json!({ "Effect": "Allow", "Action": "*", "Resource": "*" })]);
        let policy = json!({ "UserName": "ada", "PolicyName": "p", "PolicyDocument": everything });
        call("put_user_policy", policy);

        let external_id = json!({ "StringEquals": { "sts:ExternalId": "x-1" } });
        let tag = json!({ "StringEquals": { "aws:RequestTag/team": "core" } });
        let roles = [
            ("reader", trust(&["sts:AssumeRole"], &json!({}))),
            ("short", trust(&["sts:AssumeRole"], &json!({}))),
            ("partner", trust(&["sts:AssumeRole"], &external_id)),
            ("tagged", trust(&["sts:AssumeRole", "sts:TagSession"], &tag)),
        ];
        for (name, trust) in roles {
            call(
                "create_role",
                json!({ "RoleName": name, "AssumeRolePolicyDocument": trust }),
            );
        }
        let read = document(&[
            json!({ "Effect": "Allow", "Action": ["s3:Get*", "s3:List*", "sts:GetAccessKeyInfo"], "Resource": "*" }),
        ]);
        let policy = json!({ "RoleName": "reader", "PolicyName": "p", "PolicyDocument": read });
        call("put_role_policy", policy);

        Self { client, ada, ben }
    }
}

fn document(statements: &[Value]) -> String {
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

fn trust(actions: &[&str], condition: &Value) -> String {
    document(&[json!({
        "Effect": "Allow",
        "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:root") },
        "Action": actions,
        "Condition": condition,
    })])
}

/// Records the outcome of each step.
struct Story {
    server: Server,
    outcomes: Vec<Outcome>,
}

impl Story {
    fn record(&mut self, step: &'static str, result: &Value) {
        let status = result["status"]
            .as_u64()
            .unwrap_or_else(|| panic!("{step}: {result}"));
        let code = result["code"].as_str().unwrap_or_default().to_owned();
        let message = result["message"].as_str().unwrap_or_default();
        assert!(result["id"].is_string(), "{step}: no request id: {result}");

        let has_other_text = OTHER_TEXTS.iter().any(|(other, _)| *other == step);
        let text = if has_other_text {
            String::new()
        } else {
            normalize(message)
        };
        self.outcomes.push((step, status, code, text));
    }

    fn identity(&mut self, step: &'static str, keys: &Keys, ahead: i64) {
        let result = self.server.client.call(&json!({
            "service": "sts", "method": "get_caller_identity", "keys": keys, "ahead": ahead,
        }));
        self.record(step, &result);
    }

    fn assume(&mut self, step: &'static str, keys: &Keys, role: &str, mut params: Value) -> Value {
        params["RoleArn"] = json!(format!("arn:aws:iam::{ACCOUNT}:role/{role}"));
        params["RoleSessionName"] = json!("story");

        let result = self.server.client.sts(keys, "assume_role", params);
        self.record(step, &result);
        result
    }

    /// Asks for what a session may do or not do: the deny probe of a broker.
    fn probe(&mut self, step: &'static str, keys: &Keys) {
        let params = json!({ "AccessKeyId": keys[0] });
        let result = self.server.client.sts(keys, "get_access_key_info", params);
        self.record(step, &result);
    }

    fn iam(&mut self, step: &'static str, keys: &Keys, method: &str, params: Value) {
        let result = self.server.client.iam(keys, method, params);
        self.record(step, &result);
    }
}

/// Replaces each time such as `20260101T000000Z`. Leaves out a final dot, and the resource of a denial, which ministack
/// does not name.
fn normalize(message: &str) -> String {
    let message = message.trim_end_matches('.');
    let message = match message.split_once(" on resource: ") {
        Some((start, rest)) => {
            let reason = rest.find(" because ").or(rest.find(" with "));
            let reason = reason.map_or("", |at| &rest[at..]);
            format!("{start}{reason}")
        }
        None => message.to_owned(),
    };

    let is_time = |word: &str| {
        let digits = word.chars().filter(char::is_ascii_digit).count();
        word.len() == 16 && digits == 14 && word.ends_with('Z')
    };
    let words = message.split(' ').map(|word| {
        let bare = word.trim_start_matches('(');
        if is_time(bare) {
            word.replace(bare, "TIME")
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn story(server: Server) -> Vec<Outcome> {
    let (ada, ben) = (server.ada.clone(), server.ben.clone());
    let mut story = Story {
        server,
        outcomes: Vec::new(),
    };

    signatures(&mut story, &ada);
    trust_policies(&mut story, &ada, &ben);
    session_policies(&mut story, &ada);
    revocation(&mut story, &ada);
    access_keys(&mut story, &ada);
    story.outcomes
}

fn signatures(story: &mut Story, ada: &Keys) {
    let [id, secret, _] = ada.clone();
    story.identity("long-term keys", ada, 0);
    story.identity(
        "wrong secret",
        &[id.clone(), json!("wrong"), Value::Null],
        0,
    );
    story.identity(
        "unknown key",
        &[json!("AKIAUNKNOWNUNKNOWN22"), secret, Value::Null],
        0,
    );
    story.identity("10 minutes behind", ada, -600);
    story.identity("20 minutes behind", ada, -1200);
    story.identity("20 minutes ahead", ada, 1200);
}

fn trust_policies(story: &mut Story, ada: &Keys, ben: &Keys) {
    let assumed = story.assume("assume a role", ada, "reader", json!({}));
    let session = credentials(&assumed);
    story.identity("role session", &session, 0);
    let [id, secret, token] = session;
    story.identity(
        "session without its token",
        &[id.clone(), secret.clone(), Value::Null],
        0,
    );
    story.identity(
        "session with a wrong token",
        &[id.clone(), secret, json!("wrong")],
        0,
    );
    story.identity(
        "session with a wrong secret",
        &[id, json!("wrong"), token],
        0,
    );

    story.assume("without permission", ben, "reader", json!({}));
    story.assume("unknown role", ada, "unknown", json!({}));
    story.assume("without external id", ada, "partner", json!({}));
    story.assume(
        "wrong external id",
        ada,
        "partner",
        json!({ "ExternalId": "x-2" }),
    );
    story.assume(
        "external id",
        ada,
        "partner",
        json!({ "ExternalId": "x-1" }),
    );
    let tags = |value| json!({ "Tags": [{ "Key": "team", "Value": value }] });
    story.assume("tags", ada, "tagged", tags("core"));
    story.assume("wrong tag", ada, "tagged", tags("other"));
    story.assume("tags without permission", ada, "reader", tags("core"));
}

fn session_policies(story: &mut Story, ada: &Keys) {
    let policy = |effect: &str, action: &str| {
        let statement = json!({ "Effect": effect, "Action": action, "Resource": "*" });
        json!({ "Policy": document(&[statement]) })
    };

    let steps = [
        (
            "policy that allows",
            policy("Allow", "sts:*"),
            "allowed by a session policy",
        ),
        (
            "policy that denies",
            policy("Deny", "*"),
            "denied by a session policy",
        ),
        (
            "policy without it",
            policy("Allow", "s3:*"),
            "not in the session policy",
        ),
    ];
    for (assume, params, probe) in steps {
        let session = credentials(&story.assume(assume, ada, "reader", params));
        story.probe(probe, &session);
    }
    let malformed = json!({ "Policy": "{" });
    story.assume("malformed session policy", ada, "reader", malformed);
}

fn revocation(story: &mut Story, ada: &Keys) {
    let allowed = credentials(&story.assume("reader", ada, "reader", json!({})));
    let denied = credentials(&story.assume("short", ada, "short", json!({})));
    story.probe("allowed", &allowed);
    story.probe("implicitly denied", &denied);

    // Times have whole seconds: wait until the sessions are older than the revocation.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let before = jiff::Timestamp::now().to_string();
    let deny = document(&[json!({
        "Effect": "Deny",
        "Action": ["*"],
        "Resource": ["*"],
        "Condition": { "DateLessThan": { "aws:TokenIssueTime": before } },
    })]);
    for role in ["reader", "short"] {
        let params = json!({
            "RoleName": role, "PolicyName": "AWSRevokeOlderSessions", "PolicyDocument": deny,
        });
        story.iam("AWSRevokeOlderSessions", ada, "put_role_policy", params);
    }
    story.probe("revoked, allowed before", &allowed);
    story.probe("revoked, denied before", &denied);
    story.identity("identity of a revoked session", &allowed, 0);
    let chained = json!({});
    story.assume("revoked session assumes a role", &allowed, "short", chained);

    std::thread::sleep(std::time::Duration::from_millis(1100));
    let later = credentials(&story.assume("assume after the revocation", ada, "reader", json!({})));
    story.probe("session after the revocation", &later);
}

fn access_keys(story: &mut Story, ada: &Keys) {
    let key = json!({ "AccessKeyId": ada[0] });
    let session = credentials(&story.assume("session of the key", ada, "reader", json!({})));
    story.iam(
        "unknown role policy",
        ada,
        "get_role_policy",
        json!({ "RoleName": "short", "PolicyName": "x" }),
    );
    story.iam(
        "get an unknown role",
        ada,
        "get_role",
        json!({ "RoleName": "x" }),
    );
    story.iam(
        "not allowed",
        &session,
        "get_role",
        json!({ "RoleName": "reader" }),
    );

    let mut inactive = key;
    inactive["Status"] = json!("Inactive");
    story.iam("deactivate the key", ada, "update_access_key", inactive);
    story.identity("inactive key", ada, 0);
    story.identity("session of an inactive key", &session, 0);
}

#[test]
fn sandbox_answers_like_ministack() {
    let home = Home::default();
    let sandbox = SandboxProcess::start(&[]);
    let ministack = Ministack::start(&home);

    let expected = story(Server::ministack(&home, &ministack));
    let actual = story(Server::sandbox(&home, &sandbox));
    let mut differences = Vec::new();
    for (expected, actual) in expected.iter().zip(&actual) {
        if expected != actual {
            differences.push(format!("ministack {expected:?}\nsandbox   {actual:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(expected.len(), actual.len());
}
