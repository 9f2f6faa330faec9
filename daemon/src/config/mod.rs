//! The validated configuration. [`mod@file`] reads it from the file.

mod aws;
pub mod aws_endpoints;
mod aws_files;
mod aws_types;
pub(crate) mod callers;
pub mod file;
mod profile;
mod raw;
mod token;
mod upstream;
pub(crate) mod used_files;
mod values;

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use rolekeeper::protocol::is_name;
use secrecy::SecretString;

pub(crate) use aws_files::AwsFiles;
pub use aws_types::AwsRole;
pub(crate) use aws_types::{AwsSettings, MfaCodeSource, MfaSettings};
pub(crate) use callers::Callers;

/// The shortest and the longest session (ByCloud IAM: `duration_seconds`, 900 to 43200).
pub const SHORTEST_SESSION: Duration = Duration::from_secs(900);
pub const LONGEST_SESSION: Duration = Duration::from_secs(43_200);
const DEFAULT_SESSION: Duration = Duration::from_secs(3600);

/// A lease ends before its session does by this time, so that a request signed with it arrives in time. A session with less time
/// left is not served.
pub(crate) const MIN_LEASE: Duration = crate::model::MARGIN;

/// The limits of `check_every`.
pub const CHECK_INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(150);
pub const DEFAULT_CHECK: Duration = Duration::from_secs(30);
pub const DEFAULT_VIEW_AGE: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct Config {
    pub upstreams: Vec<UpstreamConfig>,
    /// The port of the container credentials endpoint on 127.0.0.1, which the daemon then opens at its start. Without it, the
    /// daemon opens a free port when a client asks for the endpoint.
    pub endpoint_port: Option<u16>,
    /// The system logs that get a copy of the journal.
    pub(crate) also_to: Vec<AlsoTo>,
    /// The files of AWS that some of the profiles are made of.
    pub(crate) aws_files: Option<AwsFiles>,
}

impl Config {
    pub(crate) fn profiles(&self) -> impl Iterator<Item = &Profile> {
        self.upstreams
            .iter()
            .flat_map(|upstream| &upstream.profiles)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AlsoTo {
    Journald,
    Syslog,
}

/// A service that issues sessions, and the profiles that use it.
#[derive(Debug)]
pub struct UpstreamConfig {
    pub name: Arc<str>,
    pub endpoint: Endpoint,
    pub(crate) token: TokenLocation,
    pub(crate) transport: HttpTransport,
    pub(crate) kind: UpstreamKind,
    /// How often the daemon polls for revocations while there are leases.
    pub check_every: Duration,
    pub profiles: Vec<Profile>,
}

impl UpstreamConfig {
    /// Everything that tokens, or codes beside them, are read from.
    pub(crate) fn token_locations(&self) -> impl Iterator<Item = &TokenLocation> {
        let code = match &self.kind {
            UpstreamKind::ByCloud => None,
            UpstreamKind::Aws(settings) => settings.mfa.as_ref().and_then(MfaSettings::location),
        };

        std::iter::once(&self.token).chain(code)
    }
}

/// What an upstream is, and what only its kind has.
#[derive(Debug, Clone)]
pub(crate) enum UpstreamKind {
    ByCloud,
    Aws(Box<AwsSettings>),
}

/// Where the long-lived token of a principal is. It is read at each use, so a rotated one needs no restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenLocation {
    Env(String),
    File(PathBuf),
    /// The name of an entry in the system's keyring: Secret Service, Keychain, Credential Manager.
    Keyring(String),
    /// A file encrypted by age: for the key in an identity file, or with a passphrase.
    Age {
        file: PathBuf,
        identity: Option<PathBuf>,
    },
    /// The output of a program, cached for `keep`: many such programs are slow, or prompt the user.
    Command {
        words: Vec<String>,
        keep: Duration,
    },
    /// A credential that systemd passes to the service (systemd.exec(5), `LoadCredential=`).
    SystemdCredential(String),
    /// The access keys in a section of a file of AWS, by the header of the section.
    AwsFile {
        file: PathBuf,
        section: String,
    },
}

impl fmt::Display for TokenLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Keyring(name) => write!(f, "the keyring entry `{name}`"),
            Self::Age { file, .. } => write!(f, "the encrypted file {}", file.display()),
            Self::Command { words, .. } => write!(
                f,
                "the program {}",
                words.first().map_or("", String::as_str)
            ),
            Self::SystemdCredential(name) => write!(f, "the systemd credential {name}"),
            Self::AwsFile { file, section } => {
                write!(f, "the section [{section}] of {}", file.display())
            }
        }
    }
}

