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

/// AWS configuration files that tools read in different ways, or not at all.
pub(super) const FILES: [&str; 22] = [
    "",
    "[default]\nregion = a\n",
    "[default]\nk = 1",
    "[profile dev]\nREGION = a\n\tmore\ncredential_process = /bin/rolekeeper credential-process dev\n",
    "[profile dev]\n  region = a\n  credential_process = /bin/rolekeeper credential-process dev\n",
    "[profile dev]\n  credential_process = /bin/rolekeeper credential-process dev\n  s3 =\n    k = 1\n[b]\nk = 1\n",
    "[profile dev]\ncredential_process: /bin/rolekeeper credential-process dev\n# c\n\n  # d\n[b]\n",
    "[profile dev]\r\ncredential_process = /bin/rolekeeper credential-process dev\r\nk = 1\r\n\r\n[b]\r\n",
    "[profile dev\nk = 1\n",
    "[a]\nk = 1\nk = 2\n",
    "[a]\nk = 1\n K = 2\n",
    "[a]\nk = 1\nK : 2\n",
    "[a]\n[b]\n[a]\n",
    "k = 1\n",
    "[a]\nk\n",
    "[a]\n= 1\n",
    "[a]\ns3 =\n  k = 1\n\n  # c\n  l = 2\n",
    "[a]\ns3 =\n  k\n",
    "\u{feff}[a]\n",
    "[a]\n\u{a0}k = 1\n\u{a0}\u{a0}l = 2\n",
    "[a]\nk = \u{e9} %(x)s ${y}\n",
    " [a]\n k = 1\n l = 2\n[b]\n",
];

/// What botocore reads in each file, and null if it cannot.
fn botocore_reads(home: &Home, files: &[String]) -> serde_json::Value {
    let mut program = python(
        home,
        "import botocore.configloader, json, sys\n\
         def load(path):\n\
         \x20   try: return botocore.configloader.load_config(path)\n\
         \x20   except botocore.exceptions.ConfigParseError: return None\n\
         print(json.dumps([load(path) for path in sys.argv[1:]]))",
    );
    program.args(files);

    home.run(program).json()
}

#[test]
fn botocore_reads_each_file_that_setup_has_written() {
    let home = Home::default();
    let client = programs().rolekeeper.canonicalize().unwrap();
    let files: Vec<String> = (0..FILES.len())
        .map(|n| home.private_file(&format!("aws-{n}"), FILES[n]))
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();

    let before = botocore_reads(&home, &files);
    let runs: Vec<Run> = files
        .iter()
        .map(|file| {
            home.rolekeeper(&[
                "setup", "aws", "dev", "--region", "eu-1", "--file", file, "--write",
            ])
        })
        .collect();
    let after = botocore_reads(&home, &files);

    let mut refused = 0;
    for (n, run) in runs.iter().enumerate() {
        let (mut before, mut after) = (before[n].clone(), after[n].clone());
        if run.code != 0 {
            refused += 1;
            let text = std::fs::read_to_string(&files[n]).unwrap();
            assert_eq!((run.code, text.as_str()), (2, FILES[n]), "{run:?}");
            assert!(before.is_null(), "botocore reads file {n}: {run:?}");
            continue;
        }

        let dev = after["profiles"]["dev"].take();
        assert_eq!(dev["region"], "eu-1", "file {n}");
        assert_eq!(
            dev["credential_process"],
            format!("{} credential-process dev", client.display())
        );
        let mut others = dev.as_object().unwrap().clone();
        others.retain(|key, _| !["region", "credential_process"].contains(&key.as_str()));
        let mut old = before["profiles"]["dev"].take();
        if let Some(old) = old.as_object_mut() {
            old.retain(|key, _| !["region", "credential_process"].contains(&key.as_str()));
        }
        assert_eq!(
            serde_json::Value::from(others),
            old_or_empty(old),
            "file {n}"
        );

        for profiles in [&mut before, &mut after] {
            profiles["profiles"].as_object_mut().unwrap().remove("dev");
        }
        assert_eq!(before, after, "file {n}");
    }

    assert_eq!(refused, 9);
}

fn old_or_empty(old: serde_json::Value) -> serde_json::Value {
    if old.is_null() { json!({}) } else { old }
}

#[test]
fn aws_configure_and_setup_change_the_same_profile() {
    let (_sandbox, home) = fixture();
    let _daemon = home.daemon(&[]);
    let setup = |options: &[&str]| {
        let run = home.rolekeeper(&[&["setup", "aws", "dev", "--write"], options].concat());
        assert_eq!(run.code, 0, "{run:?}");
    };
    let get = |name: &str| {
        let run = aws(&home, &["configure", "get", name, "--profile", "dev"]);
        run.stdout.trim().to_owned()
    };

    setup(&[]);
    for region in ["us-west-2", "us-west-1"] {
        let set = ["configure", "set", "region", region, "--profile", "dev"];
        assert_eq!(aws(&home, &set).code, 0);
        setup(&[]);
        assert_eq!(get("region"), region);
    }

    setup(&["--region", "eu-central-1"]);
    assert_eq!(get("region"), "eu-central-1");
    assert!(signed_by(&home).0.starts_with("BYIA"));
}
