//! Why there is no reply, in plain words and with a remedy: names that do not resolve, proxies, certificates.

use std::error::Error;
use std::fmt::Write;
use std::io;
use std::time::UNIX_EPOCH;

use jiff::Timestamp;
use reqwest::Url;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use super::http::{HttpError, TOTAL_TIMEOUT};
use crate::config::{HttpTransport, Proxy};
use crate::model::to_rfc3339;
use crate::sandbox::system_files;

/// The variables of the proxy for `https`. Of a pair, the first that is set hides the second.
const PROXY_VARIABLES: [[&str; 2]; 2] =
    [["HTTPS_PROXY", "https_proxy"], ["ALL_PROXY", "all_proxy"]];

/// What is wrong, and what the person can do.
struct Diagnosis {
    message: String,
    hint: Option<String>,
}

pub(super) fn no_reply(error: reqwest::Error, transport: &HttpTransport) -> HttpError {
    let error = error.without_url();
    if error.is_timeout() && !error.is_connect() {
        return HttpError::NoReply {
            message: format!("no reply within {} s", TOTAL_TIMEOUT.as_secs()),
            hint: None,
        };
    }

    let Diagnosis { mut message, hint } = tls_error(&error)
        .and_then(|error| diagnose_tls(error, transport))
        .unwrap_or_else(|| diagnose_connection(&error, transport));

    // A resolver or a store without its files fails in many ways.
    if error.is_connect() {
        message += &system_files::unreadable_reason();
    }

    HttpError::NoReply { message, hint }
}

fn diagnose_connection(error: &reqwest::Error, transport: &HttpTransport) -> Diagnosis {
    let mut message = chain(error);
    if !error.is_connect() {
        return Diagnosis {
            message,
            hint: None,
        };
    }

    let mut hint = None;
    match (&transport.proxy, proxy_variable()) {
        (Proxy::At(_), _) => message += " (through the configured proxy)",
        (Proxy::Environment, Some((name, value))) => match unusable_proxy(&value) {
            Some(reason) => {
                let _ = write!(message, ": the proxy of the variable {name} {reason}");
                hint = Some(format!(
                    "set {name}=http://HOST:PORT for rolekeeperd and restart it, or set proxy = \"http://HOST:PORT\" or \
                     proxy = \"none\" for the upstream"
                ));
            }
            None => {
                let _ = write!(message, " (the variable {name} sets a proxy)");
            }
        },
        _ => {}
    }

    Diagnosis { message, hint }
}

fn chain(error: &reqwest::Error) -> String {
    let mut causes = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        causes.push(inner.to_string());
        cause = inner.source();
    }

    causes.dedup();

    causes.join(": ")
}

/// Why the proxy of the environment cannot be used.
pub(super) fn proxy_problem(transport: &HttpTransport) -> Option<String> {
    if !matches!(transport.proxy, Proxy::Environment) {
        return None;
    }

    let (name, value) = proxy_variable()?;
    let reason = unusable_proxy(&value)?;
    Some(format!("the proxy of the variable {name} {reason}"))
}

/// The variable that decides, and its value.
fn proxy_variable() -> Option<(&'static str, String)> {
    PROXY_VARIABLES.iter().find_map(|pair| {
        let named = |name: &'static str| std::env::var(name).ok().map(|value| (name, value));
        pair.iter()
            .find_map(|name| named(name))
            .filter(|(_, value)| !value.is_empty())
    })
}

/// A predicate: the proxy is its subject. It repeats no password.
pub(super) fn unusable_proxy(value: &str) -> Option<String> {
    let supported = "use http://HOST:PORT or https://HOST:PORT";
    let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
    if !matches!(scheme, "http" | "https") {
        let scheme = crate::text::one_line(scheme);
        return Some(format!(
            "has the scheme {scheme}, which is not supported; {supported}"
        ));
    }

    let is_url = Url::parse(&format!("{scheme}://{rest}")).is_ok_and(|url| url.has_host());
    (!is_url).then(|| format!("is not a URL; {supported}"))
}

/// The TLS error among an error's causes.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }

    // The source of such an error is not what it contains, but the source of that.
    let contained = error
        .downcast_ref::<io::Error>()
        .and_then(|error| error.get_ref());

    match contained {
        Some(contained) => tls_error(contained),
        None => tls_error(error.source()?),
    }
}

fn diagnose_tls(error: &rustls::Error, transport: &HttpTransport) -> Option<Diagnosis> {
    let (message, hint) = match error {
        rustls::Error::InvalidCertificate(error) => certificate_problem(error, transport),
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => (
            "the server does not answer with TLS".into(),
            "check the port of `endpoint` and the proxy".to_owned(),
        ),
        rustls::Error::PeerIncompatible(_) => (
            format!("the server supports no TLS of this client: {error}"),
            "ask the upstream's operator for TLS 1.2 or 1.3".to_owned(),
        ),
        _ => return None,
    };

    Some(Diagnosis {
        message,
        hint: Some(hint),
    })
}

