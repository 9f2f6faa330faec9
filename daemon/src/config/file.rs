//! From the configuration's file to what is in force: every error at once, each with its line and column.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use rolekeeper::protocol::is_name;
use thiserror::Error;

use super::raw::{Faults, Table, parse};
use super::{
    AccountId, AlsoTo, CHECKS, Config, DEFAULT_CHECK, DEFAULT_SESSION, Endpoint, HttpTransport,
    LONGEST_SESSION, LeaseLimit, OnRevoke, Profile, ProfileName, Proxy, Region, RevokeOn, RoleId,
    RoleRequest, SHORTEST_SESSION, UpstreamConfig, callers, nearest, token,
};
use crate::cache::freshness::MARGIN;
use crate::platform::private_file::{self, FileErrorKind, PrivateFileError};

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("there is no place for a configuration: XDG_CONFIG_HOME and HOME are not set")]
    NoPlace,
    #[error("the configuration {0}")]
    File(#[from] PrivateFileError),
    #[error("the configuration {path} names no upstream", path = .0.display())]
    Empty(PathBuf),
    #[error("the configuration has {count}:{list}", count = count(.0.len()), list = .0.iter().map(|fault| format!("\n  {fault}")).collect::<String>())]
    Faults(Vec<PlacedFault>),
}

/// An error in the file, with its place for editors and people: lines and columns count from 1, columns in characters.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{path}:{line}:{column}: {what}", path = .path.display())]
pub struct PlacedFault {
    pub path: PathBuf,
    pub line: usize,
    pub column: usize,
    pub what: String,
}

fn count(faults: usize) -> String {
    if faults == 1 {
        "an error".into()
    } else {
        format!("{faults} errors")
    }
}

impl ConfigError {
    pub fn hint(&self) -> String {
        match self {
            Self::NoPlace => {
                "set ROLEKEEPER_CONFIG, or --config, to the configuration's path".into()
            }
            Self::File(PrivateFileError {
                path,
                why: FileErrorKind::Missing,
            })
            | Self::Empty(path) => {
                format!("write {} (mode 600) like this:{EXAMPLE}", path.display())
            }
            Self::File(error) => error.hint(),
            Self::Faults(_) => {
                "mend the file, and see that rolekeeperd --check finds nothing more".into()
            }
        }
    }
}

const EXAMPLE: &str = r#"
    [upstream.bycloud]
    kind = "bycloud"
    endpoint = "https://iam.example.test"
    token = { file = "~/.config/rolekeeper/token" }

    [profile.dev]
    upstream = "bycloud"
    role_id = "550e8400-e29b-41d4-a716-446655440000"
    duration = "1h""#;

/// `--config`, else `ROLEKEEPER_CONFIG`, else `$XDG_CONFIG_HOME/rolekeeper/config.toml`, else the same below `~/.config`.
/// The result is absolute: a daemon that detaches works in another folder.
pub fn path(flag: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    use rolekeeper::connect::variable;
    flag.or_else(|| variable("ROLEKEEPER_CONFIG").map(PathBuf::from))
        .or_else(|| {
            variable("XDG_CONFIG_HOME")
                .map(PathBuf::from)
                .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")))
                .map(|dir| dir.join("rolekeeper/config.toml"))
        })
        .map(|path| std::path::absolute(&path).unwrap_or(path))
        .ok_or(ConfigError::NoPlace)
}

/// Reads and validates the configuration.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = private_file::read(path)?;
    let config = check(&text, path).map_err(ConfigError::Faults)?;
    if config.upstreams.is_empty() {
        Err(ConfigError::Empty(path.into()))
    } else {
        Ok(config)
    }
}

/// What a text says as the configuration at this path, or all that is wrong with it, in the order of the file.
pub fn check(text: &str, path: &Path) -> Result<Config, Vec<PlacedFault>> {
    validate(text, path.parent().unwrap_or(Path::new(""))).map_err(|faults| {
        faults
            .0
            .into_iter()
            .map(|fault| place(path, text, fault.at, fault.what))
            .collect()
    })
}

fn place(path: &Path, text: &str, at: usize, what: String) -> PlacedFault {
    debug_assert!(
        text.is_char_boundary(at),
        "{at} is no place in the text: {what}"
    );
    let before = text.get(..at).unwrap_or(text);
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    PlacedFault {
        path: path.into(),
        line: before.matches('\n').count() + 1,
        column,
        what,
    }
}

