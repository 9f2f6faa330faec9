//! From the configuration file to [`Config`]: all errors at once, each with its line and column.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rolekeeper::connect::{CONFIG_VARIABLE, variable};
use rolekeeper::places;
use thiserror::Error;

use super::raw::{Errors, RawError, Table, parse};
use super::{AlsoTo, Config, aws_files, nearest, profile, upstream};
use crate::platform::private_file::{self, FileErrorKind, PrivateFileError};

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot find the configuration: XDG_CONFIG_HOME is not set, and this user has no home")]
    NoPath,
    #[error("the configuration {0}")]
    File(#[from] PrivateFileError),
    #[error("the configuration {path} has no upstream", path = .0.display())]
    NoUpstream(PathBuf),
    #[error("the configuration has {}", list(.0))]
    Invalid(Vec<InvalidConfig>),
    /// Only `--check` reports it.
    #[error("the configuration is valid, but cannot be used yet:{}", lines(.0))]
    UnusableFiles(Vec<String>),
    /// Only `--check` reports it.
    #[error("a file of AWS cannot be used:{}", lines(.0))]
    UnusableAwsFiles(Vec<String>),
}

/// One error in the file. Lines and columns start at 1; columns are in characters.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{path}:{line}:{column}: {message}", path = .path.display())]
pub struct InvalidConfig {
    pub(crate) path: PathBuf,
    pub line: usize,
    pub column: usize,
    pub message: String,
}

fn lines(problems: &[String]) -> String {
    problems
        .iter()
        .map(|problem| format!("\n  {problem}"))
        .collect()
}

/// The number of errors, and each on its own line.
fn list(errors: &[InvalidConfig]) -> String {
    let mut text = match errors.len() {
        1 => "1 error:".to_owned(),
        count => format!("{count} errors:"),
    };
    for error in errors {
        text.push_str(&format!("\n  {error}"));
    }
    text
}

impl ConfigError {
    /// What the user can do, as an imperative.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::NoPath => {
                "set --config or ROLEKEEPER_CONFIG to the path of the configuration".into()
            }
            Self::File(PrivateFileError {
                path,
                kind: FileErrorKind::Missing,
            })
            | Self::NoUpstream(path) => {
                format!("write {} (mode 600) like this:{EXAMPLE}", path.display())
            }
            Self::File(error) => error.hint(),
            Self::UnusableAwsFiles(_) => {
                "correct the file, which rolekeeperd then reads again".into()
            }
            Self::UnusableFiles(_) => {
                "create the file (chmod 600), install the program, or correct `token` in the configuration".into()
            }
            Self::Invalid(_) => "correct the file at these lines".into(),
        }
    }
}

const EXAMPLE: &str = r#"
    [upstream.aws]
    kind = "aws"
    region = "eu-central-1"
    keys = { keyring = "aws" }

    [profile.dev]
    upstream = "aws"
    role_arn = "arn:aws:iam::111122223333:role/developer"

    # All profiles of ~/.aws/config:
    # [aws]
    # config = "~/.aws/config"

    # ByCloud IAM:
    # [upstream.bycloud]
    # kind = "bycloud"
    # endpoint = "https://iam.example.test"
    # token = { keyring = "bycloud" }
    #
    # [profile.web]
    # upstream = "bycloud"
    # role_id = "550e8400-e29b-41d4-a716-446655440000""#;

/// `--config`, else `ROLEKEEPER_CONFIG`, else `$XDG_CONFIG_HOME/rolekeeper/config.toml`, else the same below `~/.config`.
/// The result is absolute, because a daemon that detaches changes its folder.
pub(crate) fn path(flag: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let path = flag
        .or_else(|| variable(CONFIG_VARIABLE).map(PathBuf::from))
        .or_else(places::default_config)
        .ok_or(ConfigError::NoPath)?;
    Ok(std::path::absolute(&path).unwrap_or(path))
}

/// Reads and validates the configuration.
pub(crate) fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = private_file::read(path)?;
    let config = check(&text, path).map_err(ConfigError::Invalid)?;
    if config.upstreams.is_empty() && config.aws_files.is_none() {
        return Err(ConfigError::NoUpstream(path.into()));
    }
    Ok(config)
}

/// Validates a text as the configuration at this path. Returns all errors in the order of the file.
pub fn check(text: &str, path: &Path) -> Result<Config, Vec<InvalidConfig>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    validate(text, folder).map_err(|errors| {
        let located = errors.0.into_iter().map(|error| locate(text, path, error));
        located.collect()
    })
}

fn locate(text: &str, path: &Path, error: RawError) -> InvalidConfig {
    debug_assert!(text.is_char_boundary(error.offset), "{error:?}");
    let before = text.get(..error.offset).unwrap_or(text);
    let line_before = before.rsplit('\n').next().unwrap_or_default();
    InvalidConfig {
        path: path.into(),
        line: before.matches('\n').count() + 1,
        column: line_before.chars().count() + 1,
        message: error.message,
    }
}

