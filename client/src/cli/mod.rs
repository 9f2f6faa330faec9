//! The command line for people: help, options, and which command runs.

mod arguments;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use clap_complete::CompleteEnv;
use rolekeeper::contract::Method;
use rolekeeper::protocol::Failure;
use rolekeeper::shell::quoted_path;

use self::arguments::{Cli, Command, SessionsCommand};
use self::usage::usage;
use crate::command::{self, completions, iam, login, revocation, sessions};

/// All commands. The methods of `iam` are read only if they are needed, because that takes time.
fn full_command(methods: &[Method]) -> clap::Command {
    Cli::command()
        .subcommand(iam::arguments::command(methods))
        .subcommand(completions::command())
}

/// Answers a shell's request for completions. Returns whether there was one.
pub(crate) fn complete() -> bool {
    let Some(shell) = std::env::var_os(completions::VARIABLE) else {
        return false;
    };

    let args: Vec<_> = std::env::args_os().collect();
    let folder = std::env::current_dir().ok();

    let answered = CompleteEnv::with_factory(|| full_command(&iam::methods().unwrap_or_default()))
        .var(completions::VARIABLE)
        .try_complete(args, folder.as_deref());

    answered.unwrap_or_else(|error| {
        // Other errors, such as a shell that has stopped reading, are of no use at a prompt.
        if !completions::knows(&shell) {
            command::print_error(&error.to_string());
        }
        true
    })
}

pub(crate) fn run() -> Result<ExitCode, Failure> {
    let needs_methods = std::env::args_os().any(|word| word == "iam");
    let methods = if needs_methods {
        iam::methods()?
    } else {
        Vec::new()
    };

    match full_command(&methods).try_get_matches() {
        Ok(matches) => {
            let socket = matches.get_one::<PathBuf>("socket");
            run_matches(&methods, &matches).map_err(|failure| with_socket(failure, socket))
        }
        Err(help)
            if matches!(
                help.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) =>
        {
            done(command::print(&help.to_string()))
        }
        Err(error) => {
            let words: Vec<_> = std::env::args_os().collect();
            command::env::fail_shell(&words)?;
            Err(usage(&error))
        }
    }
}

/// Adds the option `--socket` of this command to the commands of its hint.
fn with_socket(mut failure: Failure, socket: Option<&PathBuf>) -> Failure {
    if let Some(socket) = socket {
        let option = format!("rolekeeper --socket {} ", quoted_path(socket));
        for start in ["run ", "then ", "or "] {
            let command = format!("{start}rolekeeper ");
            failure.hint = failure.hint.replace(&command, &format!("{start}{option}"));
        }
    }

    failure
}

fn run_matches(methods: &[Method], matches: &ArgMatches) -> Result<ExitCode, Failure> {
    match matches.subcommand() {
        Some(("iam", given)) => {
            let socket = matches.get_one("socket").cloned();
            done(iam::run(methods, given, socket))
        }
        Some(("completions", given)) => {
            let shell = given.get_one::<String>("shell");
            done(completions::run(shell.map_or("", String::as_str)))
        }
        _ => {
            let cli = Cli::from_arg_matches(matches).map_err(|error| usage(&error))?;
            run_command(cli.command, cli.socket)
        }
    }
}

fn run_command(command: Command, socket: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let outcome = match command {
        Command::Exec(given) => return command::exec::run(given, socket),
        Command::DockerCredential(given) => return command::docker_credential::run(&given, socket),
        Command::CredentialProcess { profile } => {
            command::credential_process::run(&profile.profile, socket)
        }
        Command::Env(given) => command::env::run(&given, socket),
        Command::Kube(given) => command::kube::run(&given, socket),
        Command::GitCredential(given) => command::git_credential::run(&given, socket),
        Command::Token(given) => command::token::run(&given, socket),
        Command::Setup { tool } => command::setup::run(&tool, socket),
        Command::Status { json } => command::status::run(json, socket),
        Command::Explain(given) => command::explain::run(&given.profile, given.json, socket),
        Command::Audit(given) => command::audit::run(&given, socket),
        Command::Watch { profile } => command::watch::run(&profile.profile, socket),
        Command::Journal(given) => command::journal::run(&given, socket),
        Command::Approve(given) => command::approve::run(&given, socket),
        Command::Login(given) => login::run(&given, socket),
        Command::Import { source } => command::import::run(&source, socket),
        Command::Unlock {
            upstream,
            named,
            json,
        } => login::unlock(upstream.or(named).as_deref(), json, socket),
        Command::Sessions {
            command,
            upstream,
            json,
        } => run_sessions(command, upstream.as_deref(), json, socket),
        Command::Logout {
            profile,
            revoke,
            json,
        } => revocation::logout(profile.as_deref(), revoke, json, socket),
        Command::Resume(given) => revocation::resume(&given.profile, given.json, socket),
        Command::Refresh(given) => revocation::refresh(&given.profile, given.json, socket),
        Command::ReportRejected(given) => {
            revocation::report_rejected(&given.profile, given.json, socket)
        }
    };

    done(outcome)
}

fn run_sessions(
    command: Option<SessionsCommand>,
    upstream: Option<&str>,
    json: bool,
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    match command {
        None => sessions::list(upstream, json, socket),
        Some(SessionsCommand::List { upstream, json }) => {
            sessions::list(upstream.as_deref(), json, socket)
        }
        Some(SessionsCommand::Revoke(given)) => sessions::revoke(
            &given.session_id,
            given.reason.as_deref(),
            given.upstream.as_deref(),
            given.json,
            socket,
        ),
    }
}

fn done(outcome: Result<(), Failure>) -> Result<ExitCode, Failure> {
    outcome.map(|()| ExitCode::SUCCESS)
}
