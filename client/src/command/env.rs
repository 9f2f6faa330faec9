//! `rolekeeper env PROFILE`: prints the environment variables that `exec` sets.

use std::ffi::OsString;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::ValueEnum;
use clap_complete::ArgValueCandidates;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};
use serde_json::{Map, Value};

use super::environment::{Environment, Mode};
use super::iam::suggest;
use super::region;
use crate::autostart;

pub(crate) const HELP: &str = "With --mode env the output contains secrets. It does not set ROLEKEEPER_PROFILE, so that exec works in that shell.\n\
    If there are no credentials, the output unsets the variables and ends with a command that fails.";

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
    /// The region [default: AWS_REGION or AWS_DEFAULT_REGION, else the profile's]
    #[arg(long, value_name = "REGION", value_parser = region::parse)]
    region: Option<String>,
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
        region,
    } = arguments;

    let environment = connect::socket_path(socket).and_then(|socket| {
        autostart::ask(&socket, |stream| {
            Environment::ask(stream, profile, *mode, region.as_deref())
        })
    });
    let text = environment.and_then(|environment| format.write(&environment));
    let is_shown = std::io::stdout().is_terminal();
    let text = match text {
        Ok(text) => text,
        Err(failure) => {
            format.print_failure()?;
            return Err(failure);
        }
    };

    if is_shown && text.chars().any(|each| each.is_control() && each != '\n') {
        return Err(unwritable(
            "a terminal",
            "redirect the output, or use --format json",
        ));
    }

    super::print(&text)
}

/// If the command line is one of `env` that could not be parsed, the shell that evaluates the output must fail.
pub(crate) fn fail_shell(words: &[OsString]) -> Result<(), Failure> {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let mut commands = words.iter().skip(1).enumerate();
    let is_value = |index: usize| words.get(index).is_some_and(|word| word == "--socket");
    let command = commands.find(|&(index, word)| !word.starts_with('-') && !is_value(index));
    if command.is_none_or(|(_, word)| word != "env") {
        return Ok(());
    }

    let after = |index: usize| words.get(index + 1).map(AsRef::as_ref);
    let format = words.iter().enumerate().find_map(|(index, word)| {
        word.strip_prefix("--format=").or_else(|| {
            let is_option = word == "--format";
            is_option.then(|| after(index)).flatten()
        })
    });
    let format = format.and_then(|name| Format::from_str(name, false).ok());

    format.unwrap_or_default().print_failure()
}

impl Format {
    /// Prints commands that unset the variables and fail: the exit code of this program is lost in `eval "$(...)"`.
    fn print_failure(self) -> Result<(), Failure> {
        if std::io::stdout().is_terminal() {
            return Ok(());
        }

        let fail = match self {
            Self::Sh | Self::Fish => "false\n",
            Self::Powershell => "throw 'rolekeeper env has failed'\n",
            Self::Dotenv | Self::Json => return Ok(()),
        };
        super::print(&(self.unset(&Environment::to_unset()) + fail))
    }

    /// The commands that unset these variables.
    fn unset(self, names: &[String]) -> String {
        // A shell could interpret other names, and cannot have set them.
        let is_name = |name: &&str| {
            name.bytes()
                .all(|each| each.is_ascii_alphanumeric() || each == b'_')
        };

        let names = names.iter().map(String::as_str).filter(is_name);
        match self {
            Self::Sh => format!("unset {}\n", names.collect::<Vec<_>>().join(" ")),
            Self::Fish => names.fold(String::new(), |text, name| {
                text + &format!("set -e {name}\n")
            }),
            Self::Powershell => names.fold(String::new(), |text, name| {
                text + &format!("Remove-Item -ErrorAction Ignore Env:{name}\n")
            }),
            Self::Dotenv | Self::Json => String::new(),
        }
    }

    fn write(self, environment: &Environment) -> Result<String, Failure> {
        if self == Self::Json {
            return json(environment);
        }

        let Environment { set, unset, .. } = environment;
        let mut text = self.unset(unset);
        for (name, value) in set {
            // Writing to a string cannot fail.
            let _ = match self {
                Self::Sh => writeln!(text, "export {name}={}", sh(value)),
                Self::Fish => writeln!(text, "set -gx {name} {}", fish(value)),
                Self::Powershell => writeln!(text, "$Env:{name} = {}", powershell(value)),
                Self::Dotenv | Self::Json => writeln!(text, "{name}={}", dotenv(value)?),
            };
        }

        if self == Self::Fish {
            // `set -e` of an unset variable fails, and `set -gx` keeps that status.
            text += "true\n";
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

    Ok(super::escaped_json(&(text + "\n")))
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
            "set -e AWS_PROFILE\nset -gx A_VALUE 'v'\nset -gx LAST 'end'\ntrue\n"
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
