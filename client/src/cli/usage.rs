//! Errors of the command line, in the form of every other failure.

use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use rolekeeper::connect;
use rolekeeper::protocol::{Code, DaemonStatus, Failure};
use rolekeeper::socket_owner;

use crate::autostart;

/// The parser's error as one line, with a hint.
pub(super) fn usage(error: &clap::Error) -> Failure {
    usage_with(error, running_daemon)
}

fn usage_with(error: &clap::Error, daemon: fn() -> Option<DaemonStatus>) -> Failure {
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".into(),
        _ => one_line(&error.to_string()),
    };
    let hint = advice(error, daemon)
        .or_else(|| suggestion(error))
        .unwrap_or_else(|| format!("run {} --help", path_of_command(error)));

    Failure::new(Code::Usage, message, hint)
}

fn one_line(text: &str) -> String {
    let mut message = String::new();
    for line in text.lines().take_while(|line| !is_footer(line)) {
        let part = line.trim().trim_start_matches("error: ");
        if part.is_empty() || part.starts_with("tip: ") {
            continue;
        }

        message += match message.chars().last() {
            None => "",
            Some(':') => " ",
            Some(_) if part.starts_with('[') => " ",
            Some(_) if line.starts_with(' ') => ", ",
            Some(_) => "; ",
        };
        message += part;
    }

    message
}

fn is_footer(line: &str) -> bool {
    line.starts_with("Usage:") || line.starts_with("For more")
}

/// What to do instead of a command that other tools have.
const OTHER_COMMANDS: &[(&[&str], &str)] = &[
    (
        &["start", "daemon", "serve"],
        "run rolekeeperd --detach; commands that need credentials also start it",
    ),
    (&["version"], "run rolekeeper --version"),
    (&["help"], "run rolekeeper --help"),
    (
        &["init", "config", "configure"],
        "run rolekeeperd --check, which names the configuration file, and prints an example if it is missing",
    ),
    (
        &["run", "shell"],
        "use `exec`, with the profile and the command",
    ),
    (&["list", "ls", "ps", "profiles"], "run rolekeeper status"),
    (&["log", "logs"], "run rolekeeper journal"),
    (&["revoke"], "use `logout --revoke`, with the profile"),
];

/// The advice for a command that does not exist.
fn advice(error: &clap::Error, daemon: fn() -> Option<DaemonStatus>) -> Option<String> {
    let word = wrong_word(error, ContextKind::InvalidSubcommand)?;
    if path_of_command(error) != "rolekeeper" {
        return None;
    }

    let (signal, action) = match word {
        "stop" | "quit" | "shutdown" | "kill" => ("", "stop"),
        "restart" => ("", "restart"),
        "reload" => ("-HUP ", "reload"),
        _ => {
            let mut others = OTHER_COMMANDS.iter();
            let found = others.find(|(words, _)| words.contains(&word));
            return found.map(|(_, advice)| (*advice).to_owned());
        }
    };

    Some(match daemon() {
        None if action == "stop" => "leave out the command: no daemon is running".into(),
        None => "run rolekeeperd --detach; no daemon is running".into(),
        Some(daemon) if socket_owner::is_of_machine(Path::new(&daemon.launch.socket)) => {
            format!("ask the administrator to run systemctl {action} rolekeeperd")
        }
        Some(daemon) if daemon.launch.started_by == "service manager" => {
            format!("run systemctl --user {action} rolekeeperd")
        }
        Some(daemon) => {
            let next = match action {
                "restart" => "; the next command that needs credentials starts a daemon",
                _ => "",
            };
            format!("run kill {signal}{}{next}", daemon.pid)
        }
    })
}

/// The daemon that the command line means.
fn running_daemon() -> Option<DaemonStatus> {
    let mut words = std::env::args_os().skip_while(|word| word != "--socket");
    let option = words.nth(1).map(PathBuf::from);
    let socket = connect::socket_path(option).ok()?;
    autostart::daemon_status(&socket)
}