fn validate(text: &str, folder: &Path) -> Result<Config, Faults> {
    let mut faults = Faults::default();
    let mut root = parse(text, &mut faults);
    if !faults.0.is_empty() {
        // What stands behind an error of the syntax may not be what was meant; its errors would mislead.
        faults.0.sort_by_key(|fault| fault.at);
        return Err(faults);
    }
    let mut upstreams = BTreeMap::new();
    let named = root.named_tables("upstream", &mut faults);
    // One text for each, however many profiles name it.
    let names: Vec<Arc<str>> = named.iter().map(|(name, _)| name.as_str().into()).collect();
    for ((_, table), name) in named.into_iter().zip(&names) {
        if let Some(upstream) = upstream(name, table, folder, &mut faults) {
            upstreams.insert(Arc::clone(name), upstream);
        }
    }
    let endpoint_port = root
        .table("endpoint", &mut faults)
        .and_then(|table| endpoint_port(table, &mut faults));
    let also_to = root
        .table("journal", &mut faults)
        .map(|table| also_to(table, &mut faults))
        .unwrap_or_default();
    for (name, table) in root.named_tables("profile", &mut faults) {
        let span = table.span.clone();
        let profile = profile(&name, table, (&names, folder), &mut faults);
        if let Some((profile, upstream)) =
            profile.and_then(|it| upstreams.get_mut(&it.upstream).map(|up| (it, up)))
        {
            if profile.max_view_age < upstream.check_every * 2 {
                let why = "is less than twice its upstream's `check_every`: one late answer would make it too old";
                faults.add(&span, format!("`profile.{name}.max_view_age` {why}"));
            }
            upstream.profiles.push(profile);
        }
    }
    root.finish(&mut faults);
    faults.0.sort_by_key(|fault| fault.at);
    if !faults.0.is_empty() {
        return Err(faults);
    }
    Ok(Config {
        upstreams: upstreams.into_values().collect(),
        endpoint_port,
        also_to,
    })
}

fn also_to(mut table: Table<'_>, faults: &mut Faults) -> Vec<AlsoTo> {
    let mut also_to = Vec::new();
    table.texts("also_to", faults, |text| {
        also_to.push(match text {
            "journald" => AlsoTo::Journald,
            "syslog" => AlsoTo::Syslog,
            _ => return Err("is none of \"journald\" and \"syslog\"".into()),
        });
        Ok(())
    });
    table.finish(faults);
    also_to
}

fn endpoint_port(mut table: Table<'_>, faults: &mut Faults) -> Option<u16> {
    let port = table.integer("port", faults, |port| match u16::try_from(port) {
        Ok(port @ 1024..) => Ok(port),
        _ => Err("is out of range; a port of a user's own is from 1024 to 65535".into()),
    });
    table.finish(faults);
    port
}

fn upstream(
    name: &Arc<str>,
    mut table: Table<'_>,
    folder: &Path,
    faults: &mut Faults,
) -> Option<UpstreamConfig> {
    check_name(name, &table, faults);
    for (key, example) in [
        ("kind", "\"bycloud\""),
        ("endpoint", "\"https://iam.example.test\""),
        ("token", "{ file = \"PATH\" }"),
    ] {
        if !table.has(key) {
            table.missing(key, example, faults);
        }
    }
    let kind = table.text("kind", faults, |text| match text {
        "bycloud" => Ok(()),
        _ => Err("is no kind of upstream; this version knows `bycloud`".into()),
    });
    let endpoint = table.text("endpoint", faults, Endpoint::parse);
    let token = table
        .table("token", faults)
        .and_then(|token| token::source(token, folder, faults));
    let check_every = table.text("check_every", faults, |text| {
        let outside = "is out of range; an upstream is asked every 1s to 2m30s";
        time_span(text).and_then(|span| {
            if CHECKS.contains(&span) {
                Ok(span)
            } else {
                Err(outside.into())
            }
        })
    });
    let ca = table.text("ca", faults, |text| file_path(text, folder));
    let proxy = table.text("proxy", faults, proxy).unwrap_or_default();
    table.finish(faults);
    kind?;
    Some(UpstreamConfig {
        name: Arc::clone(name),
        endpoint: endpoint?,
        token: token?,
        way: HttpTransport { ca, proxy },
        check_every: check_every.unwrap_or(DEFAULT_CHECK),
        profiles: Vec::new(),
    })
}

/// `none`, or a proxy's URL.
fn proxy(text: &str) -> Result<Proxy, String> {
    if text == "none" {
        return Ok(Proxy::Nothing);
    }
    let is_proxy = reqwest::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.path() == "/"
    });
    if is_proxy {
        Ok(Proxy::At(text.into()))
    } else {
        Err("is no proxy; write \"http://HOST:PORT\" or \"none\"".into())
    }
}

/// `~/` is the home folder; what is not absolute lies beside the configuration.
pub(super) fn file_path(text: &str, folder: &Path) -> Result<PathBuf, String> {
    match text.strip_prefix("~/") {
        _ if text.is_empty() => Err("is no path".into()),
        None => Ok(folder.join(text)),
        Some(rest) => rolekeeper::connect::variable("HOME")
            .map(|home| Path::new(&home).join(rest))
            .ok_or_else(|| "needs HOME to be set".into()),
    }
}

