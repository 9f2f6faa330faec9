//! The configuration: what is in force once it has been validated. How the file is read is in [`mod@file`].

pub mod callers;
pub mod file;
mod raw;
mod token;

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use rolekeeper::protocol::is_name;
use secrecy::SecretString;

pub use callers::Callers;

/// The shortest and the longest session that can be asked for (ByCloud IAM: `duration_seconds`, 900 to 43200).
pub const SHORTEST_SESSION: Duration = Duration::from_secs(900);
pub const LONGEST_SESSION: Duration = Duration::from_secs(43_200);
const DEFAULT_SESSION: Duration = Duration::from_secs(3600);

/// How often an upstream may be asked for revocations.
pub const CHECKS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(150);
pub const DEFAULT_CHECK: Duration = Duration::from_secs(30);
pub const DEFAULT_VIEW_AGE: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct Config {
    pub upstreams: Vec<UpstreamConfig>,
    /// The port on 127.0.0.1 of the container credentials endpoint, which is then open from the start; else it is opened
    /// on any free port when somebody asks where it is.
    pub endpoint_port: Option<u16>,
    /// Which of the system's logs get the daemon's record, too.
    pub also_to: Vec<AlsoTo>,
}

impl Config {
    pub fn profiles(&self) -> impl Iterator<Item = &Profile> {
        self.upstreams
            .iter()
            .flat_map(|upstream| &upstream.profiles)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlsoTo {
    Journald,
    Syslog,
}

/// A service that issues sessions, and the profiles that use it.
#[derive(Debug)]
pub struct UpstreamConfig {
    pub name: Arc<str>,
    pub endpoint: Endpoint,
    pub token: TokenLocation,
    pub way: HttpTransport,
    /// How often it is asked which sessions have been revoked, while anybody holds a lease.
    pub check_every: Duration,
    pub profiles: Vec<Profile>,
}

/// Where a principal's long-lived token lives. It is read at each use, so a rotated one needs no restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenLocation {
    Env(String),
    File(PathBuf),
    /// The system's own store: Secret Service, Keychain, Credential Manager. The name is that of the entry.
    Keyring(String),
    /// A file that is encrypted as age does it: to the key in a file, or with a passphrase that a person gives.
    Age {
        file: PathBuf,
        identity: Option<PathBuf>,
    },
    /// What a program prints, kept for so long in memory: most such programs are slow, or ask a person.
    Command {
        words: Vec<String>,
        keep: Duration,
    },
    /// A file that systemd made for this service alone (systemd.exec(5), `LoadCredential=`).
    SystemdCredential(String),
}

impl fmt::Display for TokenLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Keyring(name) => write!(f, "the keyring's entry `{name}`"),
            Self::Age { file, .. } => write!(f, "the encrypted file {}", file.display()),
            Self::Command { words, .. } => write!(
                f,
                "the program {}",
                words.first().map_or("", String::as_str)
            ),
            Self::SystemdCredential(name) => write!(f, "the systemd credential {name}"),
        }
    }
}

/// Whom an upstream's certificate is to be signed by, and what is between.
#[derive(Debug, Clone, Default)]
pub struct HttpTransport {
    /// Only these authorities, a file of certificates in PEM; else those that the system trusts.
    pub ca: Option<PathBuf>,
    pub proxy: Proxy,
}

/// What requests to an upstream go through.
#[derive(Debug, Clone, Default)]
pub enum Proxy {
    /// What `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    #[default]
    Environment,
    Nothing,
    /// It may have a password in it.
    At(SecretString),
}

#[derive(Debug)]
pub struct Profile {
    pub name: ProfileName,
    pub upstream: Arc<str>,
    pub role: RoleRequest,
    pub lease: LeaseLimit,
    pub on_revoke: OnRevoke,
    pub revoke_on: RevokeOn,
    /// For how long what is known of revocations is good enough. A strict profile is not served on less, others are, and
    /// it is said.
    pub max_view_age: Duration,
    /// Where its services are, for consumers that want to know.
    pub region: Option<Region>,
    /// The account that its role is of: 12 digits.
    pub account_id: Option<AccountId>,
    /// Which processes may have it.
    pub callers: Callers,
}

impl Profile {
    /// With the defaults for everything else.
    pub fn new(name: ProfileName, upstream: Arc<str>, role: RoleRequest) -> Self {
        Self {
            name,
            upstream,
            role,
            lease: LeaseLimit::default(),
            on_revoke: OnRevoke::default(),
            revoke_on: RevokeOn::default(),
            max_view_age: DEFAULT_VIEW_AGE,
            region: None,
            account_id: None,
            callers: Callers::default(),
        }
    }
}

