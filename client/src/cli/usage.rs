//! Errors of the command line, in the form of every other failure.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use rolekeeper::protocol::{Code, Failure};

/// The parser's error as one line, with a hint.
pub(super) fn usage(error: &clap::Error) -> Failure {
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".into(),
        _ => one_line(&error.to_string()),
    };
    let hint = suggestion(error).unwrap_or_else(|| "run the command with --help".into());

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

/// The known word that is most similar to the wrong one.
fn suggestion(error: &clap::Error) -> Option<String> {
    let kinds = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ];

    let nearest = kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(one) => Some(one.clone()),
        // The last is the most similar.
        ContextValue::Strings(several) => several.last().cloned(),
        _ => None,
    })?;

    Some(format!("use `{nearest}`, if you meant it"))
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
}
