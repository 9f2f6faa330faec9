//! `rolekeeper kube PROFILE`: prints the session token for Kubernetes clients, as a credential plugin (client-go,
//! `client.authentication.k8s.io`). `KUBERNETES_EXEC_INFO` may come from an untrusted kubeconfig: errors do not repeat it,
//! and with `--server` other clusters get no token.

use std::ffi::OsString;
use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, Lease};
use serde::{Deserialize, Serialize};

use super::address::Origin;
use super::iam::suggest;
use super::lease;
use crate::command;

pub(crate) const HELP: &str = "\
In a kubeconfig:

  users:
  - name: dev
    user:
      exec:
        apiVersion: client.authentication.k8s.io/v1
        command: /usr/local/bin/rolekeeper
        args: [kube, dev, --server, \"https://k8s.example.test:6443\"]
        interactiveMode: Never
        provideClusterInfo: true

With --server only that cluster gets the token; scheme, host and port must match. It requires provideClusterInfo: true.
A client such as kubectl runs this command once, and again when the token has expired.";

const INFO: &str = "KUBERNETES_EXEC_INFO";
const GROUP: &str = "client.authentication.k8s.io/";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles))]
    profile: String,
    /// Allow only this cluster; can be repeated
    #[arg(long = "server", value_name = "URL", value_parser = server)]
    servers: Vec<Origin>,
}

fn server(text: &str) -> Result<Origin, String> {
    match Origin::of_url(text) {
        Some((origin, "" | "/")) => Ok(origin),
        _ => Err("expected scheme, host and port, such as https://k8s.example.test:6443".into()),
    }
}

pub(crate) fn run(arguments: &Arguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    let request = parse_request(connect::variable(INFO))?;
    check_cluster(arguments, request.cluster)?;

    let document = lease::ask(&arguments.profile, socket, |lease| {
        document(request.version, lease)
    })?;
    command::print(&command::escaped_json(&document))
}

/// The client's request.
#[derive(Debug, PartialEq, Eq)]
struct ExecRequest {
    version: &'static str,
    cluster: Option<Cluster>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Cluster {
    server: String,
}

/// Parses the variable. Without it a user runs this command.
fn parse_request(info: Option<OsString>) -> Result<ExecRequest, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        api_version: String,
        kind: String,
        spec: Option<Spec>,
    }

    #[derive(Deserialize)]
    struct Spec {
        cluster: Option<Cluster>,
    }

    let Some(info) = info else {
        return Ok(ExecRequest {
            version: "v1",
            cluster: None,
        });
    };

    let info = info
        .into_string()
        .map_err(|_| unreadable("it is not UTF-8"))?;
    // The parser's message may repeat a value.
    let info: Info = serde_json::from_str(&info).map_err(|error| {
        unreadable(&format!(
            "see line {} column {}",
            error.line(),
            error.column()
        ))
    })?;

    if info.kind != "ExecCredential" {
        return Err(unreadable("its kind differs"));
    }

    let version = match info.api_version.strip_prefix(GROUP) {
        Some("v1") => "v1",
        Some("v1beta1") => "v1beta1",
        _ => return Err(other_version(&info.api_version)),
    };

    Ok(ExecRequest {
        version,
        cluster: info.spec.and_then(|spec| spec.cluster),
    })
}

fn unreadable(why: &str) -> Failure {
    Failure::new(
        Code::Usage,
        format!("{INFO} is not an ExecCredential: {why}"),
        "run this command from a Kubernetes client, or unset the variable",
    )
}

fn other_version(theirs: &str) -> Failure {
    let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"./-".contains(&byte);
    let theirs = if theirs.len() <= 60 && theirs.bytes().all(is_harmless) {
        theirs
    } else {
        "unknown"
    };

    Failure::new(
        Code::Usage,
        format!(
            "the Kubernetes client requests ExecCredential version {theirs}; supported are v1 and v1beta1"
        ),
        format!("set apiVersion: {GROUP}v1 beside the command in the kubeconfig"),
    )
}

fn check_cluster(arguments: &Arguments, cluster: Option<Cluster>) -> Result<(), Failure> {
    let Arguments { profile, servers } = arguments;
    if let Some((origin, _path)) = cluster
        .as_ref()
        .and_then(|cluster| Origin::of_url(&cluster.server))
    {
        origin.check_encryption()?;
    }

    if servers.is_empty() {
        return Ok(());
    }

    let Some(Cluster { server }) = cluster else {
        return Err(Failure::new(
            Code::Usage,
            format!(
                "profile {profile} is restricted to clusters by --server, and the Kubernetes client does not name its cluster"
            ),
            "set provideClusterInfo: true beside the command in the kubeconfig",
        ));
    };

    let (which, hint) = match Origin::of_url(&server) {
        Some((origin, _path)) if servers.contains(&origin) => return Ok(()),
        Some((origin, _path)) => (
            format!("the cluster {origin}"),
            format!("use another profile, or add --server {origin}"),
        ),
        None => (
            "a cluster with an invalid address".into(),
            "use scheme, host and port as the cluster's server".into(),
        ),
    };

    Err(Failure::new(
        Code::NotAllowed,
        format!("profile {profile} is not allowed for {which}"),
        hint,
    ))
}

