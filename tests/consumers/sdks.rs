//! Each AWS SDK with its default credential chain, and each delivery of the credentials. The tests check which
//! credentials the SDK signs with, how often it requests them, and which error it reports without credentials.

use std::path::PathBuf;

use rolekeeper_tests::harness::{
    Daemon, Home, SandboxProcess, eventually, programs, short_or_long,
};

use super::aws_cli::FILES;
use super::driver::{Driver, source};
use super::mock_server::MockServer;
use super::{assert_installed, installed};

const ACCOUNT: &str = "123456789012";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sdk {
    Botocore,
    JavaScript,
    Go,
    Java,
    Rust,
}

/// How the SDK gets the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// Environment variables.
    Environment,
    /// `credential_process` in the configuration file.
    Process,
    /// The container credentials endpoint.
    Container,
    /// The instance metadata endpoint.
    Metadata,
}

const SDKS: [Sdk; 5] = [
    Sdk::Botocore,
    Sdk::JavaScript,
    Sdk::Go,
    Sdk::Java,
    Sdk::Rust,
];
const DELIVERIES: [Delivery; 4] = [
    Delivery::Environment,
    Delivery::Process,
    Delivery::Container,
    Delivery::Metadata,
];

impl Delivery {
    /// The mode of `rolekeeper exec`, if the delivery uses it.
    fn exec_mode(self) -> Option<&'static str> {
        match self {
            Self::Environment => Some("env"),
            Self::Process => None,
            Self::Container => Some("http"),
            Self::Metadata => Some("imds"),
        }
    }
}

impl Sdk {
    /// The command that runs this SDK's driver.
    fn program(self) -> Vec<PathBuf> {
        match self {
            Self::Botocore => {
                assert_installed("python");
                vec![installed("python"), source("drivers/driver.py")]
            }
            Self::JavaScript => {
                assert_installed("javascript");
                vec!["node".into(), source("drivers/driver.mjs")]
            }
            Self::Go => {
                assert_installed("go");
                vec![installed("driver-go")]
            }
            Self::Java => {
                assert_installed("java");
                vec![installed("driver-java")]
            }
            Self::Rust => {
                assert_installed("rust");
                vec![installed("driver-rust")]
            }
        }
    }
}

struct Fixture {
    sandbox: SandboxProcess,
    home: Home,
    sts: MockServer,
}

impl Fixture {
    /// A home with profile `dev`, which has these additional settings.
    fn new(settings: &str) -> Self {
        let sandbox = SandboxProcess::start(&[]);
        let home = Home::default();
        home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
        home.configure_more(
            "",
            &format!("region = \"eu-central-1\"\naccount_id = \"{ACCOUNT}\"\n{settings}"),
        );

        // The script counts its runs.
        let client = programs().rolekeeper.canonicalize().expect("it is built");
        let script = home.private_file(
            "credential-process",
            &format!(
                "#!/bin/sh\necho run >> {}\nexec {} credential-process \"$1\"\n",
                home.path().join("runs").display(),
                client.display()
            ),
        );
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .expect("the script is ours");

        std::fs::create_dir(home.path().join(".aws")).expect("a folder");
        let config = format!(
            "[profile dev]\nregion = eu-central-1\ncredential_process = {} dev\n",
            script.display()
        );
        home.private_file(".aws/config", &config);

        Self {
            sandbox,
            home,
            sts: MockServer::sts(ACCOUNT),
        }
    }