/// TLS and proxy settings of an upstream.
#[derive(Debug, Clone, Default)]
pub struct HttpTransport {
    /// A PEM file with the only trusted authorities. Without it, the system's authorities are trusted.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) proxy: Proxy,
}

/// The proxy of an upstream.
#[derive(Debug, Clone, Default)]
pub(crate) enum Proxy {
    /// From `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    #[default]
    Environment,
    Nothing,
    /// A URL, which may contain a password.
    At(SecretString),
}

#[derive(Debug)]
pub struct Profile {
    pub name: ProfileName,
    pub upstream: Arc<str>,
    /// The profile whose session assumes the role, instead of the principal.
    pub base: Option<ProfileName>,
    pub role: RoleRequest,
    pub lease: LeaseLimit,
    pub on_revoke: OnRevoke,
    pub revoke_on: RevokeOn,
    /// The longest time since the last successful poll for revocations. After it, a strict profile is refused, and others are
    /// served with a warning.
    pub max_view_age: Duration,
    /// For consumers that need the region of the services.
    pub region: Option<Region>,
    /// The account of the role.
    pub account_id: Option<AccountId>,
    /// Who may use the profile.
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
            base: None,
            account_id: None,
            callers: Callers::default(),
        }
    }
}

/// The reaction to a revocation by another party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRevoke {
    /// The profile is held until a user resumes it.
    #[default]
    Hold,
    /// The role is assumed again, for unattended machines.
    Reassume,
}

/// The events of this machine that revoke the sessions of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RevokeOn {
    /// The daemon is stopped.
    pub(crate) stop: bool,
    /// The user's screen is locked.
    pub(crate) lock: bool,
    /// The machine is suspended.
    pub(crate) sleep: bool,
}

/// What a session is asked for.
#[derive(Debug)]
pub struct RoleRequest {
    pub role: Role,
    /// From [`SHORTEST_SESSION`] to [`LONGEST_SESSION`], whole seconds.
    pub duration: Duration,
}

impl RoleRequest {
    pub fn bycloud(role_id: RoleId, duration: Duration) -> Self {
        Self {
            role: Role::ByCloud(role_id),
            duration,
        }
    }
}

/// A role, as its kind of upstream names it.
#[derive(Debug)]
pub enum Role {
    ByCloud(RoleId),
    Aws(Box<AwsRole>),
}

impl Role {
    /// Everything that decides what a session may do. It holds no secret.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::ByCloud(id) => id.as_str().into(),
            Self::Aws(role) => format!("{role:?}"),
        }
    }

    pub fn id(&self) -> &str {
        match self {
            Self::ByCloud(id) => id.as_str(),
            Self::Aws(role) => &role.arn,
        }
    }
}

/// The longest advertised lifetime. A running SDK asks again only near the advertised expiry (botocore: 15 minutes before it), so
/// that a shorter lease ends the use of a revoked session earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeaseLimit {
    /// Until the session expires.
    Full,
    /// 16 minutes: botocore asks again after about one.
    #[default]
    Balanced,
    /// 10 minutes: botocore asks again at every signing.
    Strict,
    Limit(Duration),
}

impl LeaseLimit {
    pub(crate) fn limit(self) -> Option<Duration> {
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
    pub(crate) fn parse(text: &str) -> Option<Self> {
        is_name(text).then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// An AWS account's number: 12 digits, of which the first may be zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountId(Box<str>);

impl AccountId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        (text.len() == 12 && text.bytes().all(|each| each.is_ascii_digit()))
            .then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A role's id at its upstream: 1 to 64 letters, digits, `-` and `_`, so that it is one segment of a URL path without escapes.
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

/// The URL that tokens are sent to: `https`, or `http` on a loopback address (assumption A1), without credentials, query and
/// fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// The error is a predicate: the text is its subject.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("contains a user name or password; set `token` instead".into());
        }

        if url.query().is_some() || url.fragment().is_some() {
            return Err("contains `?` or `#`".into());
        }

        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            "http" => Err(
                "would send the token in clear; use https, or http on a loopback address".into(),
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

/// Only an address: a name can resolve to another machine.
fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host.trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
    })
}

/// The known name that `word` is probably a misspelling of.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
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
    fn endpoint_is_https_or_loopback() {
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
    fn path_is_joined_with_one_slash() {
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
    fn names_and_ids_contain_no_path_or_control_characters() {
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
    fn only_a_near_name_is_suggested() {
        let known = ["duration", "role_id", "lease"];
        assert_eq!(nearest("durration", known), Some("duration"));
        assert_eq!(nearest("roleid", known), Some("role_id"));
        assert_eq!(nearest("xyz", known), None);
    }
}
