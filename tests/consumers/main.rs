//! Real consumers: the AWS CLI and boto3, through a profile with `credential_process`; and a real tester of APIs for the
//! sandbox. `tests/run` installs them.

mod desktop;
mod revoked;
mod schemathesis;
mod systemd;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, programs};
use serde_json::json;

fn installed(program: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/consumers");
    let path = if program.contains('/') { folder.join(program) } else { folder.join("bin").join(program) };
    assert!(path.exists(), "{} is missing: run tests/consumers/setup", path.display());
    path
}

/// A home whose AWS profiles `dev` and `wrong` get their credentials from rolekeeper.
fn world() -> (SandboxProcess, Home) {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly"), ("notrust", "NoTrust")]);
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
    home.finish(command)
}

fn python(home: &Home, program: &str) -> Command {
    let mut command = home.command(&installed("python"));
    command.args(["-c", program]);
    command
}

/// `aws sts get-caller-identity` at a listener that notes what it was sent: the access key and the session token that
/// the request was signed with.
fn signed_by(home: &Home) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let noting = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let headers: Vec<String> =
            BufReader::new(&stream).lines().map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
        let body = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                    <Arn>arn</Arn><UserId>user</UserId><Account>account</Account>\
                    </GetCallerIdentityResult></GetCallerIdentityResponse>";
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let header = |name: &str| {
            let line =
                headers.iter().find_map(|line| line.to_lowercase().starts_with(name).then(|| &line[name.len()..]));
            line.unwrap_or_else(|| panic!("no {name} in {headers:?}")).trim().to_owned()
        };
        let credential =
            header("authorization:").split_once("Credential=").unwrap().1.split('/').next().unwrap().to_owned();
        (credential, header("x-amz-security-token:"))
    });
    let run =
        aws(home, &["sts", "get-caller-identity", "--profile", "dev", "--output", "json", "--endpoint-url", &url]);
    assert!(run.code == 0 && run.stdout.contains("\"Account\": \"account\""), "{run:?}");
    noting.join().unwrap()
}

#[test]
fn the_aws_cli_signs_with_the_session_and_a_second_command_makes_no_second_call() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let ours = home.rolekeeper(&["credential-process", "dev"]).json();
    for (key, token) in [signed_by(&home), signed_by(&home)] {
        assert_eq!((&json!(key), &json!(token)), (&ours["AccessKeyId"], &ours["SessionToken"]));
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
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM).unwrap();
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
    let said = home.finish(program).json();
    let ours = home.rolekeeper(&["credential-process", "dev"]).json();
    assert_eq!(said["method"], "custom-process");
    assert_eq!(said["status"], 200);
    let key = ours["AccessKeyId"].as_str().unwrap();
    assert_eq!(said["signed"], format!("AWS4-HMAC-SHA256 Credential={key}"));
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn twenty_threads_of_a_fresh_boto3_session_run_many_processes_and_make_one_upstream_call() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    sandbox.fault(&json!({ "kind": "delay", "ms": 500 }));
    let said = home.finish(python(
        &home,
        "import boto3, json\n\
         from concurrent.futures import ThreadPoolExecutor\n\
         def key(_): return boto3.Session(profile_name='dev').get_credentials().get_frozen_credentials().access_key\n\
         with ThreadPoolExecutor(20) as pool: print(json.dumps(sorted(set(pool.map(key, range(20))))))",
    ));
    assert_eq!(said.json().as_array().map(Vec::len), Some(1));
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

#[test]
fn a_person_at_the_aws_cli_reads_what_is_wrong_and_what_to_do() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let cases = [
        ("wrong", "there is no profile `wrong` (unknown_profile)\n  try: "),
        ("notrust", "the trust policy of role NoTrust does not allow the caller"),
    ];
    for (profile, words) in cases {
        let run = aws(&home, &["sts", "get-caller-identity", "--profile", profile]);
        assert!(run.code != 0 && run.stderr.contains(words), "{run:?}");
    }
}
