//! `rolekeeper explain PROFILE`: every reason why a role can or cannot be assumed, with the statement that decides.

use rolekeeper_tests::harness::{Home, SandboxProcess};
use serde_json::{Value, json};

/// Four profiles of the developer, one for each role.
fn world() -> (SandboxProcess, Home) {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    let roles = ["S3ReadOnly", "S3BucketAccess", "NoTrust", "NotAllowed"];
    home.configure_for(&sandbox, "dev", &roles.map(|role| (role, role)));
    (sandbox, home)
}

fn explain(home: &Home, profile: &str) -> Value {
    home.rolekeeper(&["explain", profile, "--json"]).json()
}

fn check<'a>(explanation: &'a Value, what: &str) -> &'a Value {
    explanation["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["condition"] == what)
        .unwrap()
}

/// The verdict is what the upstream then says.
fn agrees(home: &Home, profile: &str) -> Value {
    let explanation = explain(home, profile);
    let assumed = home.rolekeeper(&["credential-process", profile]).code == 0;
    assert_eq!(
        explanation["verdict"],
        if assumed { "yes" } else { "no" },
        "{explanation}"
    );
    explanation
}

impl Admin<'_> {
    fn call(&self, verb: &str, path: &str, body: &Value) -> Value {
        let (status, reply) = self.0.api(self.0.token("admin"), verb, path, Some(body));
        assert!(status < 300, "{verb} {path}: {reply}");
        reply
    }

    fn id(&self, collection: &str, name: &str) -> String {
        let (_, reply) = self.0.api(
            self.0.token("admin"),
            "GET",
            &format!("/{collection}?name={name}"),
            None,
        );
        reply["items"][0]["id"].as_str().unwrap().into()
    }
}

struct Admin<'a>(&'a SandboxProcess);

#[test]
fn each_condition_is_weighed_and_the_statement_that_decides_is_shown() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let can = agrees(&home, "S3ReadOnly");
    assert_eq!(can["role_name"], "S3ReadOnly");
    assert_eq!(
        check(&can, "own policies")["statement"]["text"]["sid"],
        "Assume"
    );
    assert_eq!(
        check(&can, "own policies")["reason"],
        "statement 1 of policy AssumeProjectRoles allows it"
    );
    assert_eq!(check(&can, "trust policy")["statement"]["number"], 1);

    let untrusted = agrees(&home, "NoTrust");
    assert_eq!(
        (
            &check(&untrusted, "own policies")["outcome"],
            &check(&untrusted, "trust policy")["outcome"]
        ),
        (&json!("yes"), &json!("no"))
    );
    let not_allowed = agrees(&home, "NotAllowed");
    assert_eq!(
        (
            &check(&not_allowed, "own policies")["outcome"],
            &check(&not_allowed, "trust policy")["outcome"]
        ),
        (&json!("no"), &json!("yes"))
    );
    assert!(
        explain(&home, "NotAllowed")["last_failure"]
            .as_str()
            .unwrap()
            .contains("access_denied")
    );

    let prose = home.rolekeeper(&["explain", "NoTrust"]).stdout;
    assert!(
        prose.contains("cannot assume role NoTrust")
            && prose.contains("\nno   trust policy  no statement of"),
        "{prose}"
    );
    let unknown = home.rolekeeper(&["explain", "S3ReadOny"]);
    assert!(
        unknown.code == 2 && unknown.stderr.contains("try: `S3ReadOnly`"),
        "{unknown:?}"
    );
    assert_eq!(
        sandbox.calls("assumeRole"),
        3,
        "an explanation assumes nothing"
    );
}

#[test]
fn it_is_read_live_groups_and_denies_included() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let admin = Admin(&sandbox);
    let dev = admin.id("users", "dev");
    let group = admin.call("POST", "/groups", &json!({ "name": "careful" }));
    let group = group["id"].as_str().unwrap();
    let statement = |effect: &str, role: &str| {
        json!({ "version": "2024-01-01", "statements": [
        { "effect": effect, "actions": ["sts:AssumeRole"], "resources": [format!("*:role/{role}")] }] })
    };
    for (name, effect, role) in [
        ("Allow", "allow", "NotAllowed"),
        ("Deny", "deny", "S3BucketAccess"),
    ] {
        let policy = admin.call(
            "POST",
            "/policies",
            &json!({ "name": name, "document": statement(effect, role) }),
        );
        admin.call(
            "POST",
            &format!("/groups/{group}/policies"),
            &json!({ "policy_id": policy["id"] }),
        );
    }
    assert_eq!(explain(&home, "S3BucketAccess")["verdict"], "yes");
    admin.call(
        "POST",
        &format!("/users/{dev}/groups"),
        &json!({ "group_id": group }),
    );
    let denied = agrees(&home, "S3BucketAccess");
    assert_eq!(
        check(&denied, "own policies")["reason"],
        "statement 1 of policy Deny of group careful denies it"
    );
    let allowed = agrees(&home, "NotAllowed");
    assert_eq!(
        check(&allowed, "own policies")["statement"]["document"],
        "policy Allow of group careful"
    );
    let role = sandbox.role("NotAllowed");
    admin.call(
        "PATCH",
        &format!("/roles/{role}"),
        &json!({ "trust_policy": { "version": "2024-01-01", "statements": [
        { "effect": "allow", "principals": ["*"] }, { "effect": "deny", "principals": ["*:user/dev*"] }] } }),
    );
    let denied = explain(&home, "NotAllowed");
    assert_eq!(
        check(&denied, "trust policy")["reason"],
        "statement 2 of the trust policy of role NotAllowed denies it"
    );
}

