//! The keys work: real S3 clients put, list and read objects at a service that checks every signature, every session and every
//! policy, while sessions are refreshed and revoked.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rolekeeper_tests::harness::{Clocks, Daemon, Home, Run, SandboxProcess, eventually, programs};
use serde_json::{Value, json};

use super::driver::{Driver, botocore, javascript};
use super::installed;
use super::revoked::revoke_all;

const STEP: Duration = Duration::from_secs(60);

struct World {
    sandbox: SandboxProcess,
    home: Home,
}

impl World {
    fn new() -> Self {
        let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
        home.configure_for(
            &sandbox,
            "dev",
            &[("dev", "S3BucketAccess"), ("reader", "S3ReadOnly")],
        );
        home.configure_more("check_every = \"1s\"", "region = \"eu-central-1\"");
        std::fs::create_dir(home.path().join(".aws")).expect("a folder");
        let client = programs().rolekeeper.canonicalize().expect("it is built");
        let section = |name: &str| {
            let process = format!(
                "credential_process = {} credential-process {name}",
                client.display()
            );
            format!(
                "[profile {name}]\nregion = eu-central-1\n{process}\ns3 =\n    addressing_style = path\n"
            )
        };
        home.private_file(".aws/config", &(section("dev") + &section("reader")));
        Self { sandbox, home }
    }

    /// Time goes on for everybody.
    fn wait(&self, clocks: &mut Clocks, span: Duration) {
        self.sandbox.control(
            "POST",
            "/clock",
            Some(json!({ "advance_seconds": span.as_secs() })),
        );
        clocks.sleep(span);
    }

    /// `aws s3api`, signed as a profile.
    fn aws(&self, clocks: Option<&Clocks>, profile: &str, arguments: &[&str]) -> Run {
        let mut command = self.home.command(&installed("aws"));
        command
            .args([
                "--profile",
                profile,
                "--endpoint-url",
                self.sandbox.s3(),
                "s3api",
            ])
            .args(arguments);
        if let Some(clocks) = clocks {
            clocks.join(&self.home, &mut command);
        }
        self.home.run(command)
    }

    /// What the service was asked since the last time: access key, operation, status.
    fn requests(&self) -> Vec<(String, String, u64)> {
        let list = self.sandbox.control("GET", "/s3-requests", None);
        self.sandbox.control("DELETE", "/s3-requests", None);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let each = |request: &Value| {
            let status = request["status"].as_u64().expect("a status");
            (
                text(&request["access_key_id"]),
                text(&request["operation"]),
                status,
            )
        };
        list.as_array().expect("a list").iter().map(each).collect()
    }
}

fn same() -> Value {
    json!({ "same": true })
}

#[test]
fn an_hour_and_a_half_of_work_over_refreshes_has_no_request_refused() {
    let world = World::new();
    let (home, sandbox) = (&world.home, &world.sandbox);
    let mut daemon = home.command(&programs().rolekeeperd);
    let mut clocks = Clocks::preload(home, &mut daemon);
    let _daemon: Daemon<'_> = home.daemon_from(daemon);
    let made = world.aws(
        Some(&clocks),
        "dev",
        &["create-bucket", "--bucket", "proof"],
    );
    assert_eq!(made.code, 0, "{made:?}");
    let start = |mut command: Command, variable: (&str, &str)| {
        clocks.join(
            home,
            command
                .env("S3_ENDPOINT", sandbox.s3())
                .env(variable.0, variable.1),
        );
        Driver::start(home, command)
    };
    let profile = ("AWS_PROFILE", "dev");
    let mut clients = vec![
        start(botocore(home, "drivers/s3.py"), profile),
        start(javascript(home, "drivers/s3.mjs"), profile),
    ];
    // The same by the endpoint.
    let endpoint = home
        .rolekeeper(&["env", "dev", "--mode", "http", "--format", "json"])
        .json();
    for mut command in [
        botocore(home, "drivers/s3.py"),
        javascript(home, "drivers/s3.mjs"),
    ] {
        for (name, value) in endpoint.as_object().expect("an object") {
            value.as_str().map(|value| command.env(name, value));
        }
        clients.push(start(command, ("ROLEKEEPER_PROFILE", "dev")));
    }
    let file = home.private_file("object", "an object");
    for minute in 0..90 {
        for client in &mut clients {
            assert_eq!(client.ask(""), same(), "minute {minute}");
        }
        if minute % 15 == 0 {
            let body = file.to_str().expect("text");
            let run = world.aws(
                Some(&clocks),
                "dev",
                &[
                    "put-object",
                    "--bucket",
                    "proof",
                    "--key",
                    "k",
                    "--body",
                    body,
                ],
            );
            assert_eq!(run.code, 0, "minute {minute}: {run:?}");
        }
        world.wait(&mut clocks, STEP);
    }
    let requests = world.requests();
    assert!(requests.len() > 4 * 4 * 90, "{}", requests.len());
    let refused: Vec<_> = requests
        .iter()
        .filter(|(_, _, status)| !(200..300).contains(status))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
    let keys: BTreeSet<_> = requests.iter().map(|(key, _, _)| key).collect();
    let sessions = sandbox.calls("assumeRole");
    assert!(
        keys.len() >= 3 && sessions <= 5,
        "{} keys of {sessions} sessions",
        keys.len()
    );
}

