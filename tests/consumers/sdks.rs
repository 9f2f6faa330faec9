//! Every SDK with its default credential chain, through every endpoint that it supports: which credentials it signs with,
//! how often it asks for them, and what its user reads when there are none.

use std::path::PathBuf;

use rolekeeper_tests::harness::{
    Daemon, Home, SandboxProcess, eventually, programs, short_or_long,
};

use super::driver::{Driver, source};
use super::witness::Witness;
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

/// How the credentials get to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Environment,
    Process,
    Container,
    Metadata,
}

const SDKS: [Sdk; 5] = [
    Sdk::Botocore,
    Sdk::JavaScript,
    Sdk::Go,
    Sdk::Java,
    Sdk::Rust,
];
const WAYS: [Delivery; 4] = [
    Delivery::Environment,
    Delivery::Process,
    Delivery::Container,
    Delivery::Metadata,
];

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

/// What the tests here start from.
struct World {
    sandbox: SandboxProcess,
    home: Home,
    sts: Witness,
}

impl World {
    fn new(more: &str) -> Self {
        let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
        home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
        home.configure_more(
            "",
            &format!("region = \"eu-central-1\"\naccount_id = \"{ACCOUNT}\"\n{more}"),
        );
        std::fs::create_dir(home.path().join(".aws")).expect("a folder");
        let client = programs().rolekeeper.canonicalize().expect("it is built");
        // Its runs are counted.
        let counted = home.private_file(
            "counted",
            &format!(
                "#!/bin/sh\necho run >> {}\nexec {} credential-process \"$1\"\n",
                home.path().join("runs").display(),
                client.display()
            ),
        );
        std::fs::set_permissions(
            &counted,
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .expect("it is set");
        let config = format!(
            "[profile dev]\nregion = eu-central-1\ncredential_process = {} dev\n",
            counted.display()
        );
        home.private_file(".aws/config", &config);
        Self {
            sandbox,
            home,
            sts: Witness::sts(ACCOUNT),
        }
    }

    fn daemon(&self) -> Daemon<'_> {
        self.home
            .daemon(&["--log", "info,rolekeeperd::serve::http=debug"])
    }

    /// Starts the SDK's driver as its user would.
    fn start(&self, sdk: Sdk, way: Delivery) -> Driver {
        self.start_with(sdk, way, &[])
    }

    /// The same, where these variables are set.
    fn start_with(&self, sdk: Sdk, way: Delivery, variables: &[(&str, &str)]) -> Driver {
        let words = sdk.program();
        let mut command = match way {
            Delivery::Process => {
                let mut command = self.home.command(&words[0]);
                command.args(&words[1..]).env("AWS_PROFILE", "dev");
                command
            }
            Delivery::Environment | Delivery::Container | Delivery::Metadata => {
                let mode = [
                    (Delivery::Environment, "env"),
                    (Delivery::Container, "http"),
                    (Delivery::Metadata, "imds"),
                ];
                let mode = mode
                    .iter()
                    .find(|(each, _)| *each == way)
                    .map(|(_, mode)| *mode)
                    .expect("a mode");
                let mut command = self.home.client();
                command
                    .args(["exec", "--mode", mode, "dev", "--"])
                    .args(&words);
                command
            }
        };
        command
            .envs(variables.iter().copied())
            .env("STS_ENDPOINT", &self.sts.url);
        Driver::start(&self.home, command)
    }

    /// How often credentials were asked for: processes that were run, answers of an endpoint.
    fn asked(&self, way: Delivery, daemon: &Daemon<'_>) -> usize {
        match way {
            Delivery::Environment => 0,
            Delivery::Process => std::fs::read_to_string(self.home.path().join("runs"))
                .unwrap_or_default()
                .lines()
                .count(),
            Delivery::Container => daemon.log().matches("answered endpoint=container").count(),
            Delivery::Metadata => daemon.log().matches("answered endpoint=imds.dev").count(),
        }
    }
}

/// Every pair of an SDK and a delivery. `tests/consumers/setup` installs the last two SDKs only for the long version.
fn each(mut check: impl FnMut(Sdk, Delivery)) {
    for sdk in SDKS.into_iter().take(short_or_long(3, SDKS.len())) {
        WAYS.into_iter().for_each(|way| check(sdk, way));
    }
}

