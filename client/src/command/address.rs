//! The addresses to which tools send a token. A text that does not parse completely is rejected, so that a token goes only
//! to the configured hosts.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use rolekeeper::protocol::{Code, Failure};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
}

impl Scheme {
    /// A scheme's name in upper or lower case (RFC 3986, 3.1).
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "https" => Some(Self::Https),
            "http" => Some(Self::Http),
            _ => None,
        }
    }

    pub(super) fn port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// A scheme, a host and a port. `Display` omits the rest of the URL, such as a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    pub(super) name: String,
    pub(super) port: u16,
}

impl Origin {
    /// The origin of a host with an optional port.
    pub(super) fn of_host(scheme: Scheme, text: &str) -> Option<Self> {
        let (name, port) = host_and_port(text)?;
        Some(Self {
            scheme,
            name,
            port: port.unwrap_or(scheme.port()),
        })
    }

    /// The origin of a URL, and the rest of the URL.
    pub(super) fn of_url(url: &str) -> Option<(Self, &str)> {
        let (scheme, rest) = url.split_once("://")?;
        let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        Some((Self::of_host(Scheme::parse(scheme)?, host)?, path))
    }

    /// Rejects plain HTTP, except to this machine.
    pub(super) fn check_encryption(&self) -> Result<(), Failure> {
        let is_loopback = self.name == "localhost"
            || self.name == "[::1]"
            || self
                .name
                .parse::<Ipv4Addr>()
                .is_ok_and(|address| address.is_loopback());
        if self.scheme == Scheme::Https || is_loopback {
            return Ok(());
        }

        Err(Failure::new(
            Code::NotAllowed,
            format!("{self} would receive the token unencrypted"),
            "use an https address, or one on this machine",
        ))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };

        write!(f, "{scheme}://{}", self.name)?;
        if self.port == self.scheme.port() {
            Ok(())
        } else {
            write!(f, ":{}", self.port)
        }
    }
}

/// A host of an option. Without a port it has the scheme's default port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// The option's text.
    pub(super) written: String,
    name: String,
    port: Option<u16>,
}

impl Host {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, port) = host_and_port(text)
            .ok_or("expected a host with an optional port, such as git.example.test:8443")?;
        Ok(Self {
            written: text.to_owned(),
            name,
            port,
        })
    }

    fn is(&self, origin: &Origin) -> bool {
        self.name == origin.name && self.port.unwrap_or(origin.scheme.port()) == origin.port
    }
}

/// Whether an address is one of these hosts. Without hosts every address is allowed.
pub(super) fn is_allowed_host(hosts: &[Host], origin: &Origin) -> bool {
    hosts.is_empty() || hosts.iter().any(|host| host.is(origin))
}

/// A name in lower case, or an address in its canonical form; and the port.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (format!("[{}]", address.parse::<Ipv6Addr>().ok()?), port)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_plain) {
                return None;
            }
            (name.to_ascii_lowercase(), port)
        }
    };

    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse::<u16>().ok()?)
        }
        _ => return None,
    };

    Some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_by_scheme_host_and_port() {
        let origin = |url| Origin::of_url(url).unwrap().0;
        for (one, other) in [
            (
                "https://k8s.example.test",
                "HTTPS://K8s.Example.TEST:443/k8s/clusters/c-1",
            ),
            ("https://[::1]:6443", "https://[0:0:0:0:0:0:0:1]:6443/?a=b"),
            ("http://127.0.0.1", "http://127.0.0.1:80#x"),
        ] {
            assert_eq!(origin(one), origin(other));
        }
        for (one, other) in [
            ("https://a.test", "http://a.test"),
            ("https://a.test", "https://a.test:6443"),
            ("https://a.test", "https://a.test.evil.test"),
            ("https://a.test", "https://a.test."),
        ] {
            assert_ne!(origin(one), origin(other));
        }
        assert_eq!(origin("HTTPS://A.test:443/x").to_string(), "https://a.test");
        assert_eq!(origin("http://[::1]:8080").to_string(), "http://[::1]:8080");
    }

    #[test]
    fn partly_valid_urls_are_rejected() {
        for url in [
            "",
            "a.test",
            "https:a.test",
            "https://",
            "https:///x",
            "ssh://a.test",
            "https://user@a.test",
            "https://user:canary@a.test",
            "https://evil.test\\@a.test",
            "https://a.test:",
            "https://a.test:+443",
            "https://a.test:65536",
            "https://a.test:443:443",
            "https://a%2etest",
            "https://a.test\n",
            "https://\u{430}.test",
            "https://[::1",
            "https://[::1]x",
            "https://[fe80::1%25eth0]",
            "https://::1",
        ] {
            assert_eq!(Origin::of_url(url), None, "{url:?}");
        }
    }

    #[test]
    fn host_without_port_has_the_scheme_default() {
        let meant = |host: &str, url: &str| {
            is_allowed_host(
                &[Host::parse(host).unwrap()],
                &Origin::of_url(url).unwrap().0,
            )
        };
        assert!(
            meant("git.example.test", "https://GIT.example.test")
                && meant("Git.example.test:443", "https://git.example.test")
        );
        assert!(
            meant("localhost", "http://localhost")
                && meant("localhost:3000", "http://localhost:3000")
        );
        assert!(!meant("git.example.test", "https://git.example.test:8443"));
        assert!(!meant("git.example.test:8443", "https://git.example.test"));
        assert!(!meant("example.test", "https://git.example.test"));
        assert!(is_allowed_host(
            &[],
            &Origin::of_url("https://any.test").unwrap().0
        ));
        for text in ["", "https://a.test", "a.test/x", "*.test", "a b"] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn plain_http_is_allowed_only_to_this_machine() {
        for (url, is_allowed) in [
            ("https://a.test", true),
            ("http://a.test", false),
            ("http://localhost:1", true),
            ("http://127.0.0.53", true),
            ("http://[::1]", true),
            ("http://127.1", false),
            ("http://localhost.a.test", false),
            ("http://128.0.0.1", false),
            ("http://0.0.0.0", false),
        ] {
            assert_eq!(
                Origin::of_url(url).unwrap().0.check_encryption().is_ok(),
                is_allowed,
                "{url}"
            );
        }
    }
}