    fn daemon(&self) -> Daemon<'_> {
        self.home
            .daemon(&["--log", "info,rolekeeperd::serve::http=debug"])
    }

    /// Starts the SDK's driver with this delivery of the credentials.
    fn start(&self, sdk: Sdk, delivery: Delivery) -> Driver {
        self.start_with(sdk, delivery, &[])
    }

    /// The same, with additional environment variables.
    fn start_with(&self, sdk: Sdk, delivery: Delivery, variables: &[(&str, &str)]) -> Driver {
        let program = sdk.program();

        let mut command = match delivery.exec_mode() {
            None => {
                let mut command = self.home.command(&program[0]);
                command.args(&program[1..]).env("AWS_PROFILE", "dev");
                command
            }
            Some(mode) => {
                let mut command = self.home.client();
                command
                    .args(["exec", "--mode", mode, "dev", "--"])
                    .args(&program);
                command
            }
        };
        command
            .envs(variables.iter().copied())
            .env("STS_ENDPOINT", &self.sts.url);

        Driver::start(&self.home, command)
    }

    /// How often credentials were requested: runs of the process, or responses of the endpoint.
    fn credential_requests(&self, delivery: Delivery, daemon: &Daemon<'_>) -> usize {
        match delivery {
            Delivery::Environment => 0,
            Delivery::Process => self.process_runs(),
            Delivery::Container => daemon.log().matches("responded endpoint=container").count(),
            Delivery::Metadata => daemon.log().matches("responded endpoint=imds.dev").count(),
        }
    }

    /// How often `credential_process` has run.
    fn process_runs(&self) -> usize {
        std::fs::read_to_string(self.home.path().join("runs"))
            .unwrap_or_default()
            .lines()
            .count()
    }

    /// Makes the requests with one driver, and checks that they are signed with the profile's session.
    /// Returns how often the SDK requested credentials.
    fn run_requests(
        &self,
        daemon: &Daemon<'_>,
        sdk: Sdk,
        delivery: Delivery,
        requests: usize,
    ) -> usize {
        let before = self.credential_requests(delivery, daemon);
        let mut driver = self.start(sdk, delivery);
        for _ in 0..requests {
            let result = driver.request("");
            assert_eq!(result["account"], ACCOUNT, "{sdk:?} {delivery:?}: {result}");
        }
        let signers = self.sts.signers();

        let session = self.home.rolekeeper(&["credential-process", "dev"]).json();
        let key = session["AccessKeyId"].as_str().expect("a key");
        let token = session["SessionToken"].as_str().expect("a token");
        assert_eq!(
            signers,
            vec![(key.to_owned(), token.to_owned()); requests],
            "{sdk:?} {delivery:?}"
        );

        self.credential_requests(delivery, daemon) - before
    }
}

/// Runs the check for every pair of an SDK and a delivery. `tests/consumers/setup` installs the last two SDKs only for the
/// long version.
fn for_each_pair(mut check: impl FnMut(Sdk, Delivery)) {
    for sdk in SDKS.into_iter().take(short_or_long(3, SDKS.len())) {
        for delivery in DELIVERIES {
            check(sdk, delivery);
        }
    }
}

#[test]
fn sdks_sign_with_the_session_and_request_it_once() {
    let fixture = Fixture::new("lease = \"full\"");
    let daemon = fixture.daemon();

    for_each_pair(|sdk, delivery| {
        let expected = match delivery {
            Delivery::Environment => 0,
            Delivery::Process | Delivery::Container => 1,
            // The IMDS token, the name of the role, and its credentials.
            Delivery::Metadata => 3,
        };
        assert_eq!(
            fixture.run_requests(&daemon, sdk, delivery, 3),
            expected,
            "{sdk:?} {delivery:?}"
        );
    });

    assert_eq!(fixture.sandbox.calls("assumeRole"), 1);
}

/// How often an SDK requests credentials for three requests, for each lease. `consumers.md` has the table.
#[test]
fn sdks_read_each_file_that_setup_has_written() {
    let fixture = Fixture::new("");
    let _daemon = fixture.daemon();
    let setup = |file: &str| {
        let words = [
            "setup", "aws", "dev", "--region", "eu-1", "--file", file, "--write",
        ];
        fixture.home.rolekeeper(&words).code
    };

    let mut written = 0;
    for text in FILES {
        let file = fixture.home.private_file("aws-file", text);
        let file = file.to_str().expect("UTF-8");
        if setup(file) != 0 {
            continue;
        }

        written += 1;
        for sdk in [Sdk::Go, Sdk::JavaScript] {
            let variables = [("AWS_CONFIG_FILE", file)];
            let mut driver = fixture.start_with(sdk, Delivery::Process, &variables);
            let result = driver.request("");
            assert_eq!(result["account"], ACCOUNT, "{sdk:?} {text:?}: {result}");
        }
    }

    assert_eq!(written, 13);
}

