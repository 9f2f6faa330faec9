//! From the contract to a command line, and from a command line to parameters.

use std::io::Read;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::ArgValueCandidates;
use rolekeeper::contract::{Kind, Method, Parameter};
use rolekeeper::protocol::{Code, Failure};
use serde_json::{Map, Value};

use super::suggest;
use crate::command::json::{self, Unreadable};

/// The longest document that is read, in bytes: what is left of a frame for it.
const DOCUMENT_CAP: u64 = 48 * 1024;

/// `rolekeeper iam` with a subcommand a method.
pub(crate) fn command(methods: &[Method]) -> Command {
    Command::new("iam")
        .about("Call any method of ByCloud IAM, with the token that the daemon holds")
        .display_order(50)
        .disable_help_subcommand(true)
        .subcommand_value_name("METHOD")
        .subcommand_help_heading("Methods")
        .override_usage("rolekeeper iam METHOD [OPTIONS]")
        .help_template("{about}\n\n{usage-heading} {usage}\n{after-help}\n\nOptions:\n{options}\n")
        .after_help(by_resource(methods))
        .subcommands(methods.iter().map(method_command))
}

/// The methods with a line each, below their resources.
fn by_resource(methods: &[Method]) -> String {
    let wide = methods
        .iter()
        .map(|method| method.name.len())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    let mut resource = "";
    for method in methods {
        if method.resource != resource {
            resource = &method.resource;
            text += &format!("{}{resource}:\n", if text.is_empty() { "" } else { "\n" });
        }
        text += &format!("  {:wide$}  {}\n", method.name, method.summary);
    }
    text + "\nEvery method is also known by its name with hyphens (list-roles); METHOD --help shows its parameters."
}

fn method_command(method: &Method) -> Command {
    let mut command = Command::new(method.name.clone())
        .alias(method.kebab())
        .about(method.summary.clone());
    for parameter in &method.parameters {
        command = command.arg(argument(parameter));
    }
    command = command
        .next_help_heading("How to call and what to print")
        .arg(
            text(
                "upstream",
                "NAME",
                "The upstream to call; needed if there are several",
            )
            .add(ArgValueCandidates::new(suggest::upstreams)),
        )
        .arg(
            text(
                "profile",
                "PROFILE",
                "Call with this profile's session instead of the principal's token",
            )
            .conflicts_with("upstream")
            .add(ArgValueCandidates::new(suggest::profiles)),
        )
        .arg(switch("json", "Print JSON also on a terminal"));
    if method.pages() {
        command = command.arg(switch(
            "all",
            "Follow the pages to the end; --limit is then the size of a page",
        ));
    }
    if method.destructive
        || method
            .parameters
            .iter()
            .any(|parameter| parameter.destructive.is_some())
    {
        command = command.arg(switch("yes", "Do not ask"));
    }
    command
}

fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

fn argument(parameter: &Parameter) -> Arg {
    let hyphened = parameter.name.replace('_', "-");
    let mut arg = Arg::new(parameter.name.clone())
        .long(hyphened.clone())
        .required(parameter.required);
    if hyphened != parameter.name {
        arg = arg.alias(parameter.name.clone());
    }
    let mut help = parameter.about.clone();
    if !parameter.choices.is_empty() {
        help += &format!(" [{}]", parameter.choices.join(", "));
        let choices = parameter.choices.clone();
        arg = arg.add(ArgValueCandidates::new(move || {
            choices.iter().map(|word| word.as_str().into()).collect()
        }));
    }
    if let Some(list) = suggest::list_of(&parameter.name) {
        arg = arg.add(ArgValueCandidates::new(move || suggest::ids(list)));
    }
    match parameter.kind {
        Kind::Text => arg.value_name(if parameter.name.ends_with("_id") {
            "ID"
        } else {
            "TEXT"
        }),
        Kind::Integer => {
            let (least, most) = parameter.range.unwrap_or((i64::MIN, i64::MAX));
            arg.value_name("NUMBER")
                .value_parser(value_parser!(i64).range(least..=most))
                .allow_negative_numbers(true)
        }
        Kind::Boolean => arg
            .value_name("true|false")
            .value_parser(value_parser!(bool))
            .hide_possible_values(true)
            .num_args(0..=1)
            .default_missing_value("true"),
        Kind::Object => {
            help += "; JSON, @FILE, or - for standard input";
            arg.value_name("JSON")
        }
        Kind::Texts => {
            help += "; several with commas, or the option again";
            arg.value_name("ID")
                .value_delimiter(',')
                .action(ArgAction::Append)
        }
    }
    .help(help)
}

