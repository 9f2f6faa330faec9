//! The upstream refuses: each reason has its own code, message and hint.

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, world};
use serde_json::json;

fn assert_failed(run: &Run, code: i32, words: &[&str]) {
    assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{run:?}");

    let lines: Vec<_> = run.stderr.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("rolekeeper: ") && lines[1].starts_with("  try: "),
        "{run:?}"
    );

    for word in words {
        assert!(run.stderr.contains(word), "{word} is not in {run:?}");
    }
}

#[test]
fn missing_and_denied_roles_have_different_errors() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();

    home.configure_for(
        &sandbox,
        "dev",
        &[
            ("notrust", "NoTrust"),
            ("notallowed", "NotAllowed"),
            ("gone", "S3ReadOnly"),
        ],
    );

    let text = std::fs::read_to_string(home.config_path()).unwrap();
    home.configure(&text.replace(
        sandbox.role("S3ReadOnly"),
        "019aaaaa-0000-7000-8000-000000000000",
    ));
    let _daemon = home.daemon(&[]);

    let ask = |profile| home.rolekeeper(&["credential-process", profile]);

    assert_failed(
        &ask("notrust"),
        8,
        &[
            "(trust_denied)",
            "trust_policy_denied",
            "the trust policy of role NoTrust",
            "request ",
            "try: run rolekeeper explain notrust to compare",
        ],
    );
    assert_eq!(home.rolekeeper(&["explain", "notrust"]).code, 0);

    assert_failed(
        &ask("notallowed"),
        8,
        &[
            "access_denied",
            "try: run rolekeeper explain notallowed",
            "no policy of the caller allows sts:AssumeRole",
        ],
    );

    // A principal that may assume only some roles does not learn which others exist.
    assert_failed(&ask("gone"), 8, &["access_denied"]);

    let admin = Home::default();
    admin.configure_for(&sandbox, "admin", &[("gone", "NoTrust")]);
    let text = std::fs::read_to_string(admin.config_path()).unwrap();
    admin.configure(&text.replace(
        sandbox.role("NoTrust"),
        "019aaaaa-0000-7000-8000-000000000000",
    ));
    let _daemon = admin.daemon(&[]);

    assert_failed(
        &admin.rolekeeper(&["credential-process", "gone"]),
        8,
        &["not_found", "no role 019aaaaa"],
    );
}

#[test]
fn unknown_profile_suggests_the_nearest_name() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(&sandbox, "dev", &[("production", "S3ReadOnly")]);
    let _daemon = home.daemon(&[]);

    assert_failed(
        &home.rolekeeper(&["credential-process", "prodution"]),
        2,
        &[
            "there is no profile `prodution` (unknown_profile)",
            "`production`",
        ],
    );

    assert_failed(
        &home.rolekeeper(&["credential-process", "x"]),
        2,
        &["rolekeeper status"],
    );

    assert_eq!(sandbox.calls("assumeRole"), 0);
}

#[test]
fn expired_revoked_and_unknown_tokens_need_login() {
    let (sandbox, home) = world();

    let ask = || {
        let _daemon = home.daemon(&[]);

        home.rolekeeper(&["credential-process", "dev"])
    };

    let store_token = |token: &str| {
        home.secret(token);
        home.private_file("dev.token", token);
    };

    store_token("byu_canary_unknown");

    assert_failed(
        &ask(),
        5,
        &["(login_needed)", "invalid_token", "put a new token"],
    );

    let user = sandbox.control(
        "POST",
        "/users",
        Some(json!({ "email": "new@example.test" })),
    );

    let path = format!("/users/{}/token", user["id"].as_str().unwrap());
    let short = sandbox.control("POST", &path, Some(json!({ "expires_in_seconds": 60 })));
    sandbox.control("POST", "/clock", Some(json!({ "advance_seconds": 61 })));
    store_token(short["token"].as_str().unwrap());
    assert_failed(&ask(), 5, &["(login_needed)", "token_expired"]);

    sandbox.control(
        "DELETE",
        "/tokens",
        Some(json!({ "token": sandbox.token("dev") })),
    );

    store_token(sandbox.token("dev"));
    assert_failed(&ask(), 5, &["invalid_token"]);

    // The token of a revoked session.
    let (status, assumed) = sandbox.api(
        sandbox.token("ci-cd-pipeline"),
        "POST",
        &format!("/roles/{}/assume", sandbox.role("S3ReadOnly")),
        Some(&json!({})),
    );

    assert_eq!(status, 201);

    let session = assumed["session"]["id"].as_str().unwrap();
    let (status, _) = sandbox.api(
        sandbox.token("ci-cd-pipeline"),
        "DELETE",
        &format!("/sts/sessions/{session}"),
        None,
    );

    assert_eq!(status, 204);

    store_token(assumed["credentials"]["session_token"].as_str().unwrap());
    assert_failed(&ask(), 5, &["session_revoked"]);
}

