//! `exec` and `env`: the variables that a command gets, and the ones that are removed because they
//! would take precedence.

use std::process::Command;

use rolekeeper_tests::harness::{Home, world};
use serde_json::{Map, Value};

/// The environment of a command, started with all shadowing variables set.
fn environment(home: &Home, mode: &str, more: &[(&str, &str)]) -> Value {
    let mut command = home.client();
    for name in SHADOWING {
        command.env(name, "shadow");
    }

    command
        .env("AWS_BEARER_TOKEN_BEDROCK", "shadow")
        .envs(more.iter().copied());
    let output = command
        .args(["exec", "--mode", mode, "dev", "--", "env"])
        .output()
        .unwrap();

    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{mode}"
    );

    let lines = String::from_utf8(output.stdout).unwrap();
    let variables = lines.lines().filter_map(|line| line.split_once('='));
    let seen: Map<String, Value> = variables
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let shadowed: Vec<_> = seen
        .iter()
        .filter(|(_, value)| *value == "shadow")
        .collect();

    assert!(shadowed.is_empty(), "{mode}: {shadowed:?}");

    seen.into()
}

const SHADOWING: [&str; 25] = [
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_ACCOUNT_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_CREDENTIAL_FILE",
    "AWS_CREDENTIAL_SCOPE",
    "AWS_DEFAULT_PROFILE",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_IMDS_USE_IPV6",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SDK_LOAD_CONFIG",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "BOTO_CONFIG",
    "SECRET_ACCESS_KEY",
];

#[test]
fn each_mode_sets_its_variables_and_removes_shadowing_ones() {
    let (_sandbox, home) = world();
    home.configure_more(
        "",
        "region = \"eu-central-1\"\naccount_id = \"012345678901\"",
    );
    let _daemon = home.daemon(&[]);

    let ours = home.rolekeeper(&["credential-process", "dev"]).json();

    let seen = environment(
        &home,
        "env",
        &[("AWS_CONFIG_FILE", "/my/config"), ("NO_PROXY", "x.test")],
    );

    assert_eq!(seen["AWS_ACCESS_KEY_ID"], ours["AccessKeyId"]);
    assert_eq!(seen["AWS_SECRET_ACCESS_KEY"], ours["SecretAccessKey"]);
    assert_eq!(seen["AWS_SESSION_TOKEN"], ours["SessionToken"]);
    assert!(
        seen["AWS_CREDENTIAL_EXPIRATION"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    assert_eq!(
        (&seen["AWS_CONFIG_FILE"], &seen["NO_PROXY"]),
        (&Value::from("/my/config"), &Value::from("x.test"))
    );
    assert_eq!(seen["AWS_ACCOUNT_ID"], "012345678901");

    let assert_region_and_profile = |seen: &Value| {
        for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
            assert_eq!(seen[name], "eu-central-1");
        }

        assert_eq!(seen["ROLEKEEPER_PROFILE"], "dev");
    };

    assert_region_and_profile(&seen);

    for mode in ["http", "imds"] {
        let seen = environment(
            &home,
            mode,
            &[("AWS_CONFIG_FILE", "/my/config"), ("NO_PROXY", "x.test")],
        );
        assert_region_and_profile(&seen);
        assert_eq!(seen["AWS_SECRET_ACCESS_KEY"], Value::Null);
        for name in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"] {
            assert_eq!(seen[name], "/dev/null");
        }
        for name in ["NO_PROXY", "no_proxy"] {
            assert_eq!(seen[name], "x.test,127.0.0.1,localhost");
        }
        let has = |name: &str| seen[name].is_string();
        assert_eq!(has("AWS_CONTAINER_CREDENTIALS_FULL_URI"), mode == "http");
        assert_eq!(
            has("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            mode == "http"
        );
        assert_eq!(has("AWS_EC2_METADATA_SERVICE_ENDPOINT"), mode == "imds");
    }
}

#[test]
fn replaced_files_of_the_user_are_named() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let stderr = |mode: &str, value: &str| {
        let mut command = home.client();
        command.args(["exec", "--mode", mode, "dev", "--", "true"]);
        let run = home.run(set(command, "AWS_CONFIG_FILE", value));
        assert_eq!(run.code, 0, "{run:?}");
        run.stderr
    };

    for mode in ["http", "imds"] {
        let want = format!(
            "rolekeeper: --mode {mode} replaces AWS_CONFIG_FILE, which could lead to other credentials\n"
        );
        assert_eq!(stderr(mode, "/my/config"), want);
        assert_eq!(stderr(mode, "/dev/null"), "");
    }
    assert_eq!(stderr("env", "/my/config"), "");
}

fn set(mut command: Command, name: &str, value: &str) -> Command {
    command.env(name, value);
    command
}

#[test]
fn region_of_caller_is_kept_if_profile_has_none() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let seen = environment(&home, "env", &[("AWS_REGION", "us-test-1")]);
    assert_eq!(
        (&seen["AWS_REGION"], &seen["AWS_DEFAULT_REGION"]),
        (&Value::from("us-test-1"), &Value::Null)
    );
}

