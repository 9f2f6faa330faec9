//! botocore calls the sandbox's AWS, and reads each reply and error by its model of the service.

use std::collections::BTreeSet;

use rolekeeper_tests::harness::{Home, SandboxProcess};
use rolekeeper_tests::sandbox::aws_actions;
use serde_json::{Value, json};

use super::driver::{Driver, botocore};
use super::installed;

/// Keys as the driver takes them.
pub(super) type Keys = [Value; 3];

/// botocore, with an endpoint.
pub(super) struct Client {
    driver: Driver,
}

impl Client {
    pub(super) fn new(home: &Home, endpoint: &str) -> Self {
        let mut command = botocore(home, "drivers/aws_calls.py");
        command.env("AWS_ENDPOINT", endpoint);
        let driver = Driver::start(home, command);

        Self { driver }
    }

    pub(super) fn call(&mut self, call: &Value) -> Value {
        self.driver.request(&call.to_string())
    }

    pub(super) fn sts(&mut self, keys: &Keys, method: &str, params: Value) -> Value {
        self.call_service("sts", keys, method, params)
    }

    pub(super) fn iam(&mut self, keys: &Keys, method: &str, params: Value) -> Value {
        self.call_service("iam", keys, method, params)
    }

    fn call_service(&mut self, service: &str, keys: &Keys, method: &str, params: Value) -> Value {
        let mut call = json!({ "service": service, "method": method, "keys": keys });
        call["params"] = params;

        self.call(&call)
    }
}

/// The keys in `Credentials` of a reply.
pub(super) fn credentials(result: &Value) -> Keys {
    let keys = &result["reply"]["Credentials"];
    assert_eq!(result["status"], 200, "{result}");

    ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|name| keys[name].clone())
}

pub(super) fn user_keys(sandbox: &SandboxProcess, user: &str) -> Keys {
    let text = |field| json!(sandbox.aws_fixture(&["users", user, field]));

    [
        text("access_key_id"),
        text("secret_access_key"),
        Value::Null,
    ]
}

struct World {
    sandbox: SandboxProcess,
    client: Client,
    ada: Keys,
    home: Home,
}

fn world() -> World {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    let client = Client::new(&home, sandbox.aws());
    let ada = user_keys(&sandbox, "ada");

    World {
        sandbox,
        client,
        ada,
        home,
    }
}

impl World {
    fn role(&self, name: &str) -> &str {
        self.sandbox.aws_fixture(&["roles", name])
    }

    fn assume(&mut self, role: &str, mut params: Value) -> Value {
        params["RoleArn"] = json!(self.role(role));
        params["RoleSessionName"] = json!("botocore");

        self.client.sts(&self.ada, "assume_role", params)
    }

    /// The reply of a successful IAM call of `ada`.
    fn iam(&mut self, method: &str, params: Value) -> Value {
        let mut result = self.client.iam(&self.ada, method, params);
        assert_eq!(result["status"], 200, "{method}: {result}");
        assert!(result["id"].is_string(), "{method}: {result}");

        result["reply"].take()
    }

    /// Checks that each action of a service has been called.
    fn check_complete(&self, service: &str) {
        let calls = self.sandbox.control("GET", "/aws/calls", None);
        let counts = calls["counts"].as_object().unwrap();
        let called: BTreeSet<&str> = counts.keys().map(String::as_str).collect();
        let actions = aws_actions().filter(|(of, _)| *of == service);

        assert_eq!(called, actions.map(|(_, name)| name).collect());
    }
}

fn check_error(result: &Value, status: u16, code: &str, message: &str) {
    assert_eq!(result["status"], status, "{result}");
    assert_eq!(result["code"], code, "{result}");
    let text = result["message"].as_str().unwrap();
    assert!(text.starts_with(message), "{result}");
    assert!(result["id"].is_string(), "{result}");
}