#[test]
fn sdks_request_short_leases_as_often_as_documented() {
    for (lease, process, container) in [
        (
            "strict",
            [(4, 4), (1, 1), (1, 1), (1, 1), (1, 1)],
            [(4, 4), (1, 1), (1, 1), (1, 3), (1, 1)],
        ),
        (
            "4m",
            [(4, 4), (3, 6), (1, 1), (1, 1), (1, 1)],
            [(4, 4), (2, 6), (3, 3), (1, 3), (1, 1)],
        ),
    ] {
        let fixture = Fixture::new(&format!("lease = \"{lease}\""));
        let daemon = fixture.daemon();

        for_each_pair(|sdk, delivery| {
            let column = SDKS
                .iter()
                .position(|each| *each == sdk)
                .expect("it is in the list");
            // Some SDKs request credentials in the background, and some of those twice.
            let (least, most) = match delivery {
                Delivery::Process => process[column],
                Delivery::Container => container[column],
                Delivery::Environment | Delivery::Metadata => return,
            };

            let count = fixture.run_requests(&daemon, sdk, delivery, 3);
            assert!(
                (least..=most).contains(&count),
                "{lease} {sdk:?} {delivery:?}: {count}"
            );
        });

        assert_eq!(fixture.sandbox.calls("assumeRole"), 1);
    }
}

/// The table has the SDK's error message, and how often the SDK requests credentials.
#[test]
fn held_profile_is_an_error_in_each_sdk() {
    let held = "profile dev is held";
    let no_credentials = "Could not load credentials from any providers";
    let table = [
        (Sdk::Botocore, Delivery::Process, held, 1),
        (Sdk::Botocore, Delivery::Container, held, 3),
        (
            Sdk::Botocore,
            Delivery::Metadata,
            "Unable to locate credentials",
            3,
        ),
        (Sdk::JavaScript, Delivery::Process, no_credentials, 2),
        (Sdk::JavaScript, Delivery::Container, no_credentials, 5),
        (Sdk::JavaScript, Delivery::Metadata, no_credentials, 3),
        (Sdk::Go, Delivery::Process, "exit status 6", 1),
        (Sdk::Go, Delivery::Container, "held: profile dev is held", 1),
        (Sdk::Go, Delivery::Metadata, held, 3),
        (
            Sdk::Java,
            Delivery::Process,
            "Failed to refresh process-based credentials",
            1,
        ),
        (
            Sdk::Java,
            Delivery::Container,
            "Failed to load credentials from metadata service",
            1,
        ),
        (
            Sdk::Java,
            Delivery::Metadata,
            "Failed to load credentials from IMDS",
            3,
        ),
        (Sdk::Rust, Delivery::Process, held, 1),
        (Sdk::Rust, Delivery::Container, "StatusCode(403)", 1),
        (Sdk::Rust, Delivery::Metadata, held, 3),
    ];

    for_each_pair(|sdk, delivery| {
        let row = table
            .iter()
            .find(|(row_sdk, row_delivery, ..)| (*row_sdk, *row_delivery) == (sdk, delivery));
        let Some((_, _, message, attempts)) = row else {
            return;
        };

        let fixture = Fixture::new("");
        let daemon = fixture.daemon();
        let mut driver = fixture.start(sdk, delivery);
        // Once the endpoint is open, `exec` needs nothing more. The SDK has not requested credentials yet.
        eventually("the endpoint is open", || {
            let status = fixture.home.rolekeeper(&["status", "--json"]).json();
            let is_open = status["daemon"]["endpoints"].is_object();
            (delivery == Delivery::Process || is_open).then_some(())
        });
        assert_eq!(fixture.home.rolekeeper(&["logout", "dev"]).code, 0);

        let before = fixture.credential_requests(delivery, &daemon);
        let result = driver.request("");
        assert!(
            result["error"]
                .as_str()
                .is_some_and(|error| error.contains(message)),
            "{sdk:?} {delivery:?}: {result}"
        );
        assert_eq!(
            fixture.credential_requests(delivery, &daemon) - before,
            *attempts,
            "{sdk:?} {delivery:?}: {result}"
        );
        assert_eq!(fixture.sts.signers(), [], "{sdk:?} {delivery:?}");
    });
}

/// The SDKs' own retries reach a session that the upstream takes its time for.
#[test]
fn sdks_wait_for_the_first_session() {
    for milliseconds in [1_500, 4_000] {
        for_each_pair(|sdk, delivery| {
            if delivery != Delivery::Container {
                return;
            }

            let fixture = Fixture::new("");
            let daemon = fixture.daemon();
            fixture
                .sandbox
                .fault(&serde_json::json!({ "kind": "delay", "ms": milliseconds }));
            fixture.run_requests(&daemon, sdk, delivery, 1);
        });
    }
}