/// Asks so many times, and returns how often the SDK asked for credentials meanwhile. It must have signed with ours.
fn good(world: &World, daemon: &Daemon<'_>, sdk: Sdk, way: Delivery, times: usize) -> usize {
    let before = world.asked(way, daemon);
    let mut driver = world.start(sdk, way);
    for _ in 0..times {
        let said = driver.ask("");
        assert_eq!(said["account"], ACCOUNT, "{sdk:?} {way:?}: {said}");
    }
    let ours = world.home.rolekeeper(&["credential-process", "dev"]).json();
    let text = |name: &str| ours[name].as_str().expect("a text").to_owned();
    assert_eq!(
        world.sts.signers(),
        vec![(text("AccessKeyId"), text("SessionToken")); times],
        "{sdk:?} {way:?}"
    );
    world.asked(way, daemon) - before
}

#[test]
fn every_sdk_signs_with_the_session_by_every_way_and_asks_once() {
    let world = World::new("lease = \"full\"");
    let daemon = world.daemon();
    each(|sdk, way| {
        let want = match way {
            Delivery::Environment => 0,
            Delivery::Process | Delivery::Container => 1,
            // The token, the role's name, its credentials.
            Delivery::Metadata => 3,
        };
        assert_eq!(good(&world, &daemon, sdk, way, 3), want, "{sdk:?} {way:?}");
    });
    assert_eq!(world.sandbox.calls("assumeRole"), 1);
}

/// How often an SDK asks for three requests, by what it is advertised: for the table in the README.
#[test]
fn a_short_lease_costs_each_sdk_what_is_documented() {
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
        let world = World::new(&format!("lease = \"{lease}\""));
        let daemon = world.daemon();
        each(|sdk, way| {
            let at = SDKS
                .iter()
                .position(|each| *each == sdk)
                .expect("one of them");
            // Some ask in the background, and some of those twice.
            let (least, most) = match way {
                Delivery::Process => process[at],
                Delivery::Container => container[at],
                Delivery::Environment | Delivery::Metadata => return,
            };
            let asked = good(&world, &daemon, sdk, way, 3);
            assert!(
                (least..=most).contains(&asked),
                "{lease} {sdk:?} {way:?}: {asked}"
            );
        });
        assert_eq!(world.sandbox.calls("assumeRole"), 1);
    }
}

