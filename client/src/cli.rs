//! The command line for people: help, options, and which command runs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::{ArgValueCandidates, CompleteEnv};
use rolekeeper::contract::Method;
use rolekeeper::protocol::{Code, Failure};

use crate::command::env::Format;
use crate::command::environment::Mode;
use crate::command::exec::Plan;
use crate::command::iam::{self, arguments, suggest};
use crate::command::{self, completions};

/// Short-lived credentials for the tools on this machine, from rolekeeperd.
#[derive(Parser)]
#[command(name = "rolekeeper", version, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 unexpected, 2 usage or configuration, 3 no daemon, 4 not allowed here,\n\
    5 login needed, 6 held after a revocation, 7 upstream unavailable, 8 upstream refused;\n\
    126 and 127 of exec: its command cannot be run, or is not there.\n\
    A reader that stops early, such as head, is no failure.\n\n\
    Environment: ROLEKEEPER_SOCKET (path of the socket), ROLEKEEPER_AUTOSTART=0 (never start a daemon),\n\
    ROLEKEEPER_CONFIG (configuration of a daemon that is started)."
)]
struct Cli {
    /// The daemon's socket [default: $ROLEKEEPER_SOCKET, else $XDG_RUNTIME_DIR/rolekeeper/socket]
    #[arg(long, global = true, value_name = "PATH", display_order = 1000)]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a profile's credentials as AWS SDKs expect them of a `credential_process`
    CredentialProcess {
        /// The profile's name in the daemon's configuration
        #[arg(add = ArgValueCandidates::new(suggest::profiles))]
        profile: String,
    },
    /// Print a profile's token as Kubernetes clients expect it of a credential plugin
    #[command(after_help = command::kube::HELP)]
    Kube(command::kube::Arguments),
    /// Give a profile's token to docker and its kin, as a credential helper
    #[command(after_help = command::docker_credential::HELP)]
    DockerCredential(command::docker_credential::Arguments),
    /// Give a profile's token to git, as a credential helper
    #[command(after_help = command::git_credential::HELP)]
    GitCredential(command::git_credential::Arguments),
    /// Print a profile's session token
    #[command(after_help = command::token::HELP)]
    Token(command::token::Arguments),
    /// Configure another tool to get its credentials from rolekeeper
    #[command(after_help = command::setup::HELP)]
    Setup {
        #[command(subcommand)]
        tool: command::setup::Tool,
    },
    /// Show the daemon, its profiles and their sessions
    Status {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Say why a profile's role can or cannot be assumed, as the upstream has it now
    Explain {
        /// The profile's name in the daemon's configuration
        #[arg(add = ArgValueCandidates::new(suggest::profiles))]
        profile: String,
        /// Print JSON instead of prose
        #[arg(long)]
        json: bool,
    },
    /// Show what was done with a profile's sessions, and which programs here had them
    Audit {
        /// The profile's name in the daemon's configuration
        #[arg(add = ArgValueCandidates::new(suggest::profiles))]
        profile: String,
        /// How far to look back: a number and s, m, h or d
        #[arg(long, value_name = "SPAN", default_value = "12h")]
        since: String,
        /// Print JSON instead of prose
        #[arg(long)]
        json: bool,
    },
    /// Run a command that finds a profile's credentials in its environment
    #[command(
        after_help = "With --mode env, the default, the command gets AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,\n\
        AWS_SESSION_TOKEN and AWS_CREDENTIAL_EXPIRATION: every tool knows them, nothing on this machine comes before\n\
        them, and they are never renewed. With --mode http it gets AWS_CONTAINER_CREDENTIALS_FULL_URI and\n\
        AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, with --mode imds AWS_EC2_METADATA_SERVICE_ENDPOINT: SDKs ask the daemon\n\
        again before the end, for what runs longer than a session. AWS's configuration files are set aside then,\n\
        because credentials in them would come first, and NO_PROXY names this machine.\n\n\
        In every mode it gets ROLEKEEPER_PROFILE, the profile's region, if it has one, and none of the variables that\n\
        would shadow these.\n\n\
        The exit code is the command's own, 128 and the number if a signal ended it, 127 if there is no such command,\n\
        126 if it cannot be run, and 6 if --on-revoke=term ended it.\n\
        On a terminal --on-revoke signals the command alone, elsewhere its whole process group."
    )]
    Exec {
        /// How the command gets credentials
        #[arg(long, value_name = "MODE", default_value = "env")]
        mode: Mode,
        /// What to do when the credentials are revoked while it runs [default: nothing, and nobody watches]
        #[arg(long, value_name = "WHAT")]
        on_revoke: Option<command::exec::OnRevoke>,
        /// The profile's name in the daemon's configuration
        #[arg(add = ArgValueCandidates::new(suggest::profiles))]
        profile: String,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
        command: Vec<std::ffi::OsString>,
    },
    /// Print the environment that exec gives to a command, for a shell or a file
    #[command(
        after_help = "It holds secrets in --mode env. ROLEKEEPER_PROFILE is not part of it, so that exec works in that shell."
    )]
    Env {
        /// The profile's name in the daemon's configuration
        #[arg(add = ArgValueCandidates::new(suggest::profiles))]
        profile: String,
        /// Who is to read it
        #[arg(long, value_name = "FORMAT", default_value = "sh")]
        format: Format,
        /// How a tool gets credentials
        #[arg(long, value_name = "MODE", default_value = "env")]
        mode: Mode,
    },
    /// Print how things are with a profile, and again whenever they have changed, one line of JSON each
    #[command(
        after_help = "It goes on with the next daemon when one goes away, starts none then, and ends with its reader."
    )]
    Watch {
        /// The profile's name in the daemon's configuration
        #[arg(add = ArgValueCandidates::new(suggest::profiles))]
        profile: String,
    },
    #[command(after_help = command::journal::HELP)]
    Journal(command::journal::Arguments),
    #[command(after_help = command::approve::HELP)]
    Approve(command::approve::Arguments),
    #[command(after_help = command::login::HELP)]
    Login(command::login::Arguments),
    /// Open what a person has to open: an encrypted file by its passphrase, or a keyring whose prompt was dismissed
    Unlock {
        /// The upstream [default: the only one]
        upstream: Option<String>,
        /// Print JSON instead of prose
        #[arg(long)]
        json: bool,
    },
    /// Show or end sessions at an upstream
    #[command(args_conflicts_with_subcommands = true)]
    Sessions {
        #[command(subcommand)]
        command: Option<SessionsCommand>,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Drop the session of a profile, or of all, and give no credentials until it is resumed
    Logout {
        /// The profile's name in the daemon's configuration [default: all]
        #[arg(add = ArgValueCandidates::new(suggest::profiles))]
        profile: Option<String>,
        /// Revoke it at the upstream, too; that is tried again until it is confirmed or the session has expired
        #[arg(long)]
        revoke: bool,
        /// Print JSON instead of prose
        #[arg(long)]
        json: bool,
    },
    /// Give credentials of a profile again whose session was revoked or logged out of
    Resume {
        /// The profile's name in the daemon's configuration
        #[arg(add = ArgValueCandidates::new(suggest::profiles))]
        profile: String,
        /// Print JSON instead of prose
        #[arg(long)]
        json: bool,
    },
    /// Fetch a new session of a profile now
    Refresh {
        /// The profile's name in the daemon's configuration
        #[arg(add = ArgValueCandidates::new(suggest::profiles))]
        profile: String,
        /// Print JSON instead of prose
        #[arg(long)]
        json: bool,
    },
    /// Tell the daemon that a service has refused a profile's credentials: it asks the upstream whether they are revoked
    ReportRejected {
        /// The profile's name in the daemon's configuration
        #[arg(add = ArgValueCandidates::new(suggest::profiles))]
        profile: String,
        /// Print JSON instead of prose
        #[arg(long)]
        json: bool,
    },
}

