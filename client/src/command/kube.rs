//! `rolekeeper kube PROFILE`: prints the session token for Kubernetes clients, as a credential plugin (client-go,
//! `client.authentication.k8s.io`). `KUBERNETES_EXEC_INFO` may come from an untrusted kubeconfig: errors do not repeat it,
//! and with `--server` other clusters get no token.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, Lease};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::address::{Origin, Scheme};
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
The cluster's own certificate authority has to be in --certificate-authority-data, and verification cannot be off.
rolekeeper setup kube sets these options.
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
    /// A certificate authority of these clusters, as in the kubeconfig; can be repeated
    #[arg(
        long = "certificate-authority-data",
        value_name = "BASE64",
        requires = "servers"
    )]
    authorities: Vec<String>,
}

fn server(text: &str) -> Result<Origin, String> {
    match Origin::of_url(text) {
        Some((origin, "" | "/")) => Ok(origin),
        _ => Err("expected scheme, host and port, such as https://k8s.example.test:6443".into()),
    }
}

pub(crate) fn run(arguments: &Arguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    let request = parse_request(connect::variable(INFO))?;
    check_cluster(arguments, request.cluster.as_ref())?;

    let document = lease::ask(&arguments.profile, socket, |lease| {
        document(request.version, lease)
    })?;
    command::print(&command::escaped_json(&document))
}

/// The client's request.
#[derive(Debug, PartialEq)]
struct ExecRequest {
    version: &'static str,
    cluster: Option<Cluster>,
}

/// The connection to the cluster, as the kubeconfig has it. All but the server can lead the token elsewhere, too.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority_data: String,
    insecure_skip_tls_verify: bool,
    tls_server_name: String,
    proxy_url: String,
    #[serde(rename = "disable-compression")]
    _disable_compression: IgnoredAny,
    /// Settings of other plugins.
    #[serde(rename = "config")]
    _config: IgnoredAny,
    /// Fields that this version does not know.
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
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

fn check_cluster(arguments: &Arguments, cluster: Option<&Cluster>) -> Result<(), Failure> {
    let Arguments {
        profile, servers, ..
    } = arguments;
    let Some(cluster) = cluster else {
        return match servers.is_empty() {
            true => Ok(()),
            false => Err(Failure::new(
                Code::Usage,
                format!(
                    "profile {profile} is restricted to clusters by --server, and the Kubernetes client does not name its cluster"
                ),
                "set provideClusterInfo: true beside the command in the kubeconfig",
            )),
        };
    };

    // Clients complete other addresses by rules of their own.
    let Some((origin, _path)) = Origin::of_url(&cluster.server) else {
        return Err(Failure::new(
            Code::NotAllowed,
            format!("profile {profile} is not allowed for a cluster with an invalid address"),
            "use https, host and port as the cluster's server",
        ));
    };
    origin.check_encryption()?;

    let is_named = servers.contains(&origin);
    if !is_named && (!servers.is_empty() || origin.scheme == Scheme::Http) {
        return Err(Failure::new(
            Code::NotAllowed,
            format!("profile {profile} is not allowed for the cluster {origin}"),
            format!("use another profile, or add --server {origin}"),
        ));
    }

    match cluster.way_elsewhere(&origin, &arguments.authorities) {
        Some((reason, hint)) if is_named => Err(Failure::new(
            Code::NotAllowed,
            format!("profile {profile} is not allowed for the cluster {origin}: {reason}"),
            hint,
        )),
        _ => Ok(()),
    }
}

impl Cluster {
    /// The setting by which another server than `origin` could receive the token, and what to do. A proxy is no such setting:
    /// TLS ends at the server.
    fn way_elsewhere(&self, origin: &Origin, authorities: &[String]) -> Option<(&str, &str)> {
        const REMOVE: &str = "remove that setting of the cluster from the kubeconfig";

        if !self.unknown.is_empty() {
            let hint = "remove that setting, or install a newer rolekeeper";
            return Some((
                "the kubeconfig has a setting for it that rolekeeper does not know",
                hint,
            ));
        }

        if origin.scheme == Scheme::Http {
            let reason = "proxy-url would receive the token unencrypted";
            return (!self.proxy_url.is_empty()).then_some((reason, REMOVE));
        }
        if self.insecure_skip_tls_verify {
            return Some((
                "insecure-skip-tls-verify turns off the check of the server",
                REMOVE,
            ));
        }

        let authority = &self.certificate_authority_data;
        if !authority.is_empty() {
            let hint = "repeat rolekeeper setup kube with --server, if the kubeconfig has the right certificate authority";
            let reason = "its certificate authority is not in --certificate-authority-data";
            return (!authorities.contains(authority)).then_some((reason, hint));
        }

        let is_same_name = self.tls_server_name.is_empty()
            || self.tls_server_name.eq_ignore_ascii_case(&origin.name);
        let reason = "tls-server-name accepts the certificate of another server";
        (!is_same_name).then_some((reason, REMOVE))
    }
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

