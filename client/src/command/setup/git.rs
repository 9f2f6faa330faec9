//! A credential helper of git for a host, by `git config`. An empty helper before it turns off the helpers for all hosts: one
//! that stores passwords would also store the token.

use std::collections::{BTreeMap, BTreeSet};

use rolekeeper::protocol::{Code, Failure};

use super::plan::{Change, Plan};
use super::program::{self, option, quoted};
use super::{Common, external};
use crate::command::lease;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) common: Common,
    /// The host of the repositories, with its port if that is not 443; may be repeated
    #[arg(long = "host", value_name = "HOST", value_parser = program::host, required_unless_present = "undo")]
    hosts: Vec<String>,
    /// The user name to give with the token
    #[arg(long, value_name = "NAME", value_parser = lease::username)]
    username: Option<String>,
}

pub(super) fn plan(arguments: &Arguments, socket: Option<&str>) -> Result<Plan, Failure> {
    let git = match &arguments.common.file {
        Some(file) => vec!["git", "config", "--file", file],
        None => vec!["git", "config", "--global"],
    };

    let helpers = helpers(&git)?;
    let changes = match arguments.common.undo {
        true => removals(&git, arguments, &helpers),
        false => additions(&git, arguments, &helpers, socket)?,
    };

    let host = arguments.hosts.first().map_or("HOST", String::as_str);
    Ok(Plan {
        changes,
        example: format!("git ls-remote https://{host}/PATH/OF/REPOSITORY"),
        notes: Vec::new(),
    })
}

fn command(git: &[&str], words: &[&str]) -> Vec<String> {
    git.iter()
        .chain(words)
        .map(|&word| word.to_owned())
        .collect()
}

fn change(git: &[&str], words: &[&str]) -> Change {
    let command = command(git, words);
    Change::Command { command }
}

/// The credential helpers by key, in git's order.
fn helpers(git: &[&str]) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let words = ["--null", "--get-regexp", r"^credential\..*\.helper$"];
    let text = external::run(&command(git, &words))?;
    let mut helpers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in text.split_terminator('\0') {
        let (key, value) = entry.split_once('\n').unwrap_or((entry, ""));
        let values = helpers.entry(key.to_owned()).or_default();
        values.push(value.to_owned());
    }
    Ok(helpers)
}

fn key(host: &str) -> String {
    format!("credential.https://{host}.helper")
}

/// The profile of a helper that setup has added.
fn profile_of(helper: &str) -> Option<&str> {
    let (_, rest) = helper.split_once(" git-credential ")?;
    let (profile, options) = rest.split_once(' ')?;
    options.starts_with("--host ").then_some(profile)
}

fn additions(
    git: &[&str],
    arguments: &Arguments,
    helpers: &BTreeMap<String, Vec<String>>,
    socket: Option<&str>,
) -> Result<Vec<Change>, Failure> {
    let mut changes = Vec::new();
    for host in arguments.hosts.iter().collect::<BTreeSet<_>>() {
        let key = key(host);
        let helper = helper(arguments, host, socket)?;
        let values = helpers.get(&key).map_or(&[][..], Vec::as_slice);
        match values.iter().find(|value| profile_of(value).is_some()) {
            Some(old) if *old == helper => {}
            Some(old) => {
                let words = ["--fixed-value", "--replace-all", &key, &helper, old];
                changes.push(change(git, &words));
            }
            None if values.is_empty() => {
                changes.push(change(git, &["--add", &key, ""]));
                changes.push(change(git, &["--add", &key, &helper]));
            }
            // It is not printed: it may be a shell command with a secret.
            None => {
                let remove = quoted(&command(git, &["--unset-all", &key]));
                return Err(Failure::new(
                    Code::Configuration,
                    format!("git already has another credential helper for https://{host}"),
                    format!("run {remove}"),
                ));
            }
        }
    }

    Ok(changes)
}

/// The command of the helper. git starts it with a shell if it is an absolute path, or after a `!`.
fn helper(arguments: &Arguments, host: &str, socket: Option<&str>) -> Result<String, Failure> {
    let program = program::path(|_| true)?;
    let mut words = vec![&program, "git-credential", &arguments.common.profile];
    words.extend(option("--host", [host]));
    words.extend(option("--username", arguments.username.as_deref()));
    words.extend(option("--socket", socket));
    let command = quoted(&words);
    Ok(match command.starts_with('/') {
        true => command,
        false => format!("!{command}"),
    })
}

fn removals(
    git: &[&str],
    arguments: &Arguments,
    helpers: &BTreeMap<String, Vec<String>>,
) -> Vec<Change> {
    let keys: Vec<String> = arguments.hosts.iter().map(|host| key(host)).collect();
    let is_ours = |value: &&String| profile_of(value) == Some(&arguments.common.profile);
    let mut changes = Vec::new();
    for (key, values) in helpers {
        let is_meant = keys.is_empty() || keys.contains(key);
        let ours: Vec<_> = values.iter().filter(is_ours).filter(|_| is_meant).collect();
        let has_others = values
            .iter()
            .any(|value| !value.is_empty() && !is_ours(&value));
        if !ours.is_empty() && !has_others {
            changes.push(change(git, &["--unset-all", key]));
            continue;
        }
        for value in ours {
            changes.push(change(git, &["--fixed-value", "--unset-all", key, value]));
        }
    }

    changes
}