#[test]
fn botocore_reads_the_replies_of_sts() {
    let mut world = world();
    let ada = world.ada.clone();
    let mfa = world.sandbox.aws_fixture(&["mfa", "serial"]).to_owned();
    let code = world.sandbox.mfa_code();

    let assumed = world.assume(
        "tagged",
        json!({
            "DurationSeconds": 900,
            "ExternalId": "x-1",
            "Tags": [{ "Key": "team", "Value": "core" }, { "Key": "a b+c", "Value": "ä=/" }],
            "TransitiveTagKeys": ["team"],
            "Policy": r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#,
            "PolicyArns": [{ "arn": "arn:aws:iam::aws:policy/ReadOnlyAccess" }],
        }),
    );
    let keys = credentials(&assumed);
    let reply = &assumed["reply"];
    let arn = "arn:aws:sts::111122223333:assumed-role/tagged/botocore";
    assert_eq!(reply["AssumedRoleUser"]["Arn"], arn);
    assert!(reply["PackedPolicySize"].as_u64().unwrap() > 0);
    let identity = world.client.sts(&keys, "get_caller_identity", json!({}));
    assert_eq!(identity["reply"]["Arn"], arn);
    assert_eq!(
        identity["reply"]["UserId"],
        reply["AssumedRoleUser"]["AssumedRoleId"]
    );

    let named = world.assume("named", json!({ "SourceIdentity": "ada" }));
    assert_eq!(named["reply"]["SourceIdentity"], "ada");
    let params = json!({ "SerialNumber": mfa, "TokenCode": code, "DurationSeconds": 129_600 });
    let session = credentials(&world.client.sts(&ada, "get_session_token", params));
    let admin = json!({ "RoleArn": world.role("admin"), "RoleSessionName": "mfa" });
    credentials(&world.client.sts(&session, "assume_role", admin));
    let info = world.client.sts(
        &ada,
        "get_access_key_info",
        json!({ "AccessKeyId": ada[0] }),
    );
    assert_eq!(info["reply"]["Account"], "111122223333");
    world.check_complete("sts");
}

#[test]
fn botocore_reads_the_replies_of_iam() {
    let mut world = world();
    let role = json!({ "RoleName": "reader" });
    let policy = json!({ "RoleName": "reader", "PolicyName": "p" });
    let document = json!({ "Version": "2012-10-17", "Statement": [] });

    assert_eq!(world.iam("get_user", json!({}))["User"]["UserName"], "ada");
    let devices = world.iam("list_mfa_devices", json!({}));
    assert_eq!(devices["MFADevices"][0]["UserName"], "ada");
    let got = world.iam("get_role", role);
    assert_eq!(got["Role"]["MaxSessionDuration"], 43_200);
    // botocore decodes and parses the document.
    assert!(got["Role"]["AssumeRolePolicyDocument"]["Statement"].is_array());

    let mut put = policy.clone();
    put["PolicyDocument"] = json!(document.to_string());
    world.iam("put_role_policy", put);
    let got = world.iam("get_role_policy", policy.clone());
    assert_eq!(got["PolicyDocument"], document);
    world.iam("delete_role_policy", policy);

    let key = world.iam("create_access_key", json!({}))["AccessKey"].take();
    assert_eq!(key["Status"], "Active");
    let id = json!({ "AccessKeyId": key["AccessKeyId"] });
    let listed = world.iam("list_access_keys", json!({}));
    assert_eq!(listed["AccessKeyMetadata"].as_array().unwrap().len(), 2);
    let used = world.iam("get_access_key_last_used", id.clone());
    assert_eq!(used["UserName"], "ada");
    let mut inactive = id.clone();
    inactive["Status"] = json!("Inactive");
    world.iam("update_access_key", inactive);
    world.iam("delete_access_key", id);

    let simulation = json!({
        "PolicySourceArn": world.role("reader"),
        "ActionNames": ["s3:GetObject", "iam:GetRole"],
        "ContextEntries": [{
            "ContextKeyName": "aws:TokenIssueTime",
            "ContextKeyType": "date",
            "ContextKeyValues": ["2026-01-01T00:00:00Z"],
        }],
    });
    let results = world.iam("simulate_principal_policy", simulation.clone());
    let decisions = |results: &Value| -> Vec<String> {
        let results = results["EvaluationResults"].as_array().unwrap();
        let texts = results
            .iter()
            .map(|result| result["EvalDecision"].as_str().unwrap());
        texts.map(str::to_owned).collect()
    };
    assert_eq!(decisions(&results), ["allowed", "implicitDeny"]);
    let path = "/aws/roles/reader/revoke-sessions";
    world.sandbox.control("POST", path, Some(json!({})));
    let results = world.iam("simulate_principal_policy", simulation);
    assert_eq!(decisions(&results), ["explicitDeny", "explicitDeny"]);
    world.check_complete("iam");
}