#[test]
fn a_revoked_key_is_refused_by_the_service_and_the_next_one_works() {
    let world = World::new();
    let (home, sandbox) = (&world.home, &world.sandbox);
    home.configure_more("", "lease = \"30s\"");
    let _daemon = home.daemon(&[]);
    let made = world.aws(None, "dev", &["create-bucket", "--bucket", "proof"]);
    assert_eq!(made.code, 0, "{made:?}");
    let start = |mut command: Command| {
        command
            .env("S3_ENDPOINT", sandbox.s3())
            .env("AWS_PROFILE", "dev");
        Driver::start(home, command)
    };
    let mut clients = [
        start(botocore(home, "drivers/s3.py")),
        start(javascript(home, "drivers/s3.mjs")),
    ];
    clients
        .iter_mut()
        .for_each(|client| assert_eq!(client.ask(""), same()));
    let old: BTreeSet<String> = world
        .requests()
        .into_iter()
        .map(|(key, _, _)| key)
        .collect();
    assert_eq!(old.len(), 1);
    // With the keys alone, as somebody has them who took them from an environment.
    let kept = home.rolekeeper(&["credential-process", "dev"]).json();
    let by_thief = || {
        let mut command = home.command(&installed("aws"));
        command.env(
            "AWS_ACCESS_KEY_ID",
            kept["AccessKeyId"].as_str().expect("a key"),
        );
        command.env(
            "AWS_SECRET_ACCESS_KEY",
            kept["SecretAccessKey"].as_str().expect("a key"),
        );
        command.env(
            "AWS_SESSION_TOKEN",
            kept["SessionToken"].as_str().expect("a token"),
        );
        command.args([
            "--region",
            "eu-central-1",
            "--endpoint-url",
            sandbox.s3(),
            "s3api",
            "list-buckets",
        ]);
        home.run(command)
    };
    assert_eq!(by_thief().code, 0);
    revoke_all(sandbox);
    let refused = by_thief();
    assert!(
        refused.code != 0 && refused.stderr.contains("revoked"),
        "{refused:?}"
    );
    let held = || home.rolekeeper(&["status", "--json"]).json()["profiles"][0]["state"] == "held";
    eventually("it is noticed", || held().then_some(()));
    for client in &mut clients {
        let said = client.ask("");
        assert!(said["error"].is_string(), "{said}");
    }
    assert_eq!(home.rolekeeper(&["resume", "dev"]).code, 0);
    world.requests();
    for client in &mut clients {
        eventually("it works again", || {
            (client.ask("") == same()).then_some(())
        });
    }
    let good: BTreeSet<String> = world
        .requests()
        .into_iter()
        .filter(|(_, _, status)| *status < 300)
        .map(|(key, _, _)| key)
        .collect();
    assert_eq!(good.intersection(&old).count(), 0);
    assert_eq!(good.len(), 1);
}

#[test]
fn a_role_that_may_only_read_is_refused_what_it_may_not() {
    let world = World::new();
    let _daemon = world.home.daemon(&[]);
    let body: PathBuf = world.home.private_file("object", "an object");
    let put = [
        "put-object",
        "--bucket",
        "proof",
        "--key",
        "k",
        "--body",
        body.to_str().expect("text"),
    ];
    for (profile, arguments, want) in [
        ("dev", &["create-bucket", "--bucket", "proof"][..], ""),
        ("dev", &put, ""),
        ("reader", &["list-objects-v2", "--bucket", "proof"], ""),
        ("reader", &put, "AccessDenied"),
        (
            "reader",
            &["delete-object", "--bucket", "proof", "--key", "k"],
            "AccessDenied",
        ),
    ] {
        let run = world.aws(None, profile, arguments);
        assert_eq!(
            run.code == 0,
            want.is_empty(),
            "{profile} {arguments:?}: {run:?}"
        );
        assert!(run.stderr.contains(want), "{run:?}");
    }
}