#[test]
fn exit_code_is_127_if_missing_and_126_if_not_executable() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let file = home.private_file("not-a-program", "");

    for on_revoke in [&[][..], &["--on-revoke", "warn"]] {
        let run = |command: &str| {
            let mut client = home.client();
            client
                .env("ROLEKEEPER_AUTOSTART", "0")
                // A folder in `PATH` that is closed to this user would give 126.
                .env("PATH", "/usr/bin:/bin")
                .arg("exec")
                .args(on_revoke)
                .args(["dev", "--", command]);
            home.run(client)
        };
        let missing = run("no-such-program");
        let forbidden = run(file.to_str().unwrap());
        assert_eq!(
            (missing.code, forbidden.code),
            (127, 126),
            "{missing:?} {forbidden:?}"
        );
        assert!(
            missing.stderr.contains("no-such-program: No such file"),
            "{missing:?}"
        );
        assert!(
            forbidden.stderr.contains("Permission denied"),
            "{forbidden:?}"
        );
    }
}

#[test]
fn arguments_of_the_command_are_not_parsed() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    for before in [&["exec", "dev"][..], &["exec", "dev", "--"]] {
        let run = home.rolekeeper(&[before, &["echo", "a", "--", "--mode", "b"]].concat());
        assert_eq!((run.code, &*run.stdout), (0, "a -- --mode b\n"), "{run:?}");
    }
}

#[test]
fn nested_exec_is_refused_unless_profile_variable_is_unset() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let client = rolekeeper_tests::harness::programs()
        .rolekeeper
        .canonicalize()
        .unwrap();
    let client = client.to_str().unwrap();
    let nested = home.rolekeeper(&["exec", "dev", "--", client, "exec", "dev", "--", "true"]);
    assert_eq!(nested.code, 2, "{nested:?}");
    assert!(
        nested
            .stderr
            .contains("already inside of `rolekeeper exec dev`"),
        "{nested:?}"
    );

    let unset = [
        "exec",
        "dev",
        "--",
        "env",
        "-u",
        "ROLEKEEPER_PROFILE",
        client,
        "exec",
        "dev",
        "--",
        "true",
    ];

    assert_eq!(home.rolekeeper(&unset).code, 0);
    assert_eq!(
        home.rolekeeper(&["exec", "dev", "--", client, "credential-process", "dev"])
            .code,
        0
    );
}

/// The output of `env`. It contains a lease, so it does not go through the leak search.
fn env(home: &Home, format: &str) -> String {
    let output = home
        .client()
        .args(["env", "dev", "--format", format])
        .output()
        .unwrap();

    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{format}"
    );

    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn env_output_gives_a_shell_the_same_variables_as_exec() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let ours = home.rolekeeper(&["credential-process", "dev"]).json();
    let print = "printf %s \"$AWS_ACCESS_KEY_ID $AWS_SESSION_TOKEN ${AWS_PROFILE-gone} ${ROLEKEEPER_PROFILE-none}\"";

    let expected = format!(
        "{} {} gone none",
        ours["AccessKeyId"].as_str().unwrap(),
        ours["SessionToken"].as_str().unwrap()
    );

    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("{}\n{print}", env(&home, "sh"))])
        .env("AWS_PROFILE", "shadow");

    assert_eq!(
        String::from_utf8(shell.output().unwrap().stdout).unwrap(),
        expected
    );

    // From mode http to mode env: the variables of the first are unset.
    let client = home.client().get_program().to_str().unwrap().to_owned();
    let mut shell = home.command(std::path::Path::new("sh"));
    let modes = format!(
        "eval \"$({client} env --mode http dev)\"; first=$AWS_CONFIG_FILE; eval \"$({client} env dev)\""
    );

    shell.args([
        "-c",
        &format!(
            "{modes}; echo $first ${{AWS_CONFIG_FILE-gone}} ${{AWS_SHARED_CREDENTIALS_FILE-gone}}"
        ),
    ]);

    assert_eq!(
        String::from_utf8(shell.output().unwrap().stdout).unwrap(),
        "/dev/null gone gone\n"
    );

    let json = home.rolekeeper(&["env", "dev", "--format", "json"]).json();
    assert_eq!(
        (&json["AWS_ACCESS_KEY_ID"], &json["AWS_PROFILE"]),
        (&ours["AccessKeyId"], &Value::Null)
    );

    for format in ["fish", "powershell", "dotenv"] {
        assert!(
            env(&home, format).contains(ours["AccessKeyId"].as_str().unwrap()),
            "{format}"
        );
    }

    let wrong = home.rolekeeper(&["env", "dev", "--format", "csh"]);
    assert!(
        wrong.code == 2
            && wrong
                .stderr
                .contains("possible values: sh, fish, powershell, dotenv, json"),
        "{wrong:?}"
    );
}
