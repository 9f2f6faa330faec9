//! V7: for how long real SDKs that are already running go on using a key that was revoked, by the lease that they were
//! given. An hour of virtual time each, one request every ten seconds.

use std::process::Command;
use std::time::Duration;

use rolekeeper_tests::harness::{
    Clocks, Home, SandboxProcess, eventually, programs, short_or_long,
};

use super::driver::{Driver, botocore, javascript};

const STEP: Duration = Duration::from_secs(10);
/// Steps before the revocation, and after it.
const BEFORE: usize = 30;
const AFTER: usize = 360;

/// The key of a request, unless there was none.
fn sign(sdk: &mut Driver) -> Option<String> {
    let said = sdk.ask("");
    assert!(
        said["key"].is_string() || said["error"].is_string(),
        "{said}"
    );
    said["key"].as_str().map(Into::into)
}

fn in_python(home: &Home) -> Command {
    botocore(home, "uses.py")
}

fn in_javascript(home: &Home) -> Command {
    javascript(home, "uses.mjs")
}

/// How many requests were signed with the revoked key, and after which time the last one was.
fn uses(sdk: fn(&Home) -> Command, lease: &str, on_revoke: &str) -> (usize, Duration) {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
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
    let mut daemon = home.command(&programs().rolekeeperd);
    let mut clocks = Clocks::preload(&home, &mut daemon);
    let _daemon = home.daemon_from(daemon);
    let mut command = sdk(&home);
    clocks.join(&home, command.env("AWS_PROFILE", "dev"));
    let mut sdk = Driver::start(&home, command);
    let key = sign(&mut sdk).expect("a key");
    for _ in 0..BEFORE {
        clocks.sleep(STEP);
        assert_eq!(sign(&mut sdk).as_ref(), Some(&key));
    }
    revoke_all(&sandbox);
    // It is noticed within the interval, of three steps.
    clocks.sleep(STEP * 3);
    let noticed = || {
        let status = home.rolekeeper(&["status", "--json"]).json();
        status["profiles"][0]["state"] == "held" || sandbox.calls("assumeRole") > 1
    };
    eventually("it is noticed", || noticed().then_some(()));
    let (mut count, mut last) = (3, STEP * 3);
    for step in 4..AFTER {
        clocks.sleep(STEP);
        if sign(&mut sdk).as_ref() == Some(&key) {
            (count, last) = (count + 1, STEP * u32::try_from(step).expect("a number"));
        }
    }
    (count, last)
}

pub(crate) fn revoke_all(sandbox: &SandboxProcess) {
    let admin = sandbox.token("admin");
    let active = sandbox
        .api(admin, "GET", "/sts/sessions?active_only=true", None)
        .1;
    for session in active["items"].as_array().expect("a list") {
        let path = format!("/sts/sessions/{}", session["id"].as_str().expect("an id"));
        assert_eq!(sandbox.api(admin, "DELETE", &path, None).0, 204);
    }
}

/// The most minutes for each lease, with the reaction that holds and with the one that assumes the role again.
#[test]
fn a_revoked_key_is_used_for_as_long_as_the_documentation_says() {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let table = [
        (
            "botocore",
            in_python as fn(&Home) -> Command,
            "full",
            [minutes(46), minutes(46)],
        ),
        ("botocore", in_python, "balanced", [minutes(7), minutes(2)]),
        ("botocore", in_python, "strict", [minutes(1), minutes(1)]),
        ("botocore", in_python, "4m", [minutes(1), minutes(1)]),
        (
            "JavaScript v3",
            in_javascript,
            "full",
            [minutes(56), minutes(56)],
        ),
        (
            "JavaScript v3",
            in_javascript,
            "balanced",
            [minutes(12), minutes(7)],
        ),
        (
            "JavaScript v3",
            in_javascript,
            "strict",
            [minutes(11), minutes(6)],
        ),
        (
            "JavaScript v3",
            in_javascript,
            "4m",
            [minutes(5), minutes(1)],
        ),
    ];
    let leases = short_or_long(vec!["balanced"], vec!["full", "balanced", "strict", "4m"]);
    let mut wrong = Vec::new();
    for (name, sdk, lease, most) in table {
        if !leases.contains(&lease) {
            continue;
        }

        for (on_revoke, most) in ["hold", "reassume"].into_iter().zip(most) {
            let (count, last) = uses(sdk, lease, on_revoke);
            println!(
                "{name:14} {lease:9} {on_revoke:9} {count:4} uses, the last after {:4} s",
                last.as_secs()
            );
            if last > most {
                wrong.push((name, lease, on_revoke, last));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
