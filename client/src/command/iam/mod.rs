//! `rolekeeper iam METHOD`: any method of ByCloud IAM, through the daemon, which holds the token. Methods and options
//! come from the contract.

pub(crate) mod arguments;
mod output;
pub(crate) mod suggest;

use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use rolekeeper::connect;
use rolekeeper::contract::{self, Method};
use rolekeeper::protocol::{Code, Failure, IamCall, Request};
use serde_json::{Map, Value};

use crate::command::json;
use crate::{autostart, command};

/// What is asked for, apart from the method's own parameters.
struct Options<'a> {
    upstream: Option<&'a str>,
    profile: Option<&'a str>,
    json: bool,
    all: bool,
}

pub(crate) fn run(
    methods: &[Method],
    matches: &ArgMatches,
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    let Some((name, given)) = matches.subcommand() else {
        return Err(Failure::new(
            Code::Usage,
            "a method is missing",
            "rolekeeper iam --help, which lists them",
        ));
    };
    let method = methods
        .iter()
        .find(|method| method.name == name)
        .ok_or_else(connect::unexpected_reply)?;
    let parameters = arguments::parameters(method, given)?;
    confirm(method, &parameters, arguments::flag(given, "yes"))?;
    let options = Options {
        upstream: given.get_one("upstream").map(String::as_str),
        profile: given.get_one("profile").map(String::as_str),
        json: arguments::flag(given, "json") || !std::io::stdout().is_terminal(),
        all: arguments::flag(given, "all"),
    };
    let reply = ask(&connect::socket_path(socket)?, method, parameters, &options)?;
    match &reply {
        Value::Null if options.json => {}
        reply if options.json => command::print_json(reply)?,
        reply => command::print(&output::show(method, reply))?,
    }
    warn_of_secrets(method);
    Ok(())
}

pub(crate) fn methods() -> Result<Vec<Method>, Failure> {
    contract::methods().map_err(|why| {
        Failure::new(
            Code::Unexpected,
            format!("the contract cannot be read: {why}"),
            "install rolekeeper anew",
        )
    })
}

/// The reply; with `--all`, that of every page in one.
fn ask(
    socket: &Path,
    method: &Method,
    mut parameters: Map<String, Value>,
    options: &Options<'_>,
) -> Result<Value, Failure> {
    let (mut items, mut seen) = (Vec::new(), HashSet::new());
    loop {
        let mut reply = call(socket, method, &parameters, options)?;
        if !options.all {
            return Ok(reply);
        }
        let (Some(Value::Array(page)), next) = (
            reply.get_mut("items").map(Value::take),
            reply.get("next_marker"),
        ) else {
            return Err(no_page(method));
        };
        items.extend(page);
        let marker = match next {
            None | Some(Value::Null) => {
                return Ok(serde_json::json!({ "items": items, "next_marker": null }));
            }
            Some(Value::String(marker)) => marker,
            Some(_) => return Err(no_page(method)),
        };
        if !seen.insert(marker.clone()) {
            return Err(Failure::new(
                Code::UpstreamUnavailable,
                format!(
                    "{} goes round in circles: it named the marker {} twice",
                    method.name,
                    command::printable(marker)
                ),
                "tell whoever runs the upstream: its list does not end",
            ));
        }
        parameters.insert("marker".into(), marker.as_str().into());
    }
}

fn no_page(method: &Method) -> Failure {
    Failure::new(
        Code::UpstreamUnavailable,
        format!(
            "{}: what the upstream answered is no page of a list",
            method.name
        ),
        "tell whoever runs the upstream; without --all it is shown as it is",
    )
}

fn call(
    socket: &Path,
    method: &Method,
    parameters: &Map<String, Value>,
    options: &Options<'_>,
) -> Result<Value, Failure> {
    let ask = |stream: &mut _| {
        let call = IamCall {
            upstream: options.upstream.map(Into::into),
            profile: options.profile.map(Into::into),
            method: method.name.as_str().into(),
            parameters: parameters.clone(),
        };
        connect::document(stream, Request::Iam(call))
    };
    // What only reads may be asked twice.
    let text = if method.verb == "GET" {
        autostart::ask(socket, ask)
    } else {
        autostart::open(socket).and_then(|mut stream| ask(&mut stream))
    };
    let text = text.map_err(|failure| match failure.code {
        // The connection broke, or the answer did not come in time.
        Code::NoDaemon | Code::ShuttingDown | Code::Unexpected => left_open(method, failure),
        _ => failure,
    })?;
    if text.is_empty() {
        return Ok(Value::Null);
    }
    json::reply(&text, &format!("{}: ", method.name)).map_err(|failure| left_open(method, failure))
}

/// Nothing came back that says whether a change took effect.
fn left_open(method: &Method, failure: Failure) -> Failure {
    if method.verb == "GET" {
        return failure;
    }
    Failure {
        hint: "see whether it took effect, with a list or get method, before you try again".into(),
        ..failure
    }
}

/// What takes something away is asked about: on a terminal by a question, elsewhere by `--yes`.
fn confirm(method: &Method, parameters: &Map<String, Value>, yes: bool) -> Result<(), Failure> {
    let by_value = |parameter: &contract::Parameter| {
        parameter.destructive.is_some()
            && parameters.get(&parameter.name) == parameter.destructive.as_ref()
    };
    if yes || !(method.destructive || method.parameters.iter().any(by_value)) {
        return Ok(());
    }
    let what = parameters
        .iter()
        .fold(method.name.clone(), |what, (name, value)| {
            format!("{what} {name}={value}")
        });
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        let message = format!(
            "{} takes something away, and there is no terminal to ask on",
            method.name
        );
        return Err(Failure::new(
            Code::Usage,
            message,
            "the same with --yes, if it is meant",
        ));
    }
    let question = format!(
        "{}\nThis takes something away. Go on? [y/N] ",
        command::printable(&what)
    );
    let mut answer = String::new();
    let asked = std::io::stderr().write_all(question.as_bytes());
    let read = asked.and_then(|()| std::io::stdin().read_line(&mut answer));
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(
        Code::Usage,
        format!("{} was not called", method.name),
        "the same again, with y or --yes",
    ))
}

fn warn_of_secrets(method: &Method) {
    if !method.secrets.is_empty() {
        command::tell(&format!(
            "rolekeeper: shown this once, and kept nowhere: {}; put it where it belongs now",
            method.secrets.join(", ")
        ));
    }
}
