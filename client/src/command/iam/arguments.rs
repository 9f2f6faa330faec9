//! The command line of the contract's methods, and their parameters from a command line.

use std::io::Read;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::ArgValueCandidates;
use rolekeeper::contract::{Kind, Method, Parameter};
use rolekeeper::protocol::{Code, Failure};
use serde_json::{Map, Value};

use super::suggest;
use crate::command::json::{self, Unreadable};

/// The maximum length of a document in bytes, so that the request fits a frame.
const MAX_DOCUMENT: u64 = 48 * 1024;

/// `rolekeeper iam` with one subcommand a method.
pub(crate) fn command(methods: &[Method]) -> Command {
    Command::new("iam")
        .about("Call any method of ByCloud IAM with the daemon's token")
        .display_order(50)
        .disable_help_subcommand(true)
        .subcommand_value_name("METHOD")
        .subcommand_help_heading("Methods")
        .override_usage("rolekeeper iam METHOD [OPTIONS]")
        .help_template("{about}\n\n{usage-heading} {usage}\n{after-help}\n\nOptions:\n{options}\n")
        .after_help(by_resource(methods))
        .subcommands(methods.iter().map(method_command))
}

/// The methods, one a line, below their resources.
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

    text + "\nA method's name can be written with hyphens (list-roles). METHOD --help shows its parameters."
}

fn method_command(method: &Method) -> Command {
    let mut command = Command::new(method.name.clone())
        .alias(method.kebab())
        .about(method.summary.clone());
    for parameter in &method.parameters {
        command = command.arg(argument(parameter));
    }

    command = command
        .next_help_heading("Call and output")
        .arg(
            text(
                "upstream",
                "NAME",
                "The upstream to call [default: the only one]",
            )
            .add(ArgValueCandidates::new(suggest::upstreams)),
        )
        .arg(
            text(
                "profile",
                "PROFILE",
                "Use this profile's session instead of the principal's token",
            )
            .conflicts_with("upstream")
            .add(ArgValueCandidates::new(suggest::profiles)),
        )
        .arg(switch("json", "Print JSON, also on a terminal"));
    if method.is_paginated() {
        command = command.arg(switch("all", "Fetch all pages; --limit is the page size"));
    }

    if method.destructive
        || method
            .parameters
            .iter()
            .any(|parameter| parameter.destructive.is_some())
    {
        command = command.arg(switch("yes", "Skip the confirmation"));
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

    let mut help = parameter.description.clone();
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
        Kind::List => {
            help += "; separate several with commas, or repeat the option";
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

/// The given parameters, with the types of the contract.
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
            Kind::List => given
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

/// A JSON object from the argument itself, from `@FILE`, or from standard input.
fn document(name: &str, source: &str) -> Result<Value, Failure> {
    let option = format!("--{}", name.replace('_', "-"));
    let (origin, read) = match source.strip_prefix('@') {
        Some(path) => (path, std::fs::File::open(path).and_then(read_text)),
        None if source == "-" => ("standard input", read_text(std::io::stdin())),
        None => ("the JSON", Ok(source.to_owned())),
    };

    let text = read.map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("{option}: {origin} cannot be read: {error}"),
            "use a readable file, or - for standard input",
        )
    })?;

    if text.len() as u64 > MAX_DOCUMENT {
        return Err(Failure::new(
            Code::Usage,
            format!("{option}: {origin} is longer than {MAX_DOCUMENT} bytes"),
            "use a shorter document",
        ));
    }

    let (reason, hint) = match json::document(&text) {
        Ok(value @ Value::Object(_)) => return Ok(value),
        Ok(_) => (
            "is not a JSON object".into(),
            "use an object in braces: {\"version\": …}".into(),
        ),
        Err(Unreadable::Invalid(why)) => (
            format!("is not JSON: {why}"),
            "use JSON in single quotes, @FILE for a file, or - for standard input".into(),
        ),
        Err(Unreadable::Unsupported(why)) => (
            format!("cannot be sent: {why}"),
            format!(
                "use numbers up to 1.7e308, \\uD800 to \\uDFFF in pairs, and at most {} levels of brackets",
                json::MAX_DEPTH
            ),
        ),
    };

    Err(Failure::new(
        Code::Usage,
        format!("{option}: {origin} {reason}"),
        hint,
    ))
}

fn read_text(input: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    input.take(MAX_DOCUMENT + 1).read_to_string(&mut text)?;
    Ok(text)
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
    fn every_required_parameter_is_required() {
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
    fn profile_conflicts_with_upstream() {
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
    fn methods_and_options_have_both_spellings() {
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
