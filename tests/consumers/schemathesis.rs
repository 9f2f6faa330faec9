//! schemathesis, a property-based API tester, tests the sandbox against the contract.

use rolekeeper_tests::harness::{Home, SandboxProcess, short_or_long};
use serde_json::Value;

use super::installed;

/// The number of operations in the contract.
const OPERATIONS: usize = 60;

/// Runs schemathesis with additional arguments.
///
/// # Panics
/// If it does not test every operation, or finds a failure.
fn run_schemathesis(sandbox: &SandboxProcess, home: &Home, args: &[&str]) {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));

    let mut command = home.command(&installed("schemathesis"));
    command
        .current_dir(home.path())
        .arg("--config-file")
        .arg(tests.join("consumers/schemathesis.toml"))
        .arg("run")
        .arg(tests.join("../client/contract/bycloud-iam.json"))
        .args([
            "--url",
            sandbox.endpoint(),
            "--no-color",
            "--continue-on-failure",
        ])
        .args(args);
    let run = home.run(command);

    assert_eq!(run.code, 0, "{}\n{}", run.stdout, run.stderr);
    assert!(
        run.stdout.contains(&format!("Tested: {OPERATIONS}")) && run.stdout.contains("Stateful"),
        "{}",
        run.stdout
    );

    let counts = sandbox.control("GET", "/calls/counts", None)["counts"].clone();
    assert_eq!(
        counts.as_object().unwrap().len(),
        OPERATIONS,
        "every method was called: {counts}"
    );

    let server_errors = calls_with_status(sandbox, |status| status >= Some(500));
    assert!(server_errors.is_empty(), "{server_errors:?}");
}

/// The calls that the sandbox recorded, if their status matches.
fn calls_with_status(
    sandbox: &SandboxProcess,
    matches: impl Fn(Option<u64>) -> bool,
) -> Vec<Value> {
    let calls = sandbox.control("GET", "/calls", None);

    calls["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|call| matches(call["status"].as_u64()))
        .cloned()
        .collect()
}

#[test]
fn calls_with_administrator_token_match_the_contract() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    let authorization = format!("Authorization: Bearer {}", sandbox.token("admin"));

    run_schemathesis(
        &sandbox,
        &home,
        &[
            "--header",
            &authorization,
            "--max-examples",
            short_or_long("10", "30"),
        ],
    );
}

#[test]
fn calls_without_token_are_rejected() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();

    run_schemathesis(
        &sandbox,
        &home,
        &["--max-examples", short_or_long("5", "10")],
    );

    let accepted = calls_with_status(&sandbox, |status| status < Some(400));
    assert!(accepted.is_empty(), "{accepted:?}");
}