fn validate(text: &str, folder: &Path) -> Result<Config, Errors> {
    let mut errors = Errors::default();
    let root = parse(text, &mut errors);
    // After a syntax error the rest may not mean what it seems to mean. Its errors would mislead.
    let config = if errors.0.is_empty() {
        Some(validate_root(root, folder, &mut errors))
    } else {
        None
    };

    errors.0.sort_by_key(|error| error.offset);
    match config {
        Some(config) if errors.0.is_empty() => Ok(config),
        _ => Err(errors),
    }
}

fn validate_root(mut root: Table<'_>, folder: &Path, errors: &mut Errors) -> Config {
    let mut upstreams = BTreeMap::new();
    let mut known = Vec::new();
    for (name, table) in root.named_tables("upstream", errors) {
        let name: Arc<str> = name.into();
        let upstream = upstream::parse(&name, table, folder, errors);
        let kind = upstream.as_ref().map(|upstream| upstream.kind.clone());
        known.push((Arc::clone(&name), kind));
        upstreams.extend(upstream.map(|upstream| (name, upstream)));
    }

    let aws = root
        .table("aws", errors)
        .map(|table| aws_files::parse(table, folder, errors));
    let endpoint_port = root
        .table("endpoint", errors)
        .and_then(|table| endpoint_port(table, errors));
    let also_to = root
        .table("journal", errors)
        .map(|table| also_to(table, errors))
        .unwrap_or_default();

    let (of_aws_files, tables) = root
        .named_tables("profile", errors)
        .into_iter()
        .partition::<Vec<_>, _>(|(name, _)| aws.is_some() && name.starts_with(aws_files::PREFIX));
    let mut options = BTreeMap::new();
    for (name, mut table) in of_aws_files {
        options.insert(name, profile::options(&mut table, folder, errors));
        table.finish(errors);
    }

    let chains = Chains::of(&tables);
    for (name, table) in tables {
        let span = table.span.clone();
        let profile = profile::parse(&name, table, &known, &chains, folder, errors);
        let Some(profile) = profile else { continue };
        // An upstream with errors is missing here. Its own errors are enough.
        let Some(upstream) = upstreams.get_mut(&profile.upstream) else {
            continue;
        };
        if profile.max_view_age < upstream.check_every * 2 {
            let reason = "is less than twice the `check_every` of its upstream: one late poll would exceed it";
            errors.add(&span, format!("`profile.{name}.max_view_age` {reason}"));
        }
        upstream.profiles.push(profile);
    }

    root.finish(errors);
    let aws_files = aws
        .flatten()
        .map(|settings| aws_files::load(settings, options, &mut upstreams));

    Config {
        upstreams: upstreams.into_values().collect(),
        endpoint_port,
        also_to,
        aws_files,
    }
}

/// What each profile is assumed from: the profile of its `from`, and at the end of each chain an upstream.
#[derive(Debug, Default)]
pub(super) struct Chains(BTreeMap<String, (Option<String>, Option<String>)>);

impl Chains {
    fn of(tables: &[(String, Table<'_>)]) -> Self {
        let links = tables.iter().map(|(name, table)| {
            let value = |key| table.peek(key).map(str::to_owned);
            (name.clone(), (value("from"), value("upstream")))
        });
        Self(links.collect())
    }

    /// The upstream at the end of the chain from this profile. None if it names none, which is its own error.
    ///
    /// # Errors
    /// When there is no such profile, or the chain has no end. The profile is the subject.
    pub(super) fn upstream_of(&self, profile: &str) -> Result<Option<String>, String> {
        let mut names = vec![profile];
        loop {
            let last = names.last().copied().unwrap_or_default();
            let Some((from, upstream)) = self.0.get(last) else {
                let known = self.0.keys().map(String::as_str);
                return Err(match nearest(last, known) {
                    _ if last != profile => format!("comes from `{last}`, which is not a profile"),
                    Some(known) => format!("is not a profile; did you mean `{known}`?"),
                    None => format!("is not a profile; add [profile.{last}]"),
                });
            };
            match from {
                None => return Ok(upstream.clone()),
                Some(next) if names.contains(&next.as_str()) => {
                    names.push(next);
                    return Err(format!("leads in a circle: {}", names.join(" from ")));
                }
                Some(next) => names.push(next),
            }
        }
    }
}

fn also_to(mut table: Table<'_>, errors: &mut Errors) -> Vec<AlsoTo> {
    let mut also_to = Vec::new();
    table.strings("also_to", errors, |text| {
        also_to.push(match text {
            "journald" => AlsoTo::Journald,
            "syslog" => AlsoTo::Syslog,
            _ => return Err("is not a log; use \"journald\" or \"syslog\"".into()),
        });
        Ok(())
    });

    table.finish(errors);

    also_to
}

fn endpoint_port(mut table: Table<'_>, errors: &mut Errors) -> Option<u16> {
    let port = table.integer("port", errors, |port| match u16::try_from(port) {
        Ok(port @ 1024..) => Ok(port),
        _ => Err("is out of range; use 1024 to 65535".into()),
    });
    table.finish(errors);
    port
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
