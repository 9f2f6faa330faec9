//! The commands and their options.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::ArgValueCandidates;

use crate::command;
use crate::command::iam::suggest;

const HELP: &str = "Exit codes: 0 done, 1 unexpected, 2 usage or configuration, 3 no daemon, 4 not allowed here,\n\
    5 login needed, 6 held after a revocation, 7 upstream unavailable, 8 upstream refused;\n\
    of exec: 126 command cannot be executed, 127 command not found.\n\
    A reader that exits early, such as head, is not an error.\n\n\
    Environment: ROLEKEEPER_SOCKET (path of the socket), ROLEKEEPER_AUTOSTART=0 (never start a daemon),\n\
    ROLEKEEPER_CONFIG (configuration that the daemon must have).";

const WATCH_HELP: &str =
    "Reconnects if the daemon restarts; does not start one. Exits when its reader does.";

/// Use short-lived cloud credentials from rolekeeperd
#[derive(Parser)]
#[command(name = "rolekeeper", version, disable_help_subcommand = true)]
#[command(after_help = HELP)]
pub(super) struct Cli {
    /// The daemon's socket [default: $ROLEKEEPER_SOCKET, else the user's place on this machine]
    #[arg(long, global = true, value_name = "PATH", display_order = 1000)]
    pub(super) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print a profile's credentials for the `credential_process` setting of AWS SDKs
    CredentialProcess {
        #[command(flatten)]
        profile: ProfileArgument,
    },
    /// Print a profile's token for Kubernetes clients, as a credential plugin
    #[command(after_help = command::kube::HELP)]
    Kube(command::kube::Arguments),
    /// Print a profile's token for docker, as a credential helper
    #[command(after_help = command::docker_credential::HELP)]
    DockerCredential(command::docker_credential::Arguments),
    /// Print a profile's token for git, as a credential helper
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
    /// Explain why a profile's role can or cannot be assumed now
    Explain(ReportArguments),
    #[command(after_help = command::audit::HELP)]
    Audit(command::audit::Arguments),
    #[command(after_help = command::exec::HELP)]
    Exec(command::exec::Arguments),
    #[command(after_help = command::env::HELP)]
    Env(command::env::Arguments),
    /// Print a profile's status as JSON on every change
    #[command(after_help = WATCH_HELP)]
    Watch {
        #[command(flatten)]
        profile: ProfileArgument,
    },
    #[command(after_help = command::journal::HELP)]
    Journal(command::journal::Arguments),
    #[command(after_help = command::approve::HELP)]
    Approve(command::approve::Arguments),
    #[command(after_help = command::login::HELP)]
    Login(command::login::Arguments),
    /// Move tokens from another tool into the keyring or an age file
    Import {
        #[command(subcommand)]
        source: command::import::Source,
    },
    /// Unlock an age file or a locked keyring
    Unlock {
        /// The upstream [default: the only one]
        #[arg(add = ArgValueCandidates::new(suggest::upstreams))]
        upstream: Option<String>,
        /// The same, as other commands have it
        #[arg(long = "upstream", value_name = "NAME", conflicts_with = "upstream", add = ArgValueCandidates::new(suggest::upstreams))]
        named: Option<String>,
        /// Print JSON instead of prose
        #[arg(long)]
        json: bool,
    },
    /// Show or revoke sessions at an upstream
    #[command(args_conflicts_with_subcommands = true)]
    Sessions {
        #[command(subcommand)]
        command: Option<SessionsCommand>,
        /// The upstream [default: the only one]
        #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(suggest::upstreams))]
        upstream: Option<String>,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Drop the session of one profile, or of all, and hold the profile until resume
    Logout {
        /// The profile's name in the daemon's configuration [default: all]
        #[arg(add = ArgValueCandidates::new(suggest::profiles))]
        profile: Option<String>,
        /// Also revoke the session at the upstream; retried until it is confirmed or the session expires
        #[arg(long)]
        revoke: bool,
        /// Print JSON instead of prose
        #[arg(long)]
        json: bool,
    },
    /// Resume a profile that is held after a revocation or logout
    Resume(ReportArguments),
    /// Fetch a new session of a profile now
    Refresh(ReportArguments),
    /// Report that a service rejected a profile's credentials, and check whether they are revoked
    ReportRejected(ReportArguments),
}

#[derive(clap::Args)]
pub(super) struct ProfileArgument {
    /// The profile's name in the daemon's configuration
    #[arg(value_name = "PROFILE", add = ArgValueCandidates::new(suggest::profiles))]
    pub(super) profile: String,
}

#[derive(clap::Args)]
pub(super) struct ReportArguments {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles))]
    pub(super) profile: String,
    /// Print JSON instead of prose
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Subcommand)]
pub(super) enum SessionsCommand {
    /// List the active sessions of your principal, with the profiles of this machine (the default)
    List {
        /// The upstream [default: the only one]
        #[arg(long, value_name = "NAME")]
        upstream: Option<String>,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Revoke a session at the upstream, and drop it here
    Revoke(RevokeArguments),
}

#[derive(clap::Args)]
pub(super) struct RevokeArguments {
    /// The session's id
    #[arg(value_name = "ID")]
    pub(super) session_id: String,
    /// The reason to show to other users
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// The upstream [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub(super) upstream: Option<String>,
    /// Print JSON instead of prose
    #[arg(long)]
    pub(super) json: bool,
}
