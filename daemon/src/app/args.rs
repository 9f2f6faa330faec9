//! The program's arguments, and why it fails.

use std::io;
use std::path::PathBuf;

use clap::Parser;
use rolekeeper::protocol::Failure;
use thiserror::Error;
use tracing_subscriber::filter::Targets;

use super::background::START_LIMIT;
use super::log_filter;
use super::stores::StateInUse;
use crate::config::file::ConfigError;
use crate::platform::limits::MIN_DESCRIPTORS;
use crate::revocation::store::RevocationStoreError;
use crate::serve::socket::bind::BindError;
use crate::upstream::SetupError;

/// Assumes roles, refreshes their sessions, and serves short-lived credentials over a local socket.
#[derive(Debug, Parser)]
#[command(name = "rolekeeperd", version)]
#[command(
    after_help = "Exit codes: 0 stopped by a signal (with --detach: it serves), 1 unexpected, 2 usage or configuration,\n\
    3 the socket cannot be served, or another rolekeeperd has the state folder.\n\n\
    Prints one line of JSON on standard output once it serves, and logs to standard error. SIGTERM and SIGINT stop it:\n\
    open requests get up to 5 s. SIGHUP reloads the program and the configuration from disk if they are valid: sessions\n\
    stay, and no request for credentials is lost."
)]
pub struct Args {
    /// Configuration file [default: $ROLEKEEPER_CONFIG, else $XDG_CONFIG_HOME/rolekeeper/config.toml]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Socket [default: $ROLEKEEPER_SOCKET, else the user's place on this machine, which rolekeeper status prints]
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Validate the configuration, list all errors, and exit
    #[arg(long)]
    pub(super) check: bool,
    /// The check before a reload: a running daemon needs no token
    #[arg(long, hide = true)]
    pub(super) reload: bool,
    /// What to log: a level, or target=level, separated by commas
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = log_filter::parse)]
    pub(super) log: Targets,
    /// Start the daemon in the background, and exit once it serves
    #[arg(long)]
    pub(super) detach: bool,
    /// The daemon that --detach starts
    #[arg(long, hide = true)]
    pub(super) in_background: bool,
}

#[derive(Debug, Error)]
pub enum AppError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{}", .0.message)]
    Socket(Failure),
    #[error("cannot serve the socket: {0}")]
    Bind(#[from] BindError),
    #[error(transparent)]
    Upstream(#[from] SetupError),
    #[error(transparent)]
    StateInUse(#[from] StateInUse),
    #[error(transparent)]
    RevocationStore(#[from] RevocationStoreError),
    #[error("cannot open the port of [endpoint] in the configuration: {0}")]
    Endpoint(io::Error),
    #[error("cannot start in the background: {0}")]
    Background(io::Error),
    #[error("not ready within {} s", START_LIMIT.as_secs())]
    NotReady(Option<PathBuf>),
    #[error("the limit on open files is {0}, and rolekeeperd needs {MIN_DESCRIPTORS}")]
    Descriptors(u64),
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error("cannot use the inherited descriptors: {0}")]
    Inherited(io::Error),
    #[error("cannot start the program on disk in place of this process: {0}")]
    Reload(io::Error),
}

impl AppError {
    pub fn hint(&self) -> String {
        match self {
            Self::Config(error) => error.hint(),
            Self::Socket(failure) => failure.hint.clone(),
            Self::Bind(error) => error.hint(),
            Self::StateInUse(error) => error.hint(),
            Self::RevocationStore(error) => error.hint(),
            Self::Upstream(error) => error.hint().into(),
            Self::Endpoint(_) => {
                "stop the program that listens there, which ss -ltnp shows, or set another port"
                    .into()
            }
            Self::Inherited(_) => {
                "check LISTEN_FDS, LISTEN_FDNAMES and the sockets of the systemd unit".into()
            }
            Self::Descriptors(_) => {
                "raise it with ulimit -n where the command runs, or start rolekeeperd elsewhere"
                    .into()
            }
            Self::NotReady(Some(log)) => format!("read {}", log.display()),
            Self::NotReady(None) | Self::Background(_) => {
                "repeat the command without --detach".into()
            }
            Self::Reload(_) => "start rolekeeperd again".into(),
            Self::Runtime(_) => "check the limits on processes and descriptors: ulimit -a".into(),
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Socket(_) | Self::Endpoint(_) => 2,
            Self::Bind(_) | Self::StateInUse(_) => 3,
            Self::Upstream(_)
            | Self::RevocationStore(_)
            | Self::Background(_)
            | Self::Descriptors(_)
            | Self::NotReady(_)
            | Self::Runtime(_)
            | Self::Inherited(_)
            | Self::Reload(_) => 1,
        }
    }
}
