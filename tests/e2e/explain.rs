//! `rolekeeper explain PROFILE`: why a role can or cannot be assumed, and which policy statement
//! decides.

use rolekeeper_tests::harness::{Home, SandboxProcess};
use serde_json::{Value, json};

/// Four profiles of the developer, one for each role.
fn world() -> (SandboxProcess, Home) {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
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

/// Asserts that the verdict is what the upstream decides.
fn explain_and_compare(home: &Home, profile: &str) -> Value {
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
fn verdict_names_the_deciding_statement() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let allowed_role = explain_and_compare(&home, "S3ReadOnly");
    assert_eq!(allowed_role["role_name"], "S3ReadOnly");
    assert_eq!(
        check(&allowed_role, "own policies")["statement"]["text"]["sid"],
        "Assume"
    );
    assert_eq!(
        check(&allowed_role, "own policies")["reason"],
        "statement 1 of policy AssumeProjectRoles allows it"
    );
    assert_eq!(
        check(&allowed_role, "trust policy")["statement"]["number"],
        1
    );

    let untrusted = explain_and_compare(&home, "NoTrust");
    assert_eq!(
        (
            &check(&untrusted, "own policies")["outcome"],
            &check(&untrusted, "trust policy")["outcome"]
        ),
        (&json!("yes"), &json!("no"))
    );

    let not_allowed = explain_and_compare(&home, "NotAllowed");
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
        unknown.code == 2 && unknown.stderr.contains("try: use `S3ReadOnly`"),
        "{unknown:?}"
    );
    assert_eq!(sandbox.calls("assumeRole"), 3, "`explain` assumes no role");
}

#[test]
fn policies_of_groups_and_denies_are_evaluated_live() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let admin = Admin(&sandbox);
    let dev = admin.id("users", "dev");
    let group = admin.call("POST", "/groups", &json!({ "name": "careful" }));
    let group = group["id"].as_str().unwrap();

    for (name, effect, role) in [
        ("Allow", "allow", "NotAllowed"),
        ("Deny", "deny", "S3BucketAccess"),
    ] {
        let resource = format!("*:role/{role}");
        let statement = json!({
            "effect": effect,
            "actions": ["sts:AssumeRole"],
            "resources": [resource],
        });

        let document = json!({ "version": "2024-01-01", "statements": [statement] });
        let policy = admin.call(
            "POST",
            "/policies",
            &json!({ "name": name, "document": document }),
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

    let denied = explain_and_compare(&home, "S3BucketAccess");
    assert_eq!(
        check(&denied, "own policies")["reason"],
        "statement 1 of policy Deny of group careful denies it"
    );

    let allowed = explain_and_compare(&home, "NotAllowed");
    assert_eq!(
        check(&allowed, "own policies")["statement"]["document"],
        "policy Allow of group careful"
    );

    let role = sandbox.role("NotAllowed");
    let allow = json!({ "effect": "allow", "principals": ["*"] });
    let deny = json!({ "effect": "deny", "principals": ["*:user/dev*"] });
    let trust = json!({ "version": "2024-01-01", "statements": [allow, deny] });
    admin.call(
        "PATCH",
        &format!("/roles/{role}"),
        &json!({ "trust_policy": trust }),
    );

    let denied = explain(&home, "NotAllowed");
    assert_eq!(
        check(&denied, "trust policy")["reason"],
        "statement 2 of the trust policy of role NotAllowed denies it"
    );
}

#[test]
fn disabled_account_bad_token_and_missing_role_differ() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(&sandbox, "ci-cd-pipeline", &[("ci", "S3ReadOnly")]);
    let _daemon = home.daemon(&[]);

    let admin = Admin(&sandbox);
    let path = format!(
        "/service-accounts/{}",
        admin.id("service-accounts", "ci-cd-pipeline")
    );

    assert_eq!(explain(&home, "ci")["verdict"], "yes");

    let statement = json!({ "effect": "deny", "actions": ["iam:ListAuditLogs"] });
    let denial = json!({ "version": "2024-01-01", "statements": [statement] });
    let policy = admin.call(
        "POST",
        "/policies",
        &json!({ "name": "Blind", "document": denial }),
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
        "the principal is unknown"
    );

    home.rolekeeper(&["credential-process", "ci"]).json();
    assert_eq!(
        explain(&home, "ci")["principal"],
        "service_account/ci-cd-pipeline",
        "the session names the principal"
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

    let _sandbox = &sandbox;
    let home = Home::default();
    home.configure_for(&sandbox, "admin", &[("gone", "NotAllowed")]);
    let text = std::fs::read_to_string(home.config_path()).unwrap();
    home.configure(&text.replace(
        sandbox.role("NotAllowed"),
        "019aaaaa-0000-7000-8000-000000000000",
    ));
    let _daemon = home.daemon(&[]);

    let missing = explain(&home, "gone");
    assert_eq!(
        (&missing["verdict"], &check(&missing, "role")["outcome"]),
        (&json!("no"), &json!("no"))
    );
    assert_eq!(
        missing["principal"], "user/admin@example.test",
        "the audit log names the principal of the refused call"
    );
}

#[test]
fn unreadable_policies_give_unknown() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let admin = Admin(&sandbox);
    home.rolekeeper(&["credential-process", "S3ReadOnly"])
        .json();
    let denial = json!({ "version": "2024-01-01", "statements": [
        { "effect": "deny", "actions": ["iam:ListUserPolicies", "iam:ListAuditLogs"] }] });

    let policy = admin.call(
        "POST",
        "/policies",
        &json!({ "name": "Blind", "document": denial }),
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