#[test]
fn a_disabled_account_a_dead_token_and_a_missing_role_are_told_apart() {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    home.configure_for(&sandbox, "ci-cd-pipeline", &[("ci", "S3ReadOnly")]);
    let _daemon = home.daemon(&[]);
    let admin = Admin(&sandbox);
    let path = format!(
        "/service-accounts/{}",
        admin.id("service-accounts", "ci-cd-pipeline")
    );
    assert_eq!(explain(&home, "ci")["verdict"], "yes");
    let blind = json!({ "version": "2024-01-01", "statements": [{ "effect": "deny", "actions": ["iam:ListAuditLogs"] }] });
    let policy = admin.call(
        "POST",
        "/policies",
        &json!({ "name": "Blind", "document": blind }),
    );
    admin.call(
        "POST",
        &format!("{path}/policies"),
        &json!({ "policy_id": policy["id"] }),
    );
    let unknown = explain(&home, "ci");
    assert_eq!(
        (&unknown["verdict"], &unknown["principal"]),
        (&json!("unknown"), &Value::Null),
        "nothing tells who it is"
    );
    home.rolekeeper(&["credential-process", "ci"]).json();
    assert_eq!(
        explain(&home, "ci")["principal"],
        "service_account/ci-cd-pipeline",
        "its session tells"
    );
    admin.call("PATCH", &path, &json!({ "enabled": false }));
    let disabled = explain(&home, "ci");
    assert_eq!(
        (
            &disabled["verdict"],
            &check(&disabled, "account")["outcome"]
        ),
        (&json!("no"), &json!("no"))
    );
    assert!(
        check(&disabled, "account")["reason"]
            .as_str()
            .unwrap()
            .contains("principal_disabled")
    );
    admin.call("PATCH", &path, &json!({ "enabled": true }));
    home.private_file("ci-cd-pipeline.token", "bys_unknown");
    let reason = check(&explain(&home, "ci"), "account")["reason"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(reason.contains("invalid_token"), "{reason}");
    std::fs::remove_file(home.path().join("ci-cd-pipeline.token")).unwrap();
    let unread = explain(&home, "ci");
    assert!(
        check(&unread, "account")["reason"]
            .as_str()
            .unwrap()
            .contains("does not exist")
    );
    assert_eq!(
        (&unread["verdict"], &check(&unread, "account")["outcome"]),
        (&json!("no"), &json!("no"))
    );

    let (_sandbox, home) = (&sandbox, Home::default());
    home.configure_for(&sandbox, "admin", &[("gone", "NotAllowed")]);
    let text = std::fs::read_to_string(home.config_path()).unwrap();
    home.configure(&text.replace(
        sandbox.role("NotAllowed"),
        "019aaaaa-0000-7000-8000-000000000000",
    ));
    let _daemon = home.daemon(&[]);
    let gone = explain(&home, "gone");
    assert_eq!(
        (&gone["verdict"], &check(&gone, "role")["outcome"]),
        (&json!("no"), &json!("no"))
    );
    assert_eq!(
        gone["principal"], "user/admin@example.test",
        "the refused call is in the audit log too"
    );
}

#[test]
fn what_may_not_be_read_is_unknown_and_never_guessed() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let admin = Admin(&sandbox);
    home.rolekeeper(&["credential-process", "S3ReadOnly"])
        .json();
    let blind = json!({ "version": "2024-01-01", "statements": [
        { "effect": "deny", "actions": ["iam:ListUserPolicies", "iam:ListAuditLogs"] }] });
    let policy = admin.call(
        "POST",
        "/policies",
        &json!({ "name": "Blind", "document": blind }),
    );
    let dev = admin.id("users", "dev");
    admin.call(
        "POST",
        &format!("/users/{dev}/policies"),
        &json!({ "policy_id": policy["id"] }),
    );
    let explanation = explain(&home, "S3ReadOnly");
    assert_eq!(
        (&explanation["verdict"], &explanation["principal"]),
        (&json!("unknown"), &json!("user/dev@example.test"))
    );
    let own = check(&explanation, "own policies");
    assert!(
        own["outcome"] == "unknown" && own["reason"].as_str().unwrap().contains("access_denied"),
        "{own}"
    );
    assert_eq!(check(&explanation, "trust policy")["outcome"], "yes");
    let fault = json!({ "method": "*", "fault": { "kind": "status", "status": 503 } });
    sandbox.control("POST", "/faults", Some(fault));
    let down = explain(&home, "S3ReadOnly");
    assert!(
        down["checks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|check| check["outcome"] == "unknown"),
        "{down}"
    );
}