/// What the user of a program reads whose profile is held, and how often the SDK tries.
#[test]
fn a_held_profile_is_an_error_after_a_few_tries_and_nothing_is_signed() {
    let held = "profile dev is held";
    let none = "Could not load credentials from any providers";
    let table = [
        (Sdk::Botocore, Delivery::Process, held, 1),
        (Sdk::Botocore, Delivery::Container, held, 3),
        (
            Sdk::Botocore,
            Delivery::Metadata,
            "Unable to locate credentials",
            3,
        ),
        (Sdk::JavaScript, Delivery::Process, none, 2),
        (Sdk::JavaScript, Delivery::Container, none, 5),
        (Sdk::JavaScript, Delivery::Metadata, none, 3),
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
    each(|sdk, way| {
        let row = table.iter().find(|(of, by, ..)| (*of, *by) == (sdk, way));
        let Some((_, _, words, tries)) = row else {
            return;
        };
        let world = World::new("");
        let daemon = world.daemon();
        let mut driver = world.start(sdk, way);
        // Once the endpoint is open `exec` has all that it needs, and the SDK has not asked yet.
        let status = || world.home.rolekeeper(&["status", "--json"]).json();
        let is_open = || way == Delivery::Process || status()["daemon"]["endpoints"].is_object();
        eventually("the endpoint is open", || is_open().then_some(()));
        assert_eq!(world.home.rolekeeper(&["logout", "dev"]).code, 0);
        let before = world.asked(way, &daemon);
        let said = driver.ask("");
        assert!(
            said["error"]
                .as_str()
                .is_some_and(|error| error.contains(words)),
            "{sdk:?} {way:?}: {said}"
        );
        assert_eq!(
            world.asked(way, &daemon) - before,
            *tries,
            "{sdk:?} {way:?}: {said}"
        );
        assert_eq!(world.sts.signers(), [], "{sdk:?} {way:?}");
    });
}

/// Less is left than botocore can do without a refresh: it asks each time, and must be answered.
#[test]
fn an_upstream_that_is_away_is_no_news_to_an_sdk_while_there_is_a_session() {
    let world = World::new("");
    world.sandbox.control(
        "POST",
        "/limits",
        Some(serde_json::json!({ "max_session_seconds": 300 })),
    );
    let daemon = world.daemon();
    world.home.rolekeeper(&["credential-process", "dev"]).json();
    world
        .sandbox
        .fault(&serde_json::json!({ "kind": "status", "status": 503 }));
    each(|sdk, way| {
        good(&world, &daemon, sdk, way, 2);
    });
}

/// Everything that would come before, or in between, is there.
#[test]
fn exec_gets_past_whatever_else_is_configured_on_the_machine() {
    let world = World::new("");
    let daemon = world.daemon();
    world.home.private_file(
        ".aws/credentials",
        "[default]\naws_access_key_id = AKIAWRONG\naws_secret_access_key = wrong\n",
    );
    world.home.private_file(
        ".boto",
        "[Credentials]\naws_access_key_id = AKIAWRONG\naws_secret_access_key = wrong\n",
    );
    each(|sdk, way| {
        if way == Delivery::Process {
            return;
        }
        let ours = world.home.rolekeeper(&["credential-process", "dev"]).json();
        // The service is asked through a proxy, too, if there is one: only in the other ways is that kept off this machine.
        let others = if way == Delivery::Environment {
            &OTHERS[..OTHERS.len() - 2]
        } else {
            &OTHERS
        };
        let mut driver = world.start_with(sdk, way, others);
        let said = driver.ask("");
        assert_eq!(said["account"], ACCOUNT, "{sdk:?} {way:?}: {said}");
        let (key, _) = world.sts.signers().remove(0);
        assert_eq!(ours["AccessKeyId"], key, "{sdk:?} {way:?}");
    });
    drop(daemon);
}

const OTHERS: [(&str, &str); 10] = [
    ("AWS_PROFILE", "missing"),
    ("AWS_DEFAULT_PROFILE", "missing"),
    ("AWS_ACCESS_KEY_ID", "AKIAOTHER"),
    ("AWS_SECURITY_TOKEN", "old"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere"),
    ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/other"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/other"),
    ("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z"),
    // Nobody listens there.
    ("HTTP_PROXY", "http://127.0.0.1:9"),
    ("http_proxy", "http://127.0.0.1:9"),
];

/// A command is a process of its own, which asks anew, and twice if it is told that less than 15 min are left.
#[test]
fn the_aws_cli_asks_once_for_a_command_and_twice_with_a_short_lease() {
    for (lease, want) in [("full", 1), ("strict", 2)] {
        let world = World::new(&format!("lease = \"{lease}\""));
        let daemon = world.daemon();
        let url = &world.sts.url;
        let mut command = world.home.command(&installed("aws"));
        command.args([
            "--profile",
            "dev",
            "sts",
            "get-caller-identity",
            "--endpoint-url",
            url,
        ]);
        let run = world.home.run(command);
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(world.asked(Delivery::Process, &daemon), want, "{lease}");
        let before = world.asked(Delivery::Container, &daemon);
        let cli = installed("aws");
        let words = [
            "exec",
            "--mode",
            "http",
            "dev",
            "--",
            cli.to_str().expect("text"),
        ];
        let run = world.home.rolekeeper(
            &[
                &words[..],
                &["sts", "get-caller-identity", "--endpoint-url", url],
            ]
            .concat(),
        );
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(
            world.asked(Delivery::Container, &daemon) - before,
            want,
            "{lease}"
        );
    }
}

#[test]
fn many_threads_of_a_fresh_session_make_one_upstream_call() {
    let world = World::new("");
    let _daemon = world.daemon();
    world
        .sandbox
        .fault(&serde_json::json!({ "kind": "delay", "ms": 500 }));
    let mut driver = world.start(Sdk::Botocore, Delivery::Process);
    assert_eq!(
        driver.ask("threads 20"),
        serde_json::json!({ "accounts": 20, "errors": [] })
    );
    let runs = std::fs::read_to_string(world.home.path().join("runs"))
        .expect("there were some")
        .lines()
        .count();
    assert_eq!((runs, world.sandbox.calls("assumeRole")), (20, 1));

    let mut driver = world.start(Sdk::JavaScript, Delivery::Process);
    assert_eq!(
        driver.ask("threads 20"),
        serde_json::json!({ "accounts": 20, "errors": [] })
    );
    assert_eq!(world.sandbox.calls("assumeRole"), 1);
}