/// What there is to do with sessions at an upstream.
#[derive(Subcommand)]
enum SessionsCommand {
    /// List the active sessions of your principal, those of this machine with their profiles (the default)
    List {
        /// The upstream, where there are several
        #[arg(long, value_name = "NAME")]
        upstream: Option<String>,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// End a session, here at once and at the upstream
    Revoke {
        /// The session's id
        #[arg(value_name = "ID")]
        session_id: String,
        /// What others will read about why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// The upstream, where there are several
        #[arg(long, value_name = "NAME")]
        upstream: Option<String>,
        /// Print JSON instead of prose
        #[arg(long)]
        json: bool,
    },
}

/// Everything but the methods of `iam`, which only those pay for who want them.
fn without_methods() -> clap::Command {
    Cli::command()
        .subcommand(arguments::command(&[]))
        .subcommand(completions::command())
}

/// Everything.
fn whole(methods: &[Method]) -> clap::Command {
    without_methods().mut_subcommand("iam", |_| arguments::command(methods))
}

/// Answers a shell that wants completions. Returns whether there was one.
pub(crate) fn complete() -> bool {
    let Some(shell) = std::env::var_os(completions::VARIABLE) else {
        return false;
    };
    let args: Vec<_> = std::env::args_os().collect();
    let here = std::env::current_dir().ok();
    let answered = CompleteEnv::with_factory(|| whole(&iam::methods().unwrap_or_default()))
        .var(completions::VARIABLE)
        .try_complete(args, here.as_deref());
    answered.unwrap_or_else(|error| {
        // Anything else is no news to somebody at a prompt: the shell no longer reads, or there is nothing to complete.
        if !completions::knows(&shell) {
            command::tell(&error.to_string());
        }
        true
    })
}

pub(crate) fn run() -> Result<ExitCode, Failure> {
    let wants_methods = std::env::args_os().any(|word| word == "iam");
    let methods = if wants_methods {
        iam::methods()?
    } else {
        Vec::new()
    };
    let matches = match whole(&methods).try_get_matches() {
        Ok(matches) => matches,
        Err(shown)
            if matches!(
                shown.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) =>
        {
            return done(command::print(&shown.to_string()));
        }
        Err(wrong) => return Err(usage(&wrong)),
    };
    match matches.subcommand() {
        Some(("iam", given)) => {
            return done(iam::run(
                &methods,
                given,
                matches.get_one("socket").cloned(),
            ));
        }
        Some(("completions", given)) => {
            return done(completions::run(
                given.get_one::<String>("shell").map_or("", String::as_str),
            ));
        }
        _ => {}
    }
    let Cli { socket, command } = Cli::from_arg_matches(&matches).map_err(|wrong| usage(&wrong))?;
    done(match command {
        Command::Exec {
            profile,
            mode,
            on_revoke,
            command,
        } => {
            return command::exec::run(
                Plan {
                    profile,
                    mode,
                    words: command,
                },
                on_revoke,
                socket,
            );
        }
        Command::Env {
            profile,
            format,
            mode,
        } => command::env::run(&profile, mode, format, socket),
        Command::CredentialProcess { profile } => {
            command::credential_process::run(&profile, socket)
        }
        Command::Kube(arguments) => command::kube::run(&arguments, socket),
        Command::DockerCredential(arguments) => {
            return command::docker_credential::run(&arguments, socket);
        }
        Command::GitCredential(arguments) => command::git_credential::run(&arguments, socket),
        Command::Token(arguments) => command::token::run(&arguments, socket),
        Command::Setup { tool } => command::setup::run(&tool, socket),
        Command::Status { json } => command::status::run(json, socket),
        Command::Explain { profile, json } => command::explain::run(&profile, json, socket),
        Command::Audit {
            profile,
            since,
            json,
        } => command::audit::run(&profile, &since, json, socket),
        Command::Watch { profile } => command::watch::run(&profile, socket),
        Command::Sessions {
            command: None,
            json,
        } => command::sessions::list(None, json, socket),
        Command::Sessions {
            command: Some(SessionsCommand::List { upstream, json }),
            ..
        } => command::sessions::list(upstream.as_deref(), json, socket),
        Command::Sessions {
            command:
                Some(SessionsCommand::Revoke {
                    session_id,
                    reason,
                    upstream,
                    json,
                }),
            ..
        } => command::sessions::revoke(
            &session_id,
            reason.as_deref(),
            upstream.as_deref(),
            json,
            socket,
        ),
        Command::Journal(arguments) => command::journal::run(&arguments, socket),
        Command::Approve(arguments) => command::approve::run(&arguments, socket),
        Command::Login(arguments) => command::login::run(&arguments, socket),
        Command::Unlock { upstream, json } => {
            command::login::unlock(upstream.as_deref(), json, socket)
        }
        Command::Logout {
            profile,
            revoke,
            json,
        } => command::revocation::logout(profile.as_deref(), revoke, json, socket),
        Command::Resume { profile, json } => command::revocation::resume(&profile, json, socket),
        Command::Refresh { profile, json } => command::revocation::refresh(&profile, json, socket),
        Command::ReportRejected { profile, json } => {
            command::revocation::report_rejected(&profile, json, socket)
        }
    })
}

fn done(outcome: Result<(), Failure>) -> Result<ExitCode, Failure> {
    outcome.map(|()| ExitCode::SUCCESS)
}

/// clap's own message on one line, in the words of every other failure.
fn usage(wrong: &clap::Error) -> Failure {
    let text = wrong.to_string();
    let mut what = String::new();
    for line in text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
    {
        let part = line.trim().trim_start_matches("error: ");
        if part.is_empty() || part.starts_with("tip: ") {
            continue;
        }
        what += match what.chars().last() {
            None => "",
            Some(':') => " ",
            Some(_) if part.starts_with('[') => " ",
            Some(_) if line.starts_with(' ') => ", ",
            Some(_) => "; ",
        };
        what += part;
    }
    let what = match wrong.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".into(),
        _ => what,
    };
    Failure::new(
        Code::Usage,
        what,
        suggestion(wrong).unwrap_or_else(|| "the same with --help".into()),
    )
}

/// The nearest of what there is to what was written.
fn suggestion(wrong: &clap::Error) -> Option<String> {
    let context = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ];
    let nearest = context
        .into_iter()
        .find_map(|kind| match wrong.get(kind)? {
            ContextValue::String(one) => Some(one.clone()),
            // The last is the nearest.
            ContextValue::Strings(several) => several.last().cloned(),
            _ => None,
        })?;
    Some(format!("`{nearest}`, if that was meant"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_command_line_is_a_sentence_on_one_line() {
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
            let failure = usage(&whole(&methods).try_get_matches_from(words).unwrap_err());
            assert_eq!(
                (failure.code, failure.message.as_str()),
                (Code::Usage, want)
            );
        }
    }
}
