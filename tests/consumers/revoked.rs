//! V7: how long real, running SDKs use a revoked key, for each lease. Each test case takes an hour of virtual time, with
//! one request every ten seconds.

use std::process::Command;
use std::time::Duration;

use rolekeeper_tests::harness::{
    Clocks, Home, SandboxProcess, eventually, programs, short_or_long,
};

use super::driver::{Driver, botocore, javascript};

const STEP: Duration = Duration::from_secs(10);
/// The steps before the revocation.
const STEPS_BEFORE: u32 = 30;
/// The steps after the revocation.
const STEPS_AFTER: u32 = 360;
/// The steps within which the daemon detects the revocation.
const DETECTION_STEPS: u32 = 3;

/// Makes one request, and returns the key that signed it. Returns `None` if the SDK had no credentials.
fn sign(sdk: &mut Driver) -> Option<String> {
    let result = sdk.request("");
    assert!(
        result["key"].is_string() || result["error"].is_string(),
        "{result}"
    );

    result["key"].as_str().map(Into::into)
}

fn botocore_driver(home: &Home) -> Command {
    botocore(home, "uses.py")
}

fn javascript_driver(home: &Home) -> Command {
    javascript(home, "uses.mjs")
}

/// Returns how many requests the revoked key may have signed, and the time from the revocation to the last of them.
fn uses_of_revoked_key(sdk: fn(&Home) -> Command, lease: &str, on_revoke: &str) -> (u32, Duration) {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    configure(&home, &sandbox, lease, on_revoke);

    let mut daemon = home.command(&programs().rolekeeperd);
    let mut clocks = Clocks::preload(&home, &mut daemon);
    let _daemon = home.daemon_from(daemon);

    let mut command = sdk(&home);
    clocks.join(&home, command.env("AWS_PROFILE", "dev"));
    let mut sdk = Driver::start(&home, command);

    let key = sign(&mut sdk).expect("a key");
    for _ in 0..STEPS_BEFORE {
        clocks.sleep(STEP);
        assert_eq!(sign(&mut sdk).as_ref(), Some(&key));
    }

    revoke_all(&sandbox);
    clocks.sleep(STEP * DETECTION_STEPS);
    eventually("the daemon detects the revocation", || {
        let status = home.rolekeeper(&["status", "--json"]).json();
        let is_held = status["profiles"][0]["state"] == "held";
        (is_held || sandbox.calls("assumeRole") > 1).then_some(())
    });

    // The SDK could have used the key in each step until the detection.
    let mut count = DETECTION_STEPS;
    let mut last = STEP * DETECTION_STEPS;
    for step in DETECTION_STEPS + 1..STEPS_AFTER {
        clocks.sleep(STEP);

        if sign(&mut sdk).as_ref() == Some(&key) {
            count += 1;
            last = STEP * step;
        }
    }

    (count, last)
}

fn configure(home: &Home, sandbox: &SandboxProcess, lease: &str, on_revoke: &str) {
    home.configure_for(sandbox, "dev", &[("dev", "S3ReadOnly")]);
    home.configure_more(
        "",
        &format!("lease = \"{lease}\"\non_revoke = \"{on_revoke}\""),
    );

    std::fs::create_dir(home.path().join(".aws")).expect("a folder");
    let client = programs().rolekeeper.canonicalize().expect("it is built");
    let process = format!(
        "credential_process = {} credential-process dev",
        client.display()
    );
    home.private_file(
        ".aws/config",
        &format!("[profile dev]\nregion = eu-central-1\n{process}\n"),
    );
}

/// Revokes every active session, as an administrator.
pub(crate) fn revoke_all(sandbox: &SandboxProcess) {
    let admin = sandbox.token("admin");
    let (_status, active) = sandbox.api(admin, "GET", "/sts/sessions?active_only=true", None);

    for session in active["items"].as_array().expect("a list") {
        let path = format!("/sts/sessions/{}", session["id"].as_str().expect("an id"));
        assert_eq!(sandbox.api(admin, "DELETE", &path, None).0, 204);
    }
}

/// The table has the documented minutes for each lease: with `on_revoke = "hold"`, and with `"reassume"`.
#[test]
fn revoked_key_is_used_no_longer_than_documented() {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let table = [
        (
            "botocore",
            botocore_driver as fn(&Home) -> Command,
            "full",
            [minutes(46), minutes(46)],
        ),
        (
            "botocore",
            botocore_driver,
            "balanced",
            [minutes(7), minutes(2)],
        ),
        (
            "botocore",
            botocore_driver,
            "strict",
            [minutes(1), minutes(1)],
        ),
        ("botocore", botocore_driver, "4m", [minutes(1), minutes(1)]),
        (
            "JavaScript v3",
            javascript_driver,
            "full",
            [minutes(56), minutes(56)],
        ),
        (
            "JavaScript v3",
            javascript_driver,
            "balanced",
            [minutes(12), minutes(7)],
        ),
        (
            "JavaScript v3",
            javascript_driver,
            "strict",
            [minutes(11), minutes(6)],
        ),
        (
            "JavaScript v3",
            javascript_driver,
            "4m",
            [minutes(5), minutes(1)],
        ),
    ];
    let leases = short_or_long(vec!["balanced"], vec!["full", "balanced", "strict", "4m"]);
    let mut failures = Vec::new();

    for (name, sdk, lease, limits) in table {
        if !leases.contains(&lease) {
            continue;
        }

        for (on_revoke, limit) in ["hold", "reassume"].into_iter().zip(limits) {
            let (count, last) = uses_of_revoked_key(sdk, lease, on_revoke);
            println!(
                "{name:14} {lease:9} {on_revoke:9} {count:4} uses, the last after {:4} s",
                last.as_secs()
            );

            if last > limit {
                failures.push((name, lease, on_revoke, last));
            }
        }
    }

    assert!(failures.is_empty(), "{failures:?}");
}