#[test]
fn botocore_reads_the_errors() {
    let mut world = world();
    let [id, secret, _] = world.ada.clone();
    let code = world.sandbox.mfa_code();
    let mfa =
        json!({ "SerialNumber": world.sandbox.aws_fixture(&["mfa", "serial"]), "TokenCode": code });
    credentials(&world.assume("admin", mfa.clone()));

    let again = world.assume("admin", mfa.clone());
    let message = "MultiFactorAuthentication failed with invalid MFA one time pass code";
    check_error(&again, 403, "AccessDenied", message);
    let ben = user_keys(&world.sandbox, "ben");
    let foreign = world.client.sts(&ben, "get_session_token", mfa);
    let message = "MultiFactorAuthentication failed, unable to validate MFA code";
    check_error(&foreign, 403, "AccessDenied", message);
    let missing = world.assume("partner", json!({}));
    let message = "User: arn:aws:iam::111122223333:user/ada is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::111122223333:role/partner";
    check_error(&missing, 403, "AccessDenied", message);
    let long = world.assume("short", json!({ "DurationSeconds": 7200 }));
    let message = "The requested DurationSeconds exceeds the MaxSessionDuration";
    check_error(&long, 400, "ValidationError", message);
    let policy = world.assume("reader", json!({ "Policy": "{" }));
    check_error(&policy, 400, "MalformedPolicyDocument", "");

    let wrong = [id.clone(), json!("wrong"), Value::Null];
    let result = world.client.sts(&wrong, "get_caller_identity", json!({}));
    check_error(
        &result,
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated",
    );
    let unknown = [json!("AKIAUNKNOWNUNKNOWN22"), secret, Value::Null];
    let result = world.client.sts(&unknown, "get_caller_identity", json!({}));
    check_error(
        &result,
        403,
        "InvalidClientTokenId",
        "The security token included",
    );
    let missing = world
        .client
        .iam(&world.ada, "get_role", json!({ "RoleName": "x" }));
    check_error(
        &missing,
        404,
        "NoSuchEntity",
        "The role with name x cannot be found.",
    );
    world.client.iam(&world.ada, "create_access_key", json!({}));
    let full = world.client.iam(&world.ada, "create_access_key", json!({}));
    check_error(&full, 409, "LimitExceeded", "");
}

