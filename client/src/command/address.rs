//! Where a token would be sent, as tools name it. A token is for the hosts that somebody has named: a text that is not
//! understood to its last character is no address, and never nearly the right one.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use rolekeeper::protocol::{Code, Failure};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
}

impl Scheme {
    /// Its name in a URL or alone, in whatever case (RFC 3986, 3.1).
    pub(super) fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "https" => Some(Self::Https),
            "http" => Some(Self::Http),
            _ => None,
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// A scheme, a host and a port. It is shown without anything else that its URL had, such as a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: Scheme,
    name: String,
    port: u16,
}

impl Origin {
    /// Of a host, with its port if it has one.
    pub(super) fn of_host(scheme: Scheme, text: &str) -> Option<Self> {
        let (name, port) = host_and_port(text)?;
        Some(Self {
            scheme,
            name,
            port: port.unwrap_or(scheme.port()),
        })
    }

    /// Of a URL, and what follows the host in it.
    pub(super) fn of_url(url: &str) -> Option<(Self, &str)> {
        let (scheme, rest) = url.split_once("://")?;
        let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        Some((Self::of_host(Scheme::named(scheme)?, host)?, path))
    }

    /// Sends nothing in the clear but to this machine.
    pub(super) fn check_secrecy(&self) -> Result<(), Failure> {
        let is_here = self.name == "localhost"
            || self.name == "[::1]"
            || self
                .name
                .parse::<Ipv4Addr>()
                .is_ok_and(|address| address.is_loopback());
        if self.scheme == Scheme::Https || is_here {
            return Ok(());
        }
        Err(Failure::new(
            Code::NotAllowed,
            format!("{self} would get the token in the clear"),
            "the address with https, or one on this machine",
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

/// A host that a token is meant for, as an option names it. Without a port it is that of the scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// As somebody wrote it.
    pub(super) written: String,
    name: String,
    port: Option<u16>,
}

impl Host {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, port) = host_and_port(text).ok_or(
            "a host, and its port if it is not the usual one, such as git.example.test:8443",
        )?;
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

/// Whether an address is one of these hosts, or there are none to keep to.
pub(super) fn is_meant(hosts: &[Host], origin: &Origin) -> bool {
    hosts.is_empty() || hosts.iter().any(|host| host.is(origin))
}

/// A name in lower case, or an address in its one form; and the port.
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
    fn an_address_is_compared_by_scheme_host_and_port_however_it_is_written() {
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
    fn what_is_not_understood_to_the_end_is_no_address() {
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
    fn a_host_without_a_port_means_that_of_the_scheme() {
        let meant = |host: &str, url: &str| {
            is_meant(
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
        assert!(is_meant(
            &[],
            &Origin::of_url("https://any.test").unwrap().0
        ));
        for text in ["", "https://a.test", "a.test/x", "*.test", "a b"] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_token_goes_in_the_clear_to_this_machine_alone() {
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
                Origin::of_url(url).unwrap().0.check_secrecy().is_ok(),
                is_allowed,
                "{url}"
            );
        }
    }
}