fn profile(
    name: &str,
    mut table: Table<'_>,
    (upstreams, folder): (&[Arc<str>], &Path),
    faults: &mut Faults,
) -> Option<Profile> {
    check_name(name, &table, faults);
    for (key, example) in [
        ("upstream", "\"bycloud\""),
        ("role_id", "\"550e8400-e29b-41d4-a716-446655440000\""),
    ] {
        if !table.has(key) {
            table.missing(key, example, faults);
        }
    }
    let upstream = table.text("upstream", faults, |text| {
        let known = upstreams
            .iter()
            .find(|known| ***known == *text)
            .map(Arc::clone);
        known.ok_or_else(
            || match nearest(text, upstreams.iter().map(AsRef::as_ref)) {
                Some(known) => format!("is no [upstream]; did you mean `{known}`?"),
                None => "is no [upstream] of this file".into(),
            },
        )
    });
    let role_id = table.text("role_id", faults, |text| {
        RoleId::parse(text)
            .ok_or_else(|| "is no role id: 1 to 64 letters, digits, `-` and `_`".into())
    });
    let duration = table.text("duration", faults, session_duration);
    let lease = table.text("lease", faults, lease_limit);
    let on_revoke = table.text("on_revoke", faults, |text| match text {
        "hold" => Ok(OnRevoke::Hold),
        "reassume" => Ok(OnRevoke::Reassume),
        _ => Err("is none of \"hold\" and \"reassume\"".into()),
    });
    let mut revoke_on = RevokeOn::default();
    table.texts("revoke_on", faults, |text| {
        match text {
            "stop" => revoke_on.stop = true,
            "lock" => revoke_on.lock = true,
            "sleep" => revoke_on.sleep = true,
            _ => return Err("is none of \"stop\", \"lock\" and \"sleep\"".into()),
        }
        Ok(())
    });
    let max_view_age = table.text("max_view_age", faults, |text| {
        let outside = "is out of range; what is known of revocations may be 10s to 12h old";
        let ages = Duration::from_secs(10)..=LONGEST_SESSION;
        time_span(text).and_then(|span| {
            if ages.contains(&span) {
                Ok(span)
            } else {
                Err(outside.into())
            }
        })
    });
    let region = table.text("region", faults, |text| {
        Region::parse(text).ok_or_else(|| "is no region; write one such as \"eu-central-1\"".into())
    });
    let account_id = table.text("account_id", faults, |text| {
        AccountId::parse(text).ok_or_else(|| "is no account; its number has 12 digits".into())
    });
    let callers = callers::callers(&mut table, folder, faults);
    table.finish(faults);
    let role = RoleRequest {
        role_id: role_id?,
        duration: duration.unwrap_or(DEFAULT_SESSION),
    };
    let defaults = Profile::new(ProfileName::parse(name)?, upstream?, role);
    Some(Profile {
        lease: lease.unwrap_or(defaults.lease),
        on_revoke: on_revoke.unwrap_or(defaults.on_revoke),
        revoke_on,
        max_view_age: max_view_age.unwrap_or(defaults.max_view_age),
        region,
        account_id,
        callers,
        ..defaults
    })
}

fn check_name(name: &str, table: &Table<'_>, faults: &mut Faults) {
    if !is_name(name) {
        faults.add(
            &table.span,
            format!(
                "`{}`: a name has 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit",
                table.path
            ),
        );
    }
}

fn session_duration(text: &str) -> Result<Duration, String> {
    let duration = time_span(text)?;
    if (SHORTEST_SESSION..=LONGEST_SESSION).contains(&duration) {
        Ok(duration)
    } else {
        Err("is out of range; a session lasts from 15m to 12h".into())
    }
}

fn lease_limit(text: &str) -> Result<LeaseLimit, String> {
    match text {
        "full" => Ok(LeaseLimit::Full),
        "balanced" => Ok(LeaseLimit::Balanced),
        "strict" => Ok(LeaseLimit::Strict),
        _ => match time_span(text) {
            Ok(limit) if (MARGIN..=LONGEST_SESSION).contains(&limit) => {
                Ok(LeaseLimit::Limit(limit))
            }
            Ok(_) => Err(format!(
                "is out of range; a lease lasts from {}s to 12h",
                MARGIN.as_secs()
            )),
            Err(_) => Err(
                "is no lease; write \"full\", \"balanced\", \"strict\" or a time such as \"20m\""
                    .into(),
            ),
        },
    }
}

/// A time with units, in whole seconds: `90s`, `15m`, `1h30m`.
pub(super) fn time_span(text: &str) -> Result<Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|span| Duration::try_from(span).ok())
        .filter(|span| span.subsec_nanos() == 0)
        .ok_or_else(|| "is no time; write a number and a unit, such as \"15m\" or \"1h30m\"".into())
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