/// The known word that the wrong one is probably a misspelling of.
fn suggestion(error: &clap::Error) -> Option<String> {
    let kinds = [
        (
            ContextKind::SuggestedSubcommand,
            ContextKind::InvalidSubcommand,
        ),
        (ContextKind::SuggestedArg, ContextKind::InvalidArg),
        (ContextKind::SuggestedValue, ContextKind::InvalidValue),
    ];

    let nearest = kinds.into_iter().find_map(|(suggested, invalid)| {
        let wrong = wrong_word(error, invalid)?;
        let known = match error.get(suggested)? {
            ContextValue::String(one) => std::slice::from_ref(one),
            ContextValue::Strings(several) => several,
            _ => return None,
        };
        nearest(wrong, known)
    })?;

    Some(format!("use `{nearest}`, if you meant it"))
}

fn wrong_word(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(word) => Some(word),
        _ => None,
    }
}

fn nearest<'a>(wrong: &str, known: &'a [String]) -> Option<&'a String> {
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(wrong, word), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `rolekeeper setup aws`, as far as the parser came.
fn path_of_command(error: &clap::Error) -> String {
    let text = error.to_string();
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: "));
    let words = usage.unwrap_or_default().split_whitespace();
    let path: Vec<_> = words
        .take_while(|word| word.starts_with(|first: char| first.is_ascii_lowercase()))
        .collect();

    if path.is_empty() {
        "rolekeeper".into()
    } else {
        path.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::full_command;
    use crate::command::iam;

    #[test]
    fn usage_errors_have_one_line() {
        let methods = iam::methods().unwrap();
        for (line, want) in [
            (
                "iam getRole",
                "the following required arguments were not provided: --role-id <ID>",
            ),
            (
                "iam createPolicy",
                "the following required arguments were not provided: --name <TEXT>, --document <JSON>",
            ),
            (
                "completions tcsh",
                "invalid value 'tcsh' for '<SHELL>' [possible values: bash, elvish, fish, powershell, zsh]",
            ),
            ("status --jsn", "unexpected argument '--jsn' found"),
            (
                "iam listRoles --profile dev --upstream up",
                "the argument '--profile <PROFILE>' cannot be used with '--upstream <NAME>'",
            ),
            ("", "a command is missing"),
        ] {
            let words = std::iter::once("rolekeeper").chain(line.split_whitespace());
            let error = full_command(&methods).try_get_matches_from(words);
            let failure = usage(&error.unwrap_err());
            assert_eq!(
                (failure.code, failure.message.as_str()),
                (Code::Usage, want)
            );
        }
    }

    fn hint(line: &str) -> String {
        let words = std::iter::once("rolekeeper").chain(line.split_whitespace());
        let error = full_command(&[]).try_get_matches_from(words);
        usage_with(&error.unwrap_err(), || None).hint
    }

    #[test]
    fn only_a_misspelling_is_suggested() {
        for (line, word) in [
            ("satus", "status"),
            ("lgoin", "login"),
            ("credential-proces dev", "credential-process"),
            ("status --jsn", "--json"),
            ("setup kub", "kube"),
        ] {
            assert_eq!(
                hint(line),
                format!("use `{word}`, if you meant it"),
                "{line}"
            );
        }

        for line in [
            "sop",
            "sessile",
            "vision",
            "nonsense",
            "nonsense --help",
            "-x",
        ] {
            assert_eq!(hint(line), "run rolekeeper --help", "{line}");
        }
        assert_eq!(hint("setup"), "run rolekeeper setup --help");
        assert_eq!(hint("setup nonsense"), "run rolekeeper setup --help");
        assert_eq!(hint("refresh"), "run rolekeeper refresh --help");
        assert_eq!(hint(""), "run rolekeeper --help");
    }

    #[test]
    fn command_of_another_tool_has_its_own_advice() {
        for (line, want) in [
            ("stop", "no daemon is running"),
            ("restart", "run rolekeeperd --detach"),
            ("start", "run rolekeeperd --detach"),
            ("version", "run rolekeeper --version"),
            ("help", "run rolekeeper --help"),
            ("init", "run rolekeeperd --check"),
            ("init --help", "run rolekeeperd --check"),
        ] {
            assert!(hint(line).contains(want), "{line}: {}", hint(line));
        }
        assert_eq!(hint("setup init"), "run rolekeeper setup --help");
    }
}
