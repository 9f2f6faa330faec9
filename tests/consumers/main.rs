//! Real consumers: the AWS CLI and boto3, through a profile with `credential_process`; and a real tester of APIs for the
//! sandbox. `tests/run` installs them.

mod bus;
mod desktop;
mod driver;
mod keyring;
mod plugins;
mod revoked;
mod s3;
mod schemathesis;
mod sdks;
mod systemd;
#[path = "../e2e/tls_door.rs"]
mod tls_door;
mod witness;

use std::path::{Path, PathBuf};
use std::process::Command;

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, programs};
use serde_json::json;

use witness::Witness;

fn installed(program: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/consumers");
    let path = if program.contains('/') {
        folder.join(program)
    } else {
        folder.join("bin").join(program)
    };
    assert!(
        path.exists(),
        "{} is missing: run tests/consumers/setup",
        path.display()
    );
    path
}

/// # Panics
/// When `tests/consumers/setup` could not install a part of the consumers.
fn assert_installed(part: &str) {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/consumers/missing.txt");
    let missing = std::fs::read_to_string(list).unwrap_or_default();

    assert!(
        !missing.lines().any(|line| line == part),
        "{part} is not installed: run tests/consumers/setup {part}"
    );
}

/// A home whose AWS profiles `dev` and `wrong` get their credentials from rolekeeper.
fn world() -> (SandboxProcess, Home) {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    home.configure_for(
        &sandbox,
        "dev",
        &[("dev", "S3ReadOnly"), ("notrust", "NoTrust")],
    );
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let client = programs().rolekeeper.canonicalize().unwrap();
    let profiles = ["dev", "notrust", "wrong"].map(|name| {
        format!(
            "[profile {name}]\nregion = eu-central-1\ncredential_process = {} credential-process {name}\n",
            client.display()
        )
    });
    home.private_file(".aws/config", &profiles.concat());
    (sandbox, home)
}

fn aws(home: &Home, args: &[&str]) -> Run {
    let mut command = home.command(&installed("aws"));
    command.args(args);
    home.run(command)
}

fn python(home: &Home, program: &str) -> Command {
    let mut command = home.command(&installed("python"));
    command.args(["-c", program]);
    command
}

/// `aws sts get-caller-identity`: the access key and the session token that the request was signed with.
fn signed_by(home: &Home) -> (String, String) {
    let sts = Witness::sts("account");
    let run = aws(
        home,
        &[
            "sts",
            "get-caller-identity",
            "--profile",
            "dev",
            "--output",
            "json",
            "--endpoint-url",
            &sts.url,
        ],
    );
    assert!(
        run.code == 0 && run.stdout.contains("\"Account\": \"account\""),
        "{run:?}"
    );
    sts.signers().remove(0)
}

#[test]
fn the_aws_cli_signs_with_the_session_and_a_second_command_makes_no_second_call() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let ours = home.rolekeeper(&["credential-process", "dev"]).json();
    for (key, token) in [signed_by(&home), signed_by(&home)] {
        assert_eq!(
            (&json!(key), &json!(token)),
            (&ours["AccessKeyId"], &ours["SessionToken"])
        );
    }
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn the_aws_cli_works_by_every_mode_of_exec_whatever_its_own_files_say() {
    let (sandbox, home) = world();
    home.private_file(
        ".aws/credentials",
        "[default]\naws_access_key_id = AKIAWRONG\naws_secret_access_key = wrong\n",
    );
    let _daemon = home.daemon(&[]);
    let ours = home.rolekeeper(&["credential-process", "dev"]).json();
    let (sts, cli) = (Witness::sts("account"), installed("aws"));
    for mode in ["env", "http", "imds"] {
        let call = [
            "sts",
            "get-caller-identity",
            "--region",
            "eu-central-1",
            "--endpoint-url",
            &sts.url,
        ];
        let cli = cli.to_str().unwrap();
        let run =
            home.rolekeeper(&[&["exec", "--mode", mode, "dev", "--", cli], &call[..]].concat());
        assert_eq!(run.code, 0, "{mode}: {run:?}");
        let (key, token) = sts.signers().remove(0);
        assert_eq!(
            (&json!(key), &json!(token)),
            (&ours["AccessKeyId"], &ours["SessionToken"]),
            "{mode}"
        );
    }
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn the_aws_cli_starts_the_daemon_if_none_is_running() {
    let (sandbox, home) = world();
    let (key, _) = signed_by(&home);
    assert!(key.starts_with("BYIA"), "{key}");
    let status = home.rolekeeper(&["status", "--json"]).json();
    let pid = i32::try_from(status["daemon"]["pid"].as_u64().unwrap()).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn boto3_signs_with_them_and_the_upstream_knows_them() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let mut program = python(
        &home,
        "import boto3, json, os, urllib.request\n\
         from botocore.auth import SigV4Auth\n\
         from botocore.awsrequest import AWSRequest\n\
         credentials = boto3.Session(profile_name='dev').get_credentials()\n\
         request = AWSRequest('GET', 'https://s3.example.test/')\n\
         SigV4Auth(credentials, 's3', 'eu-central-1').add_auth(request)\n\
         token = request.headers['X-Amz-Security-Token']\n\
         call = urllib.request.Request(os.environ['ENDPOINT'] + '/iam/v1/roles', headers={'Authorization': 'Bearer ' + token})\n\
         print(json.dumps({'method': credentials.method, 'status': urllib.request.urlopen(call).status,\n\
                           'signed': request.headers['Authorization'].split('/')[0]}))",
    );
    program.env("ENDPOINT", sandbox.endpoint());
    let said = home.run(program).json();
    let ours = home.rolekeeper(&["credential-process", "dev"]).json();
    assert_eq!(said["method"], "custom-process");
    assert_eq!(said["status"], 200);
    let key = ours["AccessKeyId"].as_str().unwrap();
    assert_eq!(said["signed"], format!("AWS4-HMAC-SHA256 Credential={key}"));
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn a_person_at_the_aws_cli_reads_what_is_wrong_and_what_to_do() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let cases = [
        (
            "wrong",
            "there is no profile `wrong` (unknown_profile)\n  try: ",
        ),
        (
            "notrust",
            "the trust policy of role NoTrust does not allow the caller",
        ),
    ];
    for (profile, words) in cases {
        let run = aws(&home, &["sts", "get-caller-identity", "--profile", profile]);
        assert!(run.code != 0 && run.stderr.contains(words), "{run:?}");
    }
}