pub(crate) fn flag(given: &ArgMatches, name: &str) -> bool {
    given
        .try_get_one::<bool>(name)
        .ok()
        .flatten()
        .copied()
        .unwrap_or(false)
}

/// The parameters that were given, with the types of the contract.
pub(super) fn parameters(
    method: &Method,
    given: &ArgMatches,
) -> Result<Map<String, Value>, Failure> {
    let mut parameters = Map::new();
    for Parameter { name, kind, .. } in &method.parameters {
        let value = match kind {
            Kind::Text => given
                .get_one::<String>(name)
                .map(|text| text.as_str().into()),
            Kind::Integer => given.get_one::<i64>(name).map(|number| (*number).into()),
            Kind::Boolean => given.get_one::<bool>(name).map(|word| (*word).into()),
            Kind::Texts => given
                .get_many::<String>(name)
                .map(|texts| texts.map(String::as_str).collect()),
            Kind::Object => given
                .get_one::<String>(name)
                .map(|source| document(name, source))
                .transpose()?,
        };
        parameters.extend(value.map(|value| (name.clone(), value)));
    }
    Ok(parameters)
}

/// A JSON object: as it stands, from `@FILE`, or from standard input.
fn document(name: &str, source: &str) -> Result<Value, Failure> {
    let wrong = |what: String, hint: &str| {
        Failure::new(
            Code::Usage,
            format!("--{}: {what}", name.replace('_', "-")),
            hint,
        )
    };
    let mut text = String::new();
    let (from, read) = match source.strip_prefix('@') {
        Some(path) => (
            path,
            std::fs::File::open(path)
                .and_then(|file| file.take(DOCUMENT_CAP + 1).read_to_string(&mut text)),
        ),
        None if source == "-" => (
            "standard input",
            std::io::stdin()
                .take(DOCUMENT_CAP + 1)
                .read_to_string(&mut text),
        ),
        None => {
            source.clone_into(&mut text);
            ("the JSON", Ok(text.len()))
        }
    };
    read.map_err(|error| {
        wrong(
            format!("{from} cannot be read: {error}"),
            "a readable file, or - for standard input",
        )
    })?;
    if text.len() as u64 > DOCUMENT_CAP {
        return Err(wrong(
            format!("{from} is longer than {DOCUMENT_CAP} bytes"),
            "a shorter document",
        ));
    }
    match json::document(&text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(wrong(
            format!("{from} is not a JSON object"),
            "an object in braces: {\"version\": …}",
        )),
        Err(Unreadable::NotJson(why)) => Err(wrong(
            format!("{from} is not JSON: {why}"),
            "JSON in single quotes, @FILE for a file, or - for standard input",
        )),
        Err(Unreadable::NoValue(why)) => Err(wrong(
            format!("{from} cannot be sent: {why}"),
            &format!(
                "mend it there: numbers up to 1.7e308, \\uD800 to \\uDFFF in pairs, at most {} levels of brackets",
                json::DEPTH
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rolekeeper::contract;

    fn parse(line: &str) -> Result<(String, Map<String, Value>), String> {
        let methods = contract::methods().unwrap();
        let matches = command(&methods)
            .try_get_matches_from(std::iter::once("iam").chain(line.split(' ')))
            .map_err(|error| error.to_string())?;
        let (name, given) = matches.subcommand().unwrap();
        let method = methods.iter().find(|method| method.name == name).unwrap();
        parameters(method, given)
            .map(|parameters| (name.into(), parameters))
            .map_err(|failure| failure.message)
    }

    #[test]
    fn the_command_line_is_sound_and_every_required_parameter_is_demanded() {
        let methods = contract::methods().unwrap();
        command(&methods).debug_assert();
        for method in &methods {
            let required: Vec<_> = method
                .parameters
                .iter()
                .filter(|each| each.required)
                .collect();
            let bare = parse(&method.name);
            assert_eq!(bare.is_err(), !required.is_empty(), "{}", method.name);
            for parameter in required {
                assert!(
                    bare.as_ref()
                        .unwrap_err()
                        .contains(&format!("--{}", parameter.name.replace('_', "-")))
                );
            }
        }
    }

    #[test]
    fn a_profile_and_an_upstream_at_once_are_refused_in_every_order() {
        for line in [
            "listRoles --profile dev --upstream up",
            "listRoles --upstream up --profile dev",
        ] {
            assert!(
                parse(line).unwrap_err().contains("cannot be used with"),
                "{line}"
            );
        }
    }

    #[test]
    fn both_spellings_of_methods_and_options_are_known() {
        for line in [
            "listRoles --name S3* --limit 10",
            "list-roles --name S3* --limit 10",
        ] {
            let (name, parameters) = parse(line).unwrap();
            assert_eq!(
                (name.as_str(), Value::Object(parameters)),
                (
                    "listRoles",
                    serde_json::json!({ "name": "S3*", "limit": 10 })
                )
            );
        }
        for line in [
            "assume-role --role-id r --duration-seconds 900",
            "assumeRole --role_id r --duration_seconds 900",
        ] {
            assert_eq!(
                Value::Object(parse(line).unwrap().1),
                serde_json::json!({ "role_id": "r", "duration_seconds": 900 })
            );
        }
    }

    #[test]
    fn values_have_the_types_of_the_contract() {
        let value = |line: &str| Value::Object(parse(line).unwrap().1);
        assert_eq!(value("listSTSSessions --active-only")["active_only"], true);
        assert_eq!(
            value("listSTSSessions --active-only false")["active_only"],
            false
        );
        assert_eq!(
            value("addUser --email a@b.test --group-ids x,y --group-ids z")["group_ids"],
            serde_json::json!(["x", "y", "z"])
        );
        assert_eq!(
            value("createPolicy --name p --document {\"a\":1}")["document"],
            serde_json::json!({ "a": 1 })
        );
        for wrong in [
            "listRoles --limit ten",
            "listRoles --limit 0",
            "listRoles --limit 1001",
            "listSTSSessions --active-only maybe",
        ] {
            assert!(
                parse(wrong).unwrap_err().contains("invalid value"),
                "{wrong}"
            );
        }
        for (wrong, want) in [
            ("[1]", "is not a JSON object"),
            (
                "{",
                "is not JSON: EOF while parsing an object at line 1 column 1",
            ),
            ("@/nonexistent", "cannot be read"),
            (
                "{\"a\":1e400}",
                "the JSON cannot be sent: number out of range at line 1 column 10",
            ),
            (
                "{\"a\":\"\\udfff\"}",
                "the JSON cannot be sent: lone leading surrogate",
            ),
            (
                &("{\"a\":".repeat(121) + "1" + &"}".repeat(121)),
                "nested deeper than 120 levels at line 1 column 601",
            ),
        ] {
            let why = parse(&format!("createPolicy --name p --document {wrong}")).unwrap_err();
            assert!(
                why.starts_with("--document: ") && why.contains(want),
                "{why}"
            );
        }
    }
}
