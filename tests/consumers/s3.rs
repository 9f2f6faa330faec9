//! Real S3 clients write, list and read objects while sessions are refreshed and revoked. The sandbox's S3 service checks
//! every signature, session and policy.

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

struct Fixture {
    sandbox: SandboxProcess,
    home: Home,
}

/// A recorded request: access key, operation and status.
type S3Request = (String, String, u64);

impl Fixture {
    fn new() -> Self {
        let sandbox = SandboxProcess::start(&[]);
        let home = Home::default();
        home.configure_for(
            &sandbox,
            "dev",
            &[("dev", "S3BucketAccess"), ("reader", "S3ReadOnly")],
        );
        home.configure_more("check_every = \"1s\"", "region = \"eu-central-1\"");

        std::fs::create_dir(home.path().join(".aws")).expect("a folder");
        let client = programs().rolekeeper.canonicalize().expect("it is built");
        let sections = ["dev", "reader"].map(|name| {
            let process = format!(
                "credential_process = {} credential-process {name}",
                client.display()
            );
            format!(
                "[profile {name}]\nregion = eu-central-1\n{process}\ns3 =\n    addressing_style = path\n"
            )
        });
        home.private_file(".aws/config", &sections.concat());

        Self { sandbox, home }
    }

    /// Advances the time of the sandbox and of the processes that share the clocks.
    fn advance(&self, clocks: &mut Clocks, span: Duration) {
        self.sandbox.control(
            "POST",
            "/clock",
            Some(json!({ "advance_seconds": span.as_secs() })),
        );
        clocks.sleep(span);
    }

    /// Starts a driver at the sandbox's S3 service. With clocks, it runs in virtual time.
    fn start(&self, clocks: Option<&Clocks>, mut command: Command) -> Driver {
        command.env("S3_ENDPOINT", self.sandbox.s3());
        if let Some(clocks) = clocks {
            clocks.join(&self.home, &mut command);
        }

        Driver::start(&self.home, command)
    }

    fn driver_commands(&self) -> [Command; 2] {
        [
            botocore(&self.home, "drivers/s3.py"),
            javascript(&self.home, "drivers/s3.mjs"),
        ]
    }

    /// The drivers, with `credential_process` of profile `dev`.
    fn drivers_with_process(&self, clocks: Option<&Clocks>) -> Vec<Driver> {
        self.driver_commands()
            .into_iter()
            .map(|mut command| {
                command.env("AWS_PROFILE", "dev");
                self.start(clocks, command)
            })
            .collect()
    }

    /// The drivers, with the container credentials endpoint of profile `dev`.
    fn drivers_with_endpoint(&self, clocks: &Clocks) -> Vec<Driver> {
        let variables = self
            .home
            .rolekeeper(&["env", "dev", "--mode", "http", "--format", "json"])
            .json();

        self.driver_commands()
            .into_iter()
            .map(|mut command| {
                for (name, value) in variables.as_object().expect("an object") {
                    if let Some(value) = value.as_str() {
                        command.env(name, value);
                    }
                }
                command.env("ROLEKEEPER_PROFILE", "dev");
                self.start(Some(clocks), command)
            })
            .collect()
    }

    /// Runs `aws s3api` with an AWS profile.
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

    /// Takes the requests that the S3 service received since the last call.
    fn take_requests(&self) -> Vec<S3Request> {
        let list = self.sandbox.control("GET", "/s3-requests", None);
        self.sandbox.control("DELETE", "/s3-requests", None);

        list.as_array()
            .expect("a list")
            .iter()
            .map(|request| {
                let key = request["access_key_id"].as_str().unwrap_or_default();
                let operation = request["operation"].as_str().unwrap_or_default();
                let status = request["status"].as_u64().expect("a status");
                (key.to_owned(), operation.to_owned(), status)
            })
            .collect()
    }
}

/// The result of a driver whose object was read back unchanged.
fn same() -> Value {
    json!({ "same": true })
}

