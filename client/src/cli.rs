//! The command line for people: help, options, and which command runs.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use rolekeeper::protocol::{Code, Failure};

use crate::command;

/// Short-lived credentials for the tools on this machine, from rolekeeperd.
#[derive(Parser)]
#[command(name = "rolekeeper", version, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 unexpected, 2 usage or configuration, 3 no daemon, 4 not allowed here,\n\
    5 login needed, 6 held after a revocation, 7 upstream unavailable, 8 upstream refused.\n\n\
    Environment: ROLEKEEPER_SOCKET (path of the socket), ROLEKEEPER_AUTOSTART=0 (never start a daemon),\n\
    ROLEKEEPER_CONFIG (configuration of a daemon that is started)."
)]
struct Cli {
    /// The daemon's socket [default: $ROLEKEEPER_SOCKET, else $XDG_RUNTIME_DIR/rolekeeper/socket]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a profile's credentials as AWS SDKs expect them of a `credential_process`
    CredentialProcess {
        /// The profile's name in the daemon's configuration
        profile: String,
    },
    /// Show the daemon, its profiles and their sessions
    Status {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run() -> Result<(), Failure> {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(shown) if matches!(shown.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return command::print(&shown.to_string());
        }
        Err(wrong) => return Err(usage(&wrong)),
    };
    match cli.command {
        Command::CredentialProcess { profile } => command::credential_process::run(&profile, cli.socket),
        Command::Status { json } => command::status::run(json, cli.socket),
    }
}

/// clap's own message on one line, in the words of every other failure.
fn usage(wrong: &clap::Error) -> Failure {
    let text = wrong.to_string();
    let what = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .map(|line| line.trim().trim_start_matches("error: "))
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ");
    let what = if wrong.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        "a command is missing".into()
    } else {
        what
    };
    Failure::new(Code::Usage, what, "rolekeeper --help")
}
