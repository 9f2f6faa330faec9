//! `rolekeeper env PROFILE`: prints the environment variables that `exec` sets.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};
use serde_json::{Map, Value};

use super::environment::{Environment, Mode};
use super::iam::suggest;
use crate::autostart;

pub(crate) const HELP: &str = "With --mode env the output contains secrets. It does not set ROLEKEEPER_PROFILE, so that exec works in that shell.";

/// Print the environment variables that exec sets
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles))]
    profile: String,
    /// The output format
    #[arg(long, value_name = "FORMAT", default_value = "sh")]
    format: Format,
    /// How a tool gets credentials
    #[arg(long, value_name = "MODE", default_value = "env")]
    mode: Mode,
}

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// bash, zsh, dash: eval "$(rolekeeper env PROFILE)"
    #[default]
    Sh,
    /// rolekeeper env PROFILE --format fish | source
    Fish,
    /// rolekeeper env PROFILE --format powershell | Out-String | Invoke-Expression
    Powershell,
    /// NAME=value lines, such as for docker run --env-file; cannot unset variables
    Dotenv,
    /// An object, with null for variables to unset
    Json,
}

pub(crate) fn run(arguments: &Arguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    let Arguments {
        profile,
        format,
        mode,
    } = arguments;

    let socket = connect::socket_path(socket)?;
    let environment = autostart::ask(&socket, |stream| Environment::ask(stream, profile, *mode))?;

    let text = format.write(&environment)?;
    let is_shown = std::io::stdout().is_terminal();
    if is_shown && text.chars().any(|each| each.is_control() && each != '\n') {
        return Err(unwritable(
            "a terminal",
            "redirect the output, or use --format json",
        ));
    }

    super::print(&text)
}

impl Format {
    fn write(self, environment: &Environment) -> Result<String, Failure> {
        let mut text = String::new();
        let Environment { set, unset, .. } = environment;
        // A shell could interpret other names, and cannot have set them.
        let is_name = |name: &&String| {
            name.bytes()
                .all(|each| each.is_ascii_alphanumeric() || each == b'_')
        };

        let unset: Vec<&str> = unset.iter().filter(is_name).map(String::as_str).collect();
        match self {
            Self::Json => return json(environment),
            Self::Dotenv => {}
            Self::Sh => text += &format!("unset {}\n", unset.join(" ")),
            Self::Fish => unset
                .iter()
                .for_each(|name| text += &format!("set -e {name}\n")),
            Self::Powershell => {
                unset.iter().for_each(|name| {
                    text += &format!("Remove-Item -ErrorAction Ignore Env:{name}\n");
                });
            }
        }

        for (name, value) in set {
            // Writing to a string cannot fail.
            let _ = match self {
                Self::Sh => writeln!(text, "export {name}={}", sh(value)),
                Self::Fish => writeln!(text, "set -gx {name} {}", fish(value)),
                Self::Powershell => writeln!(text, "$Env:{name} = {}", powershell(value)),
                Self::Dotenv | Self::Json => writeln!(text, "{name}={}", dotenv(value)?),
            };
        }

        Ok(text)
    }
}

fn json(environment: &Environment) -> Result<String, Failure> {
    let set = environment
        .set
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())));
    let unset = environment
        .unset
        .iter()
        .map(|name| (name.clone(), Value::Null));
    let document: Map<String, Value> = set.chain(unset).collect();
    let text = serde_json::to_string_pretty(&document).map_err(|_| connect::unexpected_reply())?;

    Ok(super::for_standard_output(text + "\n"))
}

fn sh(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn fish(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// PowerShell treats typographic quotes as straight ones.
fn powershell(value: &str) -> String {
    let mut text = String::from("'");
    for each in value.chars() {
        text.push(each);
        if matches!(each, '\'' | '\u{2018}'..='\u{201b}') {
            text.push(each);
        }
    }
    text + "'"
}

/// Readers of such files interpret quotes, spaces, `#`, `$` and `\` differently, so values with them are rejected.
fn dotenv(value: &str) -> Result<&str, Failure> {
    let is_plain = |each: char| each.is_ascii_alphanumeric() || "_-+=/.,:@%*".contains(each);
    if value.chars().all(is_plain) {
        Ok(value)
    } else {
        Err(unwritable("this format", "use --format json"))
    }
}

fn unwritable(output: &str, hint: &str) -> Failure {
    Failure::new(
        Code::Usage,
        format!("a value has characters that cannot be written to {output}"),
        hint,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(value: &str) -> Environment {
        let set = vec![("A_VALUE", value.to_owned()), ("LAST", "end".into())];
        Environment {
            set,
            unset: vec![
                "AWS_BEARER_TOKEN_x;touch /tmp/x;:".into(),
                "AWS_PROFILE".into(),
            ],
            generation: None,
        }
    }

    #[test]
    fn fish_and_powershell_have_their_own_quoting() {
        assert_eq!(fish(r"it's \ $HOME"), r"'it\'s \\ $HOME'");
        assert_eq!(powershell("it's $x"), "'it''s $x'");
        assert_eq!(powershell("\u{2019}; rm"), "'\u{2019}\u{2019}; rm'");
        let fish = Format::Fish.write(&environment("v")).unwrap();
        assert_eq!(
            fish,
            "set -e AWS_PROFILE\nset -gx A_VALUE 'v'\nset -gx LAST 'end'\n"
        );
        let powershell = Format::Powershell.write(&environment("v")).unwrap();
        assert!(
            powershell.starts_with(
                "Remove-Item -ErrorAction Ignore Env:AWS_PROFILE\n$Env:A_VALUE = 'v'\n"
            )
        );
    }

    #[test]
    fn json_has_null_for_variables_to_unset() {
        for value in ["it's", "two\nlines", "\"\\ $x"] {
            let read: Value =
                serde_json::from_str(&Format::Json.write(&environment(value)).unwrap()).unwrap();
            assert_eq!(
                (&read["A_VALUE"], &read["AWS_PROFILE"]),
                (&Value::from(value), &Value::Null)
            );
        }
    }
}