/// The session is short, so that botocore requests it again for each request.
#[test]
fn upstream_outage_does_not_affect_sdks_with_a_cached_session() {
    let fixture = Fixture::new("");
    fixture.sandbox.control(
        "POST",
        "/limits",
        Some(serde_json::json!({ "max_session_seconds": 300 })),
    );
    let daemon = fixture.daemon();
    fixture
        .home
        .rolekeeper(&["credential-process", "dev"])
        .json();

    fixture
        .sandbox
        .fault(&serde_json::json!({ "kind": "status", "status": 503 }));

    for_each_pair(|sdk, delivery| {
        fixture.run_requests(&daemon, sdk, delivery, 2);
    });
}

#[test]
fn exec_overrides_other_aws_settings_and_proxies() {
    let fixture = Fixture::new("");
    let daemon = fixture.daemon();
    fixture.home.private_file(
        ".aws/credentials",
        "[default]\naws_access_key_id = AKIAWRONG\naws_secret_access_key = wrong\n",
    );
    fixture.home.private_file(
        ".boto",
        "[Credentials]\naws_access_key_id = AKIAWRONG\naws_secret_access_key = wrong\n",
    );

    for_each_pair(|sdk, delivery| {
        if delivery == Delivery::Process {
            return;
        }

        let session = fixture
            .home
            .rolekeeper(&["credential-process", "dev"])
            .json();
        // The mode `env` does not change NO_PROXY, so the requests to the mock STS would use the proxy.
        let mut variables = OTHER_SETTINGS.to_vec();
        if delivery != Delivery::Environment {
            variables.extend(PROXIES);
        }
        let mut driver = fixture.start_with(sdk, delivery, &variables);

        let result = driver.request("");
        assert_eq!(result["account"], ACCOUNT, "{sdk:?} {delivery:?}: {result}");
        let (key, _) = fixture.sts.signers().remove(0);
        assert_eq!(session["AccessKeyId"], key, "{sdk:?} {delivery:?}");
    });

    drop(daemon);
}

const OTHER_SETTINGS: [(&str, &str); 8] = [
    ("AWS_PROFILE", "missing"),
    ("AWS_DEFAULT_PROFILE", "missing"),
    ("AWS_ACCESS_KEY_ID", "AKIAOTHER"),
    ("AWS_SECURITY_TOKEN", "old"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere"),
    ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/other"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/other"),
    ("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z"),
];

/// A port without a listener.
const PROXIES: [(&str, &str); 2] = [
    ("HTTP_PROXY", "http://127.0.0.1:9"),
    ("http_proxy", "http://127.0.0.1:9"),
];

/// Each AWS CLI command is a process with its own cache. It requests credentials twice if they expire within 15 min.
#[test]
fn aws_cli_requests_short_leases_twice_for_a_command() {
    for (lease, expected) in [("full", 1), ("strict", 2)] {
        let fixture = Fixture::new(&format!("lease = \"{lease}\""));
        let daemon = fixture.daemon();
        let url = &fixture.sts.url;
        let cli = installed("aws");

        let mut command = fixture.home.command(&cli);
        command.args([
            "--profile",
            "dev",
            "sts",
            "get-caller-identity",
            "--endpoint-url",
            url,
        ]);
        let run = fixture.home.run(command);
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(
            fixture.credential_requests(Delivery::Process, &daemon),
            expected,
            "{lease}"
        );

        let before = fixture.credential_requests(Delivery::Container, &daemon);
        let run = fixture.home.rolekeeper(&[
            "exec",
            "--mode",
            "http",
            "dev",
            "--",
            cli.to_str().expect("UTF-8"),
            "sts",
            "get-caller-identity",
            "--endpoint-url",
            url,
        ]);
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(
            fixture.credential_requests(Delivery::Container, &daemon) - before,
            expected,
            "{lease}"
        );
    }
}

#[test]
fn concurrent_sdk_clients_make_one_upstream_call() {
    let fixture = Fixture::new("");
    let _daemon = fixture.daemon();
    fixture
        .sandbox
        .fault(&serde_json::json!({ "kind": "delay", "ms": 500 }));

    let mut driver = fixture.start(Sdk::Botocore, Delivery::Process);
    assert_eq!(
        driver.request("threads 20"),
        serde_json::json!({ "accounts": 20, "errors": [] })
    );
    assert_eq!(fixture.process_runs(), 20);
    assert_eq!(fixture.sandbox.calls("assumeRole"), 1);

    let mut driver = fixture.start(Sdk::JavaScript, Delivery::Process);
    assert_eq!(
        driver.request("threads 20"),
        serde_json::json!({ "accounts": 20, "errors": [] })
    );
    assert_eq!(fixture.sandbox.calls("assumeRole"), 1);
}