#[test]
fn missing_or_readable_token_file_is_refused_and_not_sent() {
    use std::os::unix::fs::PermissionsExt;

    let (sandbox, home) = world();
    let token = home.path().join("dev.token");

    let ask = || {
        let _daemon = home.daemon(&[]);

        home.rolekeeper(&["credential-process", "dev"])
    };

    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();

    assert_failed(
        &ask(),
        5,
        &[
            "(login_needed)",
            "can be read or written by other users (mode 0644)",
            "chmod 600 ",
        ],
    );

    std::fs::remove_file(&token).unwrap();
    assert_failed(&ask(), 5, &["does not exist"]);

    home.private_file("dev.token", "\n");
    assert_failed(&ask(), 5, &["contains no valid token: it is empty"]);

    home.configure(
        &std::fs::read_to_string(home.config_path())
            .unwrap()
            .replace(&format!("file = {token:?}"), "env = \"NO_SUCH_TOKEN\""),
    );

    assert_failed(
        &ask(),
        5,
        &["the environment variable NO_SUCH_TOKEN is not set"],
    );
    assert_eq!(sandbox.calls("assumeRole"), 0);
}

#[test]
fn token_is_read_from_environment() {
    let (sandbox, home) = world();
    let token = home.path().join("dev.token");
    home.configure(
        &std::fs::read_to_string(home.config_path())
            .unwrap()
            .replace(&format!("file = {token:?}"), "env = \"SANDBOX_TOKEN\""),
    );

    let mut command = home.command(&rolekeeper_tests::harness::programs().rolekeeperd);
    command.env("SANDBOX_TOKEN", sandbox.token("dev"));
    let _daemon = home.daemon_from(command);

    assert!(home.rolekeeper(&["credential-process", "dev"]).json()["AccessKeyId"].is_string());
}

#[test]
fn disabled_account_is_not_a_bad_token() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(&sandbox, "ci-cd-pipeline", &[("ci", "S3ReadOnly")]);
    let admin = sandbox.ready["admin_token"].as_str().unwrap();
    let (_, accounts) = sandbox.api(admin, "GET", "/service-accounts?name=ci-cd-pipeline", None);
    let path = format!(
        "/service-accounts/{}",
        accounts["items"][0]["id"].as_str().unwrap()
    );

    assert_eq!(
        sandbox
            .api(admin, "PATCH", &path, Some(&json!({ "enabled": false })))
            .0,
        200
    );

    let _daemon = home.daemon(&[]);

    assert_failed(
        &home.rolekeeper(&["credential-process", "ci"]),
        8,
        &["(account_disabled)", "principal_disabled"],
    );
}

#[test]
fn new_token_is_used_after_backoff_without_restart() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    home.private_file("dev.token", "byu_wrong");
    assert_eq!(home.rolekeeper(&["credential-process", "dev"]).code, 5);

    home.private_file("dev.token", sandbox.token("dev"));
    rolekeeper_tests::harness::eventually("the back-off of 5 to 10 s ends", || {
        (home.rolekeeper(&["credential-process", "dev"]).code == 0).then_some(())
    });

    assert_eq!(
        sandbox.calls("assumeRole"),
        2,
        "no call is made during the back-off"
    );
}
