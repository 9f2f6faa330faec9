//! A credential helper of git for a host, by `git config`. An empty helper before it turns off the helpers for all hosts: one
//! that stores passwords would also store the token. It is at the end of the file, because later helpers stay on.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};
use rolekeeper::shell::quoted;

use super::file::check_path;
use super::plan::{Change, Note, Plan};
use super::program::{self, option};
use super::{Common, external};
use crate::command::address::{Origin, Scheme};
use crate::command::git_helpers::{self, LIST, SCOPE, Setting};
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
    let file = arguments.common.options.file.as_deref();
    let global = connect::variable("GIT_CONFIG_GLOBAL");
    // git follows links.
    if let Some(path) = file.map(OsStr::new).or(global.as_deref()) {
        check_path(Path::new(path))?;
    }

    let git = match file {
        Some(file) => vec!["git", "config", "--file", file],
        None => vec!["git", "config", "--global"],
    };

    let settings = git_helpers::parse(&external::run(&command(&git, &LIST))?, false);
    let changes = match arguments.common.options.undo {
        true => removals(&git, arguments, &helpers(&settings)),
        false => {
            let list = [&["--includes"], &LIST[..]].concat();
            let all = git_helpers::parse(&external::run(&command(&git, &list))?, false);
            additions(&git, arguments, &settings, &all, socket)?
        }
    };

    let notes = match (arguments.common.options.undo, file) {
        (false, None) => later_helpers(arguments)?,
        _ => Vec::new(),
    };

    let host = arguments.hosts.first().map_or("HOST", String::as_str);
    Ok(Plan {
        changes,
        example: format!("git ls-remote https://{host}/PATH/OF/REPOSITORY"),
        notes,
    })
}

/// Notes about helpers in the configuration of this repository, which git reads last.
fn later_helpers(arguments: &Arguments) -> Result<Vec<Note>, Failure> {
    let all = command(&["git", "config", SCOPE], &LIST);
    let settings = git_helpers::parse(&external::run(&all)?, true);
    let mut notes = Vec::new();
    for host in &arguments.hosts {
        let Some(origin) = Origin::of_host(Scheme::Https, host) else {
            continue;
        };
        let helpers = git_helpers::in_effect(&settings, &origin);
        let is_later = |scope: &str| matches!(scope, "local" | "worktree");
        let mut later = helpers.iter().filter(|helper| is_later(&helper.scope));
        if let Some(other) = later.find(|helper| !helper.is_rolekeeper()) {
            let Setting { scope, key, .. } = other;
            notes.push(Note {
                message: format!(
                    "in this repository git gets no token for https://{host}: \
                    {key} in its {scope} configuration is a helper that would store it"
                ),
                hint: git_helpers::unset(scope, key),
            });
        }
    }

    Ok(notes)
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

/// The values of helpers for an address by key, in git's order.
fn helpers(settings: &[Setting]) -> BTreeMap<&str, Vec<&str>> {
    let mut helpers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let is_helper =
        |key: &str| key.starts_with("credential.") && key.ends_with(".helper") && key.len() > 17;
    for Setting { key, value, .. } in settings.iter().filter(|setting| is_helper(&setting.key)) {
        helpers.entry(key).or_default().push(value);
    }

    helpers
}

fn key(host: &str) -> String {
    format!("credential.https://{host}.helper")
}

/// The profile of a helper that setup has added.
fn profile_of(helper: &str) -> Option<&str> {
    let (_, rest) = helper.split_once(" git-credential ")?;
    let (profile, options) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_ours = options.is_empty() || options.starts_with("--");
    Some(profile).filter(|_| is_ours)
}

/// The changes to the settings of the file. `all` has those of included files, too.
fn additions(
    git: &[&str],
    arguments: &Arguments,
    settings: &[Setting],
    all: &[Setting],
    socket: Option<&str>,
) -> Result<Vec<Change>, Failure> {
    let helpers = helpers(settings);
    let mut changes = Vec::new();
    for host in arguments.hosts.iter().collect::<BTreeSet<_>>() {
        let key = key(host);
        let helper = helper(arguments, host, socket)?;
        let add = [
            change(git, &["--add", &key, ""]),
            change(git, &["--add", &key, &helper]),
        ];
        let values = helpers.get(key.as_str()).map_or(&[][..], Vec::as_slice);
        let is_other = |value: &&&str| !value.is_empty() && profile_of(value).is_none();
        // It is not printed: it may be a shell command with a secret.
        if values.iter().any(|value| is_other(&value)) {
            let remove = quoted(&command(git, &["--unset-all", &key]));
            return Err(Failure::new(
                Code::Configuration,
                format!("git already has another credential helper for https://{host}"),
                format!("run {remove}"),
            ));
        }

        let old = values.iter().find(|value| profile_of(value).is_some());
        let is_alone = is_alone(all, host);
        match old {
            Some(old) if is_alone && *old == helper => {}
            Some(old) if is_alone => {
                let words = ["--fixed-value", "--replace-all", &key, &helper, old];
                changes.push(change(git, &words));
            }
            _ => {
                check_section(git, all, host)?;
                let is_new = values.is_empty();
                changes.extend((!is_new).then(|| change(git, &["--unset-all", &key])));
                changes.extend(add);
            }
        }
    }

    Ok(changes)
}

/// Whether git runs no other helper of this file for the host.
fn is_alone(settings: &[Setting], host: &str) -> bool {
    let Some(origin) = Origin::of_host(Scheme::Https, host) else {
        return true;
    };

    let helpers = git_helpers::in_effect(settings, &origin);
    helpers.iter().all(|helper| helper.is_rolekeeper())
}

/// git adds a setting to the section of the host if there is one, else at the end of the file. Refuses a section before a
/// helper for all hosts, which would stay on.
fn check_section(git: &[&str], settings: &[Setting], host: &str) -> Result<(), Failure> {
    let section = format!("credential.https://{host}.");
    let is_other =
        |setting: &Setting| setting.key.starts_with(&section) && !setting.key.ends_with(".helper");
    let Some(at) = settings.iter().position(is_other) else {
        return Ok(());
    };

    if is_alone(settings.get(at..).unwrap_or_default(), host) {
        return Ok(());
    }

    let message = format!(
        "git would store the token: its section for https://{host} is before another credential helper"
    );
    let edit = quoted(&command(git, &["--edit"]));
    let hint =
        format!("run {edit}, and move the section [credential \"https://{host}\"] to the end");
    Err(Failure::new(Code::Configuration, message, hint))
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
    helpers: &BTreeMap<&str, Vec<&str>>,
) -> Vec<Change> {
    let keys: Vec<String> = arguments.hosts.iter().map(|host| key(host)).collect();
    let is_ours = |value: &&&str| profile_of(value) == Some(&arguments.common.profile);
    let mut changes = Vec::new();
    for (key, values) in helpers {
        let is_meant = keys.is_empty() || keys.iter().any(|meant| meant == key);
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
