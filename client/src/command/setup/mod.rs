//! `rolekeeper setup TOOL PROFILE`: configures another tool to get its credentials from rolekeeper. It prints the changes,
//! makes them with `--write`, and removes them with `--undo --write`.
//!
//! A report has only what setup itself adds or removes: the rest of a tool's configuration may hold secrets.

mod aws;
mod docker;
mod external;
mod file;
mod git;
mod kube;
mod plan;
mod program;

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};

use self::plan::{Note, Plan};
use super::iam::suggest;
use super::status;

pub(crate) const HELP: &str = "\
setup prints the changes, and makes them with --write. With --undo it prints how to remove them,
and removes them with --undo --write.

git and kubectl (1.30 or newer) change their own files: setup runs git config and kubectl config.
setup itself changes the files of AWS and Docker, and first copies each to FILE.rolekeeper-backup.
All other settings in these files stay as they are.";

/// The tool to configure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Tool {
    /// Add a profile for the AWS CLI and AWS SDKs
    Aws(aws::Arguments),
    /// Add a user for kubectl and other Kubernetes clients
    Kube(kube::Arguments),
    /// Add a credential helper for Docker registries
    Docker(docker::Arguments),
    /// Add a credential helper for git over HTTPS
    Git(git::Arguments),
}

/// The arguments of every tool.
#[derive(Debug, clap::Args)]
struct Common {
    /// The profile's name in the daemon's configuration
    #[arg(add = ArgValueCandidates::new(suggest::profiles), value_parser = program::profile)]
    profile: String,
    /// The configuration file to change [default: the one that the tool uses]
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    /// Make the changes
    #[arg(long, display_order = 900)]
    write: bool,
    /// Remove what setup added for this profile
    #[arg(long, display_order = 901)]
    undo: bool,
    /// Print JSON instead of prose
    #[arg(long, display_order = 902)]
    json: bool,
}

pub(crate) fn run(tool: &Tool, socket: Option<PathBuf>) -> Result<(), Failure> {
    let socket = program::socket(socket)?;
    let socket = socket.as_deref();
    let common = match tool {
        Tool::Aws(arguments) => &arguments.common,
        Tool::Kube(arguments) => &arguments.common,
        Tool::Docker(arguments) => &arguments.common,
        Tool::Git(arguments) => &arguments.common,
    };

    let mut plan = plan(tool, socket)?;

    if common.write {
        plan.changes.iter().try_for_each(plan::Change::apply)?;
        check_written(tool, socket)?;
    }

    if !common.undo && is_unknown(&common.profile, socket) {
        plan.notes.push(Note {
            message: format!("the running daemon has no profile {}", common.profile),
            hint: format!("add [profile.{}] to its configuration", common.profile),
        });
    }

    plan.report(common)
}

fn plan(tool: &Tool, socket: Option<&str>) -> Result<Plan, Failure> {
    match tool {
        Tool::Aws(arguments) => aws::plan(arguments, socket),
        Tool::Kube(arguments) => kube::plan(arguments, socket),
        Tool::Docker(arguments) => docker::plan(arguments, socket),
        Tool::Git(arguments) => git::plan(arguments, socket),
    }
}

/// Reads the configuration again: nothing must be left to change.
fn check_written(tool: &Tool, socket: Option<&str>) -> Result<(), Failure> {
    if plan(tool, socket)?.changes.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Code::Unexpected,
        "the configuration does not have all of the changes after it was written",
        "run the command again: another program may have changed the file too",
    ))
}

/// Whether a daemon is running that shows this user no such profile.
fn is_unknown(profile: &str, socket: Option<&str>) -> bool {
    let stream = connect::socket_path(socket.map(Into::into))
        .ok()
        .and_then(|path| status::open_for_completion(&path));
    let status = stream.and_then(|mut stream| status::read(&mut stream).ok());
    status.is_some_and(|status| status.profiles.iter().all(|known| known.profile != profile))
}