#[test]
fn botocore_reads_the_conditions_of_a_test() {
    let mut world = world();
    let reader = world.assume("reader", json!({ "DurationSeconds": 900 }));
    let session = credentials(&reader);
    let identity = |world: &mut World, keys: &Keys, more: Value| {
        let mut call = json!({ "service": "sts", "method": "get_caller_identity", "keys": keys });
        for (name, value) in more.as_object().unwrap() {
            call[name] = value.clone();
        }
        world.client.call(&call)
    };
    let control = |world: &World, path: &str, body: Value| {
        world.sandbox.control("POST", path, Some(body));
    };
    let ada = world.ada.clone();

    control(&world, "/aws/throttle", json!({ "calls": 1 }));
    let throttled = identity(&mut world, &ada, json!({}));
    check_error(&throttled, 400, "Throttling", "Rate exceeded");
    control(
        &world,
        "/aws/regions",
        json!({ "region": "ap-east-1", "enabled": false }),
    );
    let disabled = identity(&mut world, &ada, json!({ "region": "ap-east-1" }));
    check_error(
        &disabled,
        403,
        "RegionDisabledException",
        "STS is not activated",
    );

    control(&world, "/aws/clock", json!({ "advance_seconds": 7200 }));
    let late = identity(&mut world, &ada, json!({}));
    check_error(&late, 403, "SignatureDoesNotMatch", "Signature expired: ");
    let early = identity(&mut world, &ada, json!({ "ahead": 14_400 }));
    check_error(
        &early,
        403,
        "SignatureDoesNotMatch",
        "Signature not yet current: ",
    );
    let expired = identity(&mut world, &session, json!({ "ahead": 7200 }));
    check_error(
        &expired,
        403,
        "ExpiredToken",
        "The security token included in the request is expired",
    );

    let unreadable = json!({ "method": "*", "fault": { "kind": "garbage" }, "times": 1 });
    control(&world, "/aws/faults", unreadable);
    let result = identity(&mut world, &ada, json!({ "ahead": 7200 }));
    assert_eq!(result["exception"], "ResponseParserError", "{result}");
}

#[test]
fn aws_cli_uses_a_role_session_at_s3() {
    let mut world = world();
    let mfa = json!({
        "SerialNumber": world.sandbox.aws_fixture(&["mfa", "serial"]),
        "TokenCode": world.sandbox.mfa_code(),
    });
    let admin = credentials(&world.assume("admin", mfa));
    let reader = credentials(&world.assume("reader", json!({})));
    let aws = |keys: &Keys, arguments: &[&str]| {
        let mut command = world.home.command(&installed("aws"));
        command
            .args(["--endpoint-url", world.sandbox.s3(), "s3"])
            .args(arguments)
            .env("AWS_REGION", "eu-central-1");
        let names = [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
        ];
        for (name, value) in names.iter().zip(keys) {
            command.env(name, value.as_str().unwrap());
        }
        world.home.run(command)
    };
    let file = world.home.private_file("object", "text");
    let file = file.to_str().unwrap();

    assert_eq!(aws(&admin, &["mb", "s3://demo"]).code, 0);
    assert_eq!(aws(&admin, &["cp", file, "s3://demo/k"]).code, 0);
    assert_eq!(aws(&reader, &["cp", "s3://demo/k", "-"]).stdout, "text");
    let denied = aws(&reader, &["cp", file, "s3://demo/k"]);
    let reason = "(AccessDenied) when calling the PutObject operation";
    assert!(denied.stderr.contains(reason), "{denied:?}");
}

#[test]
fn presigned_caller_identity_is_valid_until_it_expires() {
    let mut world = world();
    let ada = world.ada.clone();
    let presign = json!({
        "service": "sts", "method": "generate_presigned_url", "keys": ada,
        "params": { "ClientMethod": "get_caller_identity", "ExpiresIn": 60, "HttpMethod": "GET" },
    });
    let url = world.client.call(&presign)["url"]
        .as_str()
        .unwrap()
        .to_owned();
    let get = || {
        let reply = reqwest::blocking::get(&url).unwrap();
        (reply.status().as_u16(), reply.text().unwrap())
    };

    let (status, text) = get();
    assert!(
        status == 200 && text.contains("user/ada"),
        "{status} {text}"
    );
    let later = json!({ "advance_seconds": 61 });
    world.sandbox.control("POST", "/aws/clock", Some(later));
    let (status, text) = get();
    assert!(
        status == 403 && text.contains("Signature expired: "),
        "{status} {text}"
    );
}