fn document(version: &str, lease: &Lease<'_>) -> Result<String, Failure> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        api_version: String,
        kind: &'a str,
        status: Status<'a>,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Status<'a> {
        token: &'a str,
        expiration_timestamp: &'a str,
    }

    let status = Status {
        token: lease::token(lease)?,
        expiration_timestamp: &lease.expires_at,
    };

    serde_json::to_string(&Document {
        api_version: format!("{GROUP}{version}"),
        kind: "ExecCredential",
        status,
    })
    .map(|json| json + "\n")
    .map_err(|_| connect::unexpected_reply())
}

#[cfg(test)]
mod tests {
    use super::super::lease::example;
    use super::*;

    fn info(version: &str, spec: &str) -> Option<OsString> {
        Some(
            format!(r#"{{"kind":"ExecCredential","apiVersion":"{version}","spec":{spec}}}"#).into(),
        )
    }

    fn cluster(server: &str) -> Option<Cluster> {
        Some(Cluster {
            server: server.into(),
        })
    }

    #[test]
    fn answer_has_the_requested_version_and_lease_expiry() {
        for (version, want) in [("v1", "v1"), ("v1beta1", "v1beta1")] {
            let request = parse_request(info(
                &format!("{GROUP}{version}"),
                r#"{"interactive":false}"#,
            ))
            .unwrap();
            assert_eq!((request.version, request.cluster), (want, None));
        }
        assert_eq!(parse_request(None).unwrap().version, "v1");
        assert_eq!(
            document("v1beta1", &example()).unwrap(),
            "{\"apiVersion\":\"client.authentication.k8s.io/v1beta1\",\"kind\":\"ExecCredential\",\"status\":\
            {\"token\":\"canary-token\",\"expirationTimestamp\":\"2026-01-01T00:00:00Z\"}}\n"
        );
    }

    #[test]
    fn invalid_exec_credential_is_rejected_and_not_printed() {
        let v1 = format!("{GROUP}v1");
        for info in [
            Some("canary".into()),
            Some("{\"kind\":\"ExecCredential\",\"apiVersion\":[\"canary\"]}".into()),
            Some("{\"kind\":\"ExecCredential\"}".into()),
            Some(format!(r#"{{"kind":"canary","apiVersion":"{v1}"}}"#).into()),
            info(&v1, "\"canary\""),
            info(
                &v1,
                r#"{"cluster":{"server":"canary","server":"https://a.test"}}"#,
            ),
            info("canary \\u001b[2J", "{}"),
            info(&format!("canary{}", "y".repeat(60)), "{}"),
        ] {
            let failure = parse_request(info).unwrap_err();
            assert_eq!(failure.code, Code::Usage);
            assert!(!failure.to_string().contains("canary"), "{failure}");
        }
        let failure = parse_request(info(&format!("{GROUP}v1alpha1"), "{}")).unwrap_err();
        assert!(
            failure
                .message
                .contains("client.authentication.k8s.io/v1alpha1"),
            "{failure}"
        );
    }

    #[test]
    fn other_cluster_gets_no_token_and_password_is_hidden() {
        let servers = vec![
            server("https://k8s.example.test:6443").unwrap(),
            server("https://other.test/").unwrap(),
        ];
        let arguments = Arguments {
            profile: "dev".into(),
            servers,
        };
        for url in [
            "https://K8s.example.test:6443",
            "https://k8s.example.test:6443/k8s/c-1",
            "https://other.test:443",
        ] {
            assert_eq!(check_cluster(&arguments, cluster(url)), Ok(()), "{url}");
        }
        for (url, shown) in [
            ("https://k8s.example.test", "https://k8s.example.test"),
            (
                "https://evil.test:6443/canary?canary",
                "https://evil.test:6443",
            ),
            (
                "https://canary:canary@k8s.example.test:6443",
                "a cluster with an invalid address",
            ),
            ("k8s.example.test:6443", "a cluster with an invalid address"),
        ] {
            let failure = check_cluster(&arguments, cluster(url)).unwrap_err();
            assert_eq!(failure.code, Code::NotAllowed, "{url}");
            assert!(
                failure.message.ends_with(shown) && !failure.to_string().contains("canary"),
                "{failure}"
            );
        }
        let failure = check_cluster(&arguments, None).unwrap_err();
        assert!(
            failure.code == Code::Usage && failure.hint.contains("provideClusterInfo: true"),
            "{failure}"
        );
    }

    #[test]
    fn remote_cluster_over_http_is_rejected() {
        for servers in [vec![], vec![server("http://k8s.example.test").unwrap()]] {
            let arguments = Arguments {
                profile: "dev".into(),
                servers,
            };
            let failure =
                check_cluster(&arguments, cluster("http://k8s.example.test")).unwrap_err();
            assert!(
                failure.code == Code::NotAllowed && failure.message.contains("unencrypted"),
                "{failure}"
            );
        }
        let anywhere = Arguments {
            profile: "dev".into(),
            servers: vec![],
        };
        assert_eq!(
            check_cluster(&anywhere, cluster("http://127.0.0.1:8001")),
            Ok(())
        );
    }

    #[test]
    fn server_option_rejects_other_texts_than_origins() {
        for text in [
            "k8s.example.test",
            "https://k8s.example.test/k8s",
            "https://a@b.test",
            "ftp://a.test",
        ] {
            assert!(server(text).is_err(), "{text}");
        }
    }
}
