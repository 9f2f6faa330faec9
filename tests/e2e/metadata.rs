//! Instance metadata: IMDSv2 exactly, and for the processes of one user.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rolekeeper_tests::harness::{Endpoint, HttpResponse, world};
use serde_json::json;

/// A session token of IMDSv2.
pub(super) fn imds_token(imds: &Endpoint) -> String {
    let answer = imds.ask(
        "PUT",
        "/latest/api/token",
        &[("X-aws-ec2-metadata-token-ttl-seconds", "21600")],
    );

    assert!(
        answer.status == 200
            && answer
                .head
                .contains("x-aws-ec2-metadata-token-ttl-seconds: 21600"),
        "{answer:?}"
    );

    answer.body
}

fn imds_get(imds: &Endpoint, path: &str) -> HttpResponse {
    imds.ask(
        "GET",
        path,
        &[("X-aws-ec2-metadata-token", &imds_token(imds))],
    )
}

pub(super) const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

#[test]
fn metadata_follows_imdsv2() {
    let (_sandbox, home) = world();
    home.configure_more("", "region = \"eu-central-1\"");
    let _daemon = home.daemon(&[]);

    let ours = home.rolekeeper(&["credential-process", "dev"]).json();
    let imds = Endpoint::of(&home, "dev", "imds");
    assert_eq!(imds.path, "/", "SDKs drop a path");

    let answer = imds_get(&imds, ROLES);
    assert_eq!((answer.status, answer.body.as_str()), (200, "dev"));

    let answer = imds_get(&imds, &format!("{ROLES}dev"));
    assert!(
        answer
            .head
            .contains("x-aws-ec2-metadata-token-ttl-seconds: "),
        "{answer:?}"
    );

    let document = answer.json();

    assert!(!answer.body.contains('\n'));
    assert_eq!(
        (&document["Code"], &document["Type"]),
        (&json!("Success"), &json!("AWS-HMAC"))
    );
    assert_eq!(
        (&document["AccessKeyId"], &document["Token"]),
        (&ours["AccessKeyId"], &ours["SessionToken"])
    );
    assert!(document["Expiration"].as_str().unwrap().ends_with('Z'));
    assert!(document["LastUpdated"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        imds_get(&imds, "/latest/meta-data/placement/region").body,
        "eu-central-1"
    );
    assert_eq!(
        imds_get(&imds, "/latest/meta-data/placement/availability-zone/").body,
        "eu-central-1a"
    );
    assert_eq!(
        imds_get(&imds, "/latest/dynamic/instance-identity/document").json()["region"],
        "eu-central-1"
    );

    for (path, status) in [
        (format!("{ROLES}other"), 404),
        ("/".into(), 404),
        ("/latest/user-data".into(), 404),
    ] {
        assert_eq!(imds_get(&imds, &path).status, status, "{path}");
    }

    // IMDSv1; a wrong token; no lifetime; a proxy; a wrong method.
    assert_eq!(imds.ask("GET", &format!("{ROLES}dev"), &[]).status, 401);
    assert_eq!(
        imds.ask(
            "GET",
            &format!("{ROLES}dev"),
            &[("X-aws-ec2-metadata-token", "x")]
        )
        .status,
        401
    );
    assert_eq!(imds.ask("PUT", "/latest/api/token", &[]).status, 400);

    let ttl = ("X-aws-ec2-metadata-token-ttl-seconds", "60");
    assert_eq!(
        imds.ask(
            "PUT",
            "/latest/api/token",
            &[ttl, ("X-Forwarded-For", "192.0.2.1")]
        )
        .status,
        403
    );
    assert_eq!(imds.ask("GET", "/latest/api/token", &[ttl]).status, 405);

    home.rolekeeper(&["logout", "dev"]);
    let document = imds_get(&imds, &format!("{ROLES}dev")).json();
    assert_eq!(document["Code"], "AssumeRoleUnauthorizedAccess");
    assert!(
        document["Message"]
            .as_str()
            .unwrap()
            .contains("profile dev is held"),
        "{document}"
    );
}

/// The kernel names the user of each connection. Only root can connect as another user.
#[test]
#[ignore = "needs root"]
fn other_users_are_refused() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let imds = Endpoint::of(&home, "dev", "imds");

    assert_eq!(status_for(&imds, None), "200");
    assert_eq!(status_for(&imds, Some(65_534)), "403");
}

/// The HTTP status that a user gets for a token request.
fn status_for(imds: &Endpoint, uid: Option<u32>) -> String {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--request", "PUT", "--output", "/dev/null"])
        .args(["--write-out", "%{http_code}"])
        .args(["--header", "X-aws-ec2-metadata-token-ttl-seconds: 60"])
        .arg(format!("http://{}/latest/api/token", imds.host));

    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }

    String::from_utf8(command.output().expect("curl starts").stdout).unwrap()
}