#[test]
fn requests_succeed_for_90_minutes_of_session_refreshes() {
    let fixture = Fixture::new();
    let home = &fixture.home;
    let mut daemon = home.command(&programs().rolekeeperd);
    let mut clocks = Clocks::preload(home, &mut daemon);
    let _daemon: Daemon<'_> = home.daemon_from(daemon);

    let created = fixture.aws(
        Some(&clocks),
        "dev",
        &["create-bucket", "--bucket", "proof"],
    );
    assert_eq!(created.code, 0, "{created:?}");

    let mut drivers = fixture.drivers_with_process(Some(&clocks));
    drivers.extend(fixture.drivers_with_endpoint(&clocks));
    let file = home.private_file("object", "an object");
    for minute in 0..90 {
        for driver in &mut drivers {
            assert_eq!(driver.request(""), same(), "minute {minute}");
        }

        if minute % 15 == 0 {
            let body = file.to_str().expect("UTF-8");
            let run = fixture.aws(
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

        fixture.advance(&mut clocks, STEP);
    }

    let requests = fixture.take_requests();
    assert!(requests.len() > 4 * 4 * 90, "{}", requests.len());
    let refused: Vec<_> = requests
        .iter()
        .filter(|(_, _, status)| !(200..300).contains(status))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");

    let keys: BTreeSet<_> = requests.iter().map(|(key, _, _)| key).collect();
    let sessions = fixture.sandbox.calls("assumeRole");
    assert!(
        keys.len() >= 3 && sessions <= 5,
        "{} keys of {sessions} sessions",
        keys.len()
    );
}

/// Runs the AWS CLI with the keys of a lease in its environment, without rolekeeper.
fn list_buckets_with_keys(fixture: &Fixture, lease: &Value) -> Run {
    let mut command = fixture.home.command(&installed("aws"));
    for (variable, field) in [
        ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
        ("AWS_SESSION_TOKEN", "SessionToken"),
    ] {
        command.env(variable, lease[field].as_str().expect("a text"));
    }
    command.args([
        "--region",
        "eu-central-1",
        "--endpoint-url",
        fixture.sandbox.s3(),
        "s3api",
        "list-buckets",
    ]);

    fixture.home.run(command)
}

#[test]
fn revoked_key_is_refused_and_the_next_key_works() {
    let fixture = Fixture::new();
    let home = &fixture.home;
    home.configure_more("", "lease = \"30s\"");
    let _daemon = home.daemon(&[]);
    let created = fixture.aws(None, "dev", &["create-bucket", "--bucket", "proof"]);
    assert_eq!(created.code, 0, "{created:?}");

    let mut drivers = fixture.drivers_with_process(None);
    for driver in &mut drivers {
        assert_eq!(driver.request(""), same());
    }
    let old_keys: BTreeSet<String> = fixture
        .take_requests()
        .into_iter()
        .map(|(key, _, _)| key)
        .collect();
    assert_eq!(old_keys.len(), 1);

    let stolen = home.rolekeeper(&["credential-process", "dev"]).json();
    assert_eq!(list_buckets_with_keys(&fixture, &stolen).code, 0);
    revoke_all(&fixture.sandbox);
    let refused = list_buckets_with_keys(&fixture, &stolen);
    assert!(
        refused.code != 0 && refused.stderr.contains("revoked"),
        "{refused:?}"
    );

    eventually("the daemon detects the revocation", || {
        let status = home.rolekeeper(&["status", "--json"]).json();
        (status["profiles"][0]["state"] == "held").then_some(())
    });
    for driver in &mut drivers {
        let result = driver.request("");
        assert!(result["error"].is_string(), "{result}");
    }

    assert_eq!(home.rolekeeper(&["resume", "dev"]).code, 0);
    fixture.take_requests();
    for driver in &mut drivers {
        eventually("the request succeeds", || {
            (driver.request("") == same()).then_some(())
        });
    }
    let new_keys: BTreeSet<String> = fixture
        .take_requests()
        .into_iter()
        .filter(|(_, _, status)| *status < 300)
        .map(|(key, _, _)| key)
        .collect();
    assert_eq!(new_keys.intersection(&old_keys).count(), 0);
    assert_eq!(new_keys.len(), 1);
}

#[test]
fn read_only_role_cannot_write_or_delete() {
    let fixture = Fixture::new();
    let _daemon = fixture.home.daemon(&[]);
    let body: PathBuf = fixture.home.private_file("object", "an object");
    let put = [
        "put-object",
        "--bucket",
        "proof",
        "--key",
        "k",
        "--body",
        body.to_str().expect("UTF-8"),
    ];

    for (profile, arguments, error) in [
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
        let run = fixture.aws(None, profile, arguments);
        assert_eq!(
            run.code == 0,
            error.is_empty(),
            "{profile} {arguments:?}: {run:?}"
        );
        assert!(run.stderr.contains(error), "{run:?}");
    }
}
