//! A property-based tester of APIs that nobody here wrote, with the contract against the sandbox.

use rolekeeper_tests::harness::{Home, SandboxProcess, short_or_long};

use super::installed;

/// Runs schemathesis with these arguments besides; it must find all sixty operations and no failure.
fn schemathesis(sandbox: &SandboxProcess, home: &Home, args: &[&str]) {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = home.command(&installed("schemathesis"));
    command
        .current_dir(home.path())
        .arg("--config-file")
        .arg(tests.join("consumers/schemathesis.toml"));
    command
        .arg("run")
        .arg(tests.join("../client/contract/bycloud-iam.json"));
    command
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
        run.stdout.contains("Tested: 60") && run.stdout.contains("Stateful"),
        "{}",
        run.stdout
    );
    let counts = sandbox.control("GET", "/calls/counts", None)["counts"].clone();
    assert_eq!(
        counts.as_object().unwrap().len(),
        60,
        "every method was called: {counts}"
    );
    let calls = sandbox.control("GET", "/calls", None);
    let failed: Vec<_> = calls["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|call| call["status"].as_u64() >= Some(500))
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn with_an_administrators_token_it_finds_no_failure() {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    let authorization = format!("Authorization: Bearer {}", sandbox.token("admin"));
    schemathesis(
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
fn with_no_token_it_finds_no_failure_and_no_way_in() {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    schemathesis(
        &sandbox,
        &home,
        &["--max-examples", short_or_long("5", "10")],
    );
    let calls = sandbox.control("GET", "/calls", None);
    let in_by: Vec<_> = calls["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|call| call["status"].as_u64() < Some(400))
        .collect();
    assert!(in_by.is_empty(), "{in_by:?}");
}
