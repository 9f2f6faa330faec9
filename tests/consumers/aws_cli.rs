//! The AWS CLI and boto3, with `credential_process` in the AWS configuration file.

use std::process::Command;

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, programs};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::installed;
use super::mock_server::MockServer;

/// A home whose AWS profiles `dev`, `notrust` and `wrong` get their credentials from rolekeeper.
/// rolekeeper has no profile `wrong`.
fn fixture() -> (SandboxProcess, Home) {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
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

/// Runs `aws sts get-caller-identity`. Returns the access key and the session token that signed the request.
fn signed_by(home: &Home) -> (String, String) {
    let sts = MockServer::sts("account");

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
fn second_aws_cli_command_uses_the_cached_session() {
    let (sandbox, home) = fixture();
    let _daemon = home.daemon(&[]);
    let expected = home.rolekeeper(&["credential-process", "dev"]).json();

    for (key, token) in [signed_by(&home), signed_by(&home)] {
        assert_eq!(
            (&json!(key), &json!(token)),
            (&expected["AccessKeyId"], &expected["SessionToken"])
        );
    }

    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn exec_modes_override_the_aws_credentials_file() {
    let (sandbox, home) = fixture();
    home.private_file(
        ".aws/credentials",
        "[default]\naws_access_key_id = AKIAWRONG\naws_secret_access_key = wrong\n",
    );
    let _daemon = home.daemon(&[]);
    let expected = home.rolekeeper(&["credential-process", "dev"]).json();
    let sts = MockServer::sts("account");
    let cli = installed("aws");
    let cli = cli.to_str().unwrap();

    for mode in ["env", "http", "imds"] {
        let call = [
            "sts",
            "get-caller-identity",
            "--region",
            "eu-central-1",
            "--endpoint-url",
            &sts.url,
        ];
        let run =
            home.rolekeeper(&[&["exec", "--mode", mode, "dev", "--", cli], &call[..]].concat());
        assert_eq!(run.code, 0, "{mode}: {run:?}");

        let (key, token) = sts.signers().remove(0);
        assert_eq!(
            (&json!(key), &json!(token)),
            (&expected["AccessKeyId"], &expected["SessionToken"]),
            "{mode}"
        );
    }

    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn aws_cli_starts_the_daemon_if_none_is_running() {
    let (sandbox, home) = fixture();

    let (key, _) = signed_by(&home);
    assert!(key.starts_with("BYIA"), "{key}");

    let status = home.rolekeeper(&["status", "--json"]).json();
    let pid = i32::try_from(status["daemon"]["pid"].as_u64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn boto3_signs_with_a_session_that_the_upstream_accepts() {
    let (sandbox, home) = fixture();
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
    let output = home.run(program).json();

    let expected = home.rolekeeper(&["credential-process", "dev"]).json();
    let key = expected["AccessKeyId"].as_str().unwrap();
    assert_eq!(output["method"], "custom-process");
    assert_eq!(output["status"], 200);
    assert_eq!(
        output["signed"],
        format!("AWS4-HMAC-SHA256 Credential={key}")
    );
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn aws_cli_prints_the_error_and_the_hint() {
    let (_sandbox, home) = fixture();
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
    for (profile, message) in cases {
        let run = aws(&home, &["sts", "get-caller-identity", "--profile", profile]);
        assert!(run.code != 0 && run.stderr.contains(message), "{run:?}");
    }
}