    fn cluster(server: &str) -> Cluster {
        Cluster {
            server: server.into(),
            ..Cluster::default()
        }
    }

    fn arguments(servers: &[&str], authorities: &[&str]) -> Arguments {
        Arguments {
            profile: "dev".into(),
            servers: servers.iter().map(|url| server(url).unwrap()).collect(),
            authorities: authorities.iter().copied().map(Into::into).collect(),
        }
    }

    /// The cluster of `KUBERNETES_EXEC_INFO` with these fields.
    fn cluster_with(server: &str, fields: &str) -> Cluster {
        let text = format!(r#"{{"cluster":{{"server":"{server}"{fields}}}}}"#);
        let request = parse_request(info(&format!("{GROUP}v1"), &text)).unwrap();

        request.cluster.unwrap()
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
        let arguments = arguments(
            &["https://k8s.example.test:6443", "https://other.test/"],
            &[],
        );
        for url in [
            "https://K8s.example.test:6443",
            "https://k8s.example.test:6443/k8s/c-1",
            "https://other.test:443",
        ] {
            assert_eq!(
                check_cluster(&arguments, Some(&cluster(url))),
                Ok(()),
                "{url}"
            );
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
            let failure = check_cluster(&arguments, Some(&cluster(url))).unwrap_err();
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

    /// As clients complete them, these are addresses over plain HTTP or of other hosts.
    #[test]
    fn address_that_is_not_plain_https_gets_no_token() {
        let anywhere = arguments(&[], &[]);
        for url in [
            "",
            "/",
            "host",
            "host:80",
            " http://host",
            " https://host",
            "https://host ",
            "http://a@host",
            "https://a@host",
            "http://[fe80::1%25eth0]",
            "https://[fe80::1%25eth0]",
            "http://127.0.0.1:8001",
            "http://host",
            "//host",
            "https:host",
            "ftp://host",
        ] {
            let failure = check_cluster(&anywhere, Some(&cluster(url))).unwrap_err();
            assert_eq!(failure.code, Code::NotAllowed, "{url}");
        }
        let remote = cluster("https://host:6443/path");
        assert_eq!(check_cluster(&anywhere, Some(&remote)), Ok(()));

        // Plain HTTP to this machine has to be named, and has no proxy.
        let local = arguments(&["http://127.0.0.1:8001"], &[]);
        let url = "http://127.0.0.1:8001";
        assert_eq!(check_cluster(&local, Some(&cluster(url))), Ok(()));
        let by_proxy = cluster_with(url, r#","proxy-url":"http://evil.test:1""#);
        assert!(check_cluster(&local, Some(&by_proxy)).is_err());
    }

    #[test]
    fn remote_cluster_over_http_is_rejected() {
        let url = "http://k8s.example.test";
        for arguments in [arguments(&[], &[]), arguments(&[url], &[])] {
            let failure = check_cluster(&arguments, Some(&cluster(url))).unwrap_err();
            assert!(
                failure.code == Code::NotAllowed && failure.message.contains("unencrypted"),
                "{failure}"
            );
        }
    }

    #[test]
    fn allowed_server_with_settings_that_lead_elsewhere_gets_no_token() {
        const URL: &str = "https://k8s.example.test:6443";
        let check = |authorities: &[&str], fields: &str| {
            let cluster = cluster_with(URL, fields);
            check_cluster(&arguments(&[URL], authorities), Some(&cluster))
        };

        for fields in [
            "",
            r#","proxy-url":"http://proxy.test:3128""#,
            r#","insecure-skip-tls-verify":false,"disable-compression":true,"config":{"a":1}"#,
            r#","tls-server-name":"K8s.example.test""#,
        ] {
            assert_eq!(check(&[], fields), Ok(()), "{fields}");
        }
        let own = r#","certificate-authority-data":"b3du","tls-server-name":"inner.test""#;
        assert_eq!(check(&["b3RoZXI=", "b3du"], own), Ok(()));

        for (fields, word) in [
            (
                r#","insecure-skip-tls-verify":true"#,
                "insecure-skip-tls-verify",
            ),
            (
                r#","insecure-skip-tls-verify":true,"certificate-authority-data":"b3du""#,
                "insecure-skip-tls-verify",
            ),
            (
                r#","certificate-authority-data":"ZXZpbA==","proxy-url":"http://evil.test:1""#,
                "--certificate-authority-data",
            ),
            (r#","tls-server-name":"evil.test""#, "tls-server-name"),
            (
                r#","send-token-also-to":"https://evil.test""#,
                "does not know",
            ),
        ] {
            let failure = check(&["b3du"], fields).unwrap_err();
            assert_eq!(failure.code, Code::NotAllowed);
            assert!(failure.message.contains(word), "{fields}: {failure}");
        }
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