fn certificate_problem(error: &CertificateError, transport: &HttpTransport) -> (String, String) {
    let renew = "ask the upstream's operator for a new certificate, and check this machine's clock";
    let reissue = "ask the upstream's operator for another certificate";

    let (problem, hint) = match error {
        CertificateError::Expired => ("has expired".to_owned(), renew.to_owned()),
        CertificateError::ExpiredContext { not_after, .. } => {
            (format!("expired at {}", date(*not_after)), renew.into())
        }
        CertificateError::NotValidYet => ("is not valid yet".into(), renew.into()),
        CertificateError::NotValidYetContext { not_before, .. } => (
            format!("is not valid before {}", date(*not_before)),
            "check this machine's clock".into(),
        ),
        CertificateError::NotValidForName => (
            "is not for the host of `endpoint`".into(),
            "set `endpoint` to a name that the certificate is for".into(),
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names: Vec<_> = presented.iter().map(|name| bare_name(name)).collect();
            let names = match names.join(", ") {
                names if names.is_empty() => "no name".into(),
                names => crate::text::one_line(&names),
            };
            (
                format!("is not for {}, but for {names}", expected.to_str()),
                "set `endpoint` to a name that the certificate is for".into(),
            )
        }
        CertificateError::UnknownIssuer => match &transport.ca {
            Some(ca) => (
                format!("is not signed by an authority in {}", ca.display()),
                format!("put the certificate of the authority that signed it into {}", ca.display()),
            ),
            None => (
                "is not signed by an authority that this system trusts".into(),
                "set the upstream's `ca` to a file with the authority's certificate (PEM)".into(),
            ),
        },
        CertificateError::Revoked => ("has been revoked".into(), reissue.into()),
        CertificateError::BadSignature => {
            ("has a signature that does not verify".into(), reissue.into())
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            ("is not a certificate for servers".into(), reissue.into())
        }
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => (
            "is the certificate of an authority (CA:TRUE), which no server may use".into(),
            "create the server's certificate with openssl req -x509 -addext basicConstraints=critical,CA:FALSE, and put \
             it into the file of `ca`"
                .into(),
        ),
        other => (format!("cannot be used: {other}"), reissue.into()),
    };

    (format!("the server's certificate {problem}"), hint)
}

/// `iam.example.test` for `DnsName("iam.example.test")`.
fn bare_name(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

fn date(time: UnixTime) -> String {
    let time = UNIX_EPOCH + std::time::Duration::from_secs(time.as_secs());
    Timestamp::try_from(time).map_or_else(|_| "an unknown time".into(), to_rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_of_another_scheme_is_unusable() {
        for good in [
            "http://proxy.test:3128",
            "https://me:pw@proxy.test",
            "proxy.test:3128",
        ] {
            assert_eq!(unusable_proxy(good), None, "{good}");
        }
        for (bad, reason) in [
            (
                "socks5h://me:canary@proxy.test:1",
                "has the scheme socks5h, which is not supported",
            ),
            (
                "ftp://proxy.test",
                "has the scheme ftp, which is not supported",
            ),
            ("http://", "is not a URL"),
        ] {
            let found = unusable_proxy(bad).unwrap();
            assert!(
                found.starts_with(reason) && !found.contains("canary"),
                "{found}"
            );
            assert!(
                found.ends_with("use http://HOST:PORT or https://HOST:PORT"),
                "{found}"
            );
        }
    }

    #[test]
    fn certificate_errors_have_a_message_and_a_remedy() {
        let expected = "iam.example.test".try_into().unwrap();
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(86_400));
        let with_ca = HttpTransport {
            ca: Some("/ca.pem".into()),
            ..HttpTransport::default()
        };

        for (error, transport, message, hint) in [
            (
                CertificateError::ExpiredContext {
                    time,
                    not_after: time,
                },
                &HttpTransport::default(),
                "the server's certificate expired at 1970-01-02T00:00:00Z",
                "ask the upstream's operator for a new certificate, and check this machine's clock",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected,
                    presented: vec!["DnsName(\"other.test\")".into()],
                },
                &HttpTransport::default(),
                "the server's certificate is not for iam.example.test, but for other.test",
                "set `endpoint` to a name that the certificate is for",
            ),
            (
                CertificateError::UnknownIssuer,
                &with_ca,
                "the server's certificate is not signed by an authority in /ca.pem",
                "put the certificate of the authority that signed it into /ca.pem",
            ),
            (
                CertificateError::UnknownIssuer,
                &HttpTransport::default(),
                "the server's certificate is not signed by an authority that this system trusts",
                "set the upstream's `ca` to a file with the authority's certificate (PEM)",
            ),
        ] {
            let found = certificate_problem(&error, transport);
            assert_eq!(found, (message.to_owned(), hint.to_owned()));
        }
    }
}
