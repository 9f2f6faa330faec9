//! `rolekeeper env PROFILE`: the environment that `exec` gives to a command, for a shell or a file.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};
use serde_json::{Map, Value};

use super::environment::{Environment, Mode};
use crate::autostart;

/// What is to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// bash, zsh, dash: eval "$(rolekeeper env PROFILE)"
    #[default]
    Sh,
    /// rolekeeper env PROFILE --format fish | source
    Fish,
    /// rolekeeper env PROFILE --format powershell | Out-String | Invoke-Expression
    Powershell,
    /// NAME=value lines, for docker run --env-file and the like: it can take nothing away
    Dotenv,
    /// An object, with null for what must not be set
    Json,
}

pub(crate) fn run(
    profile: &str,
    mode: Mode,
    format: Format,
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    let socket = connect::socket_path(socket)?;
    let environment = autostart::ask(&socket, |stream| Environment::ask(stream, profile, mode))?;
    let text = format.write(&environment)?;
    let is_shown = std::io::stdout().is_terminal();
    if is_shown && text.chars().any(|each| each.is_control() && each != '\n') {
        return Err(unspeakable(
            "a terminal",
            "another reader, or --format json",
        ));
    }
    super::print(&text)
}

impl Format {
    fn write(self, environment: &Environment) -> Result<String, Failure> {
        let mut text = String::new();
        let Environment { set, unset, .. } = environment;
        // A name that a shell could take for more than that is none that a shell has set.
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
            // A text takes whatever is written to it.
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
    let text = serde_json::to_string_pretty(&document).map_err(|_| connect::out_of_place())?;
    Ok(super::for_standard_output(text + "\n"))
}

fn sh(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn fish(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// PowerShell takes typographic quotes for straight ones.
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

/// Readers of such files differ in what they make of quotes, spaces, `#`, `$` and `\`: what none of them changes is written
/// as it stands, and the rest not at all.
fn dotenv(value: &str) -> Result<&str, Failure> {
    let is_plain = |each: char| each.is_ascii_alphanumeric() || "_-+=/.,:@%*".contains(each);
    if value.chars().all(is_plain) {
        Ok(value)
    } else {
        Err(unspeakable("a file of this kind", "--format json"))
    }
}

fn unspeakable(what: &str, hint: &str) -> Failure {
    Failure::new(
        Code::Usage,
        format!("a value has characters that cannot be written for {what}"),
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
    fn fish_and_powershell_are_quoted_by_their_own_rules() {
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
    fn json_has_every_value_and_null_for_what_must_not_be_set() {
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
