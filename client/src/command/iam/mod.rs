//! `rolekeeper iam METHOD`: calls any method of ByCloud IAM through the daemon, which has the token. The contract defines
//! methods and options.

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

/// The options of every method.
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
            "run rolekeeper iam --help to list the methods",
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
            format!("cannot read the contract: {why}"),
            "reinstall rolekeeper",
        )
    })
}

/// The reply. With `--all`, all pages in one.
fn ask(
    socket: &Path,
    method: &Method,
    mut parameters: Map<String, Value>,
    options: &Options<'_>,
) -> Result<Value, Failure> {
    let mut items = Vec::new();
    let mut seen = HashSet::new();

    loop {
        let mut reply = call(socket, method, &parameters, options)?;
        if !options.all {
            return Ok(reply);
        }
        let page = reply.get_mut("items").map(Value::take);
        let Some(Value::Array(page)) = page else {
            return Err(no_page(method));
        };
        items.extend(page);
        let marker = match reply.get("next_marker") {
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
                    "{}: pagination loop (marker {} repeated)",
                    method.name,
                    command::printable(marker)
                ),
                "report it to the upstream's administrator",
            ));
        }
        parameters.insert("marker".into(), marker.as_str().into());
    }
}

fn no_page(method: &Method) -> Failure {
    Failure::new(
        Code::UpstreamUnavailable,
        format!("{}: unexpected response, not a list page", method.name),
        "run it without --all to see the response, and report it to the upstream's administrator",
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

    // Only reading methods are idempotent.
    let text = if method.verb == "GET" {
        autostart::ask(socket, ask)
    } else {
        autostart::open(socket).and_then(|mut stream| ask(&mut stream))
    };

    let text = text.map_err(|failure| match failure.code {
        // Disconnected, or no answer in time.
        Code::NoDaemon | Code::ShuttingDown | Code::Unexpected => unknown_outcome(method, failure),
        _ => failure,
    })?;

    if text.is_empty() {
        return Ok(Value::Null);
    }

    json::reply(&text, &format!("{}: ", method.name))
        .map_err(|failure| unknown_outcome(method, failure))
}

/// Adds a hint: it is unknown whether a change took effect.
fn unknown_outcome(method: &Method, failure: Failure) -> Failure {
    if method.verb == "GET" {
        return failure;
    }
    Failure {
        hint: "check with a list or get method whether it took effect, before you repeat it".into(),
        ..failure
    }
}

/// Destructive methods need a confirmation: `--yes`, or the user's answer on a terminal.
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
            "{} is destructive, and there is no terminal to ask for confirmation",
            method.name
        );
        return Err(Failure::new(
            Code::Usage,
            message,
            "repeat the command with --yes",
        ));
    }

    let question = format!(
        "{}\nThis is destructive. Continue? [y/N] ",
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
        "run the command again, and answer y, or add --yes",
    ))
}

fn warn_of_secrets(method: &Method) {
    if !method.secrets.is_empty() {
        command::print_error(&format!(
            "rolekeeper: shown only once, and not stored: {}; store it now",
            method.secrets.join(", ")
        ));
    }
}