/// What happens when somebody else has revoked a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRevoke {
    /// Nothing is served until a person resumes the profile.
    #[default]
    Hold,
    /// The role is assumed again: for machines that nobody sits at.
    Reassume,
}

/// At which of this machine's events a profile's session is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RevokeOn {
    /// The daemon is stopped.
    pub stop: bool,
    /// The user's screen is locked.
    pub lock: bool,
    /// The machine goes to sleep.
    pub sleep: bool,
}

#[derive(Debug)]
pub struct RoleRequest {
    pub role_id: RoleId,
    /// From [`SHORTEST_SESSION`] to [`LONGEST_SESSION`], whole seconds.
    pub duration: Duration,
}

/// How long a lease is advertised at the most. SDKs that are already running ask again only near the advertised end
/// (botocore: 15 minutes before it), so a shorter lease ends the use of a revoked session sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeaseLimit {
    /// To the session's true end.
    Full,
    /// 16 minutes: botocore asks again after about one.
    #[default]
    Balanced,
    /// 10 minutes: botocore asks again at every signing.
    Strict,
    Limit(Duration),
}

impl LeaseLimit {
    pub fn limit(self) -> Option<Duration> {
        match self {
            Self::Full => None,
            Self::Balanced => Some(Duration::from_secs(16 * 60)),
            Self::Strict => Some(Duration::from_secs(10 * 60)),
            Self::Limit(limit) => Some(limit),
        }
    }
}

/// 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(Arc<str>);

impl ProfileName {
    pub fn parse(text: &str) -> Option<Self> {
        is_name(text).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ProfileName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a region: 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region(Box<str>);

impl Region {
    pub fn parse(text: &str) -> Option<Self> {
        is_name(text).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An AWS account's number: 12 digits, of which the first may be zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountId(Box<str>);

impl AccountId {
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 12 && text.bytes().all(|each| each.is_ascii_digit()))
            .then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A role's id at its upstream: 1 to 64 letters, digits, `-` and `_`, so that it is one segment of a path as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleId(Box<str>);

impl RoleId {
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=64).contains(&text.len());
        (fits
            && text
                .chars()
                .all(|each| each.is_ascii_alphanumeric() || "-_".contains(each)))
        .then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where tokens may be sent: `https`, or `http` on a loopback address (assumption A1). No credentials, query or
/// fragment in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// The reason is a clause that follows the endpoint's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "must not contain a user name or password; the token goes into `token`".into(),
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must not contain `?` or `#`".into());
        }
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            "http" => Err(
                "would send the token in clear; use https (http is for loopback addresses only)"
                    .into(),
            ),
            other => Err(format!("has the scheme `{other}`; use https")),
        }
    }

    pub fn is_loopback_http(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// The URL of a resource below the endpoint.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// An address, not a name: a name could be made to point elsewhere.
fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host.trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
    })
}

/// The name among `known` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3) && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_to_https_or_to_loopback_addresses_only() {
        for good in [
            "https://iam.example.test",
            "https://iam.example.test/base/",
            "http://127.0.0.1:80",
            "http://[::1]:9",
        ] {
            assert!(Endpoint::parse(good).is_ok(), "{good}");
        }
        let bad = [
            "http://iam.example.test",
            "http://localhost:80",
            "http://127.0.0.1.example.test",
            "http://0.0.0.0:1",
            "https://user:pw@iam.example.test",
            "https://iam.example.test/?a=b",
            "ftp://127.0.0.1",
            "iam.example.test",
            "",
        ];
        for bad in bad {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_is_joined_with_one_slash() {
        assert_eq!(
            Endpoint::parse("https://a.test/base/")
                .unwrap()
                .join("/iam"),
            "https://a.test/base/iam"
        );
        assert_eq!(
            Endpoint::parse("https://a.test").unwrap().join("/iam"),
            "https://a.test/iam"
        );
    }

    #[test]
    fn names_and_ids_cannot_reach_into_paths_or_terminals() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "\u{1b}[31m",
            "-x",
            "ä",
            &"x".repeat(65),
        ] {
            assert!(ProfileName::parse(bad).is_none(), "{bad:?}");
        }
        for bad in ["", "..", "a/b", "a?b", "%2e", &"x".repeat(65)] {
            assert!(RoleId::parse(bad).is_none(), "{bad:?}");
        }
        assert!(ProfileName::parse("dev-1.eu_x").is_some());
        assert!(RoleId::parse("550e8400-e29b-41d4-a716-446655440000").is_some());
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not_guessed() {
        let known = ["duration", "role_id", "lease"];
        assert_eq!(nearest("durration", known), Some("duration"));
        assert_eq!(nearest("roleid", known), Some("role_id"));
        assert_eq!(nearest("xyz", known), None);
    }
}
