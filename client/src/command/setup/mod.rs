//! `rolekeeper setup TOOL PROFILE`: other tools' configuration, so that they get their credentials here. It shows what it
//! would change, does that with `--write`, and takes it out again with `--undo`.
//!
//! What it did not write stays as it is, to the byte; of a file that it does not understand it changes nothing.

mod aws;
mod block;
mod diff;
mod docker;
mod file;
mod git;
mod kube;
mod lines;
#[cfg(test)]
mod odd;
mod plan;
mod program;

use std::path::PathBuf;

use rolekeeper::connect;
use rolekeeper::protocol::Failure;

use super::status;

pub(crate) const HELP: &str = "It shows what it would change, and does that with --write. With --undo it shows what it would take\n\
    out again, and does that with --undo --write.\n\
    What is not its own stays as it is, and a copy of the file as it was is kept beside it (*.rolekeeper-backup).";

/// The tool to set up.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Tool {
    /// A profile for the AWS CLI and AWS SDKs
    Aws(aws::Arguments),
    /// A user for kubectl and other clients of Kubernetes
    Kube(kube::Arguments),
    /// A credential helper for Docker's registries
    Docker(docker::Arguments),
    /// A credential helper for git over HTTPS
    Git(git::Arguments),
}

#[derive(Debug, Clone, Copy, clap::Args)]
struct How {
    /// Do it, instead of showing what it would change
    #[arg(long, display_order = 900)]
    write: bool,
    /// Take out what setup has put in, or show that
    #[arg(long, display_order = 901)]
    undo: bool,
    /// Print JSON instead of prose
    #[arg(long, display_order = 902)]
    json: bool,
}

pub(crate) fn run(tool: &Tool, socket: Option<PathBuf>) -> Result<(), Failure> {
    let socket = program::socket(socket)?;
    let socket = socket.as_deref();
    let (mut plan, how, profile) = match tool {
        Tool::Aws(arguments) => (
            aws::plan(arguments, socket)?,
            arguments.how,
            &arguments.profile,
        ),
        Tool::Kube(arguments) => (
            kube::plan(arguments, socket)?,
            arguments.how,
            &arguments.profile,
        ),
        Tool::Docker(arguments) => (
            docker::plan(arguments, socket)?,
            arguments.how,
            &arguments.profile,
        ),
        Tool::Git(arguments) => (
            git::plan(arguments, socket)?,
            arguments.how,
            &arguments.profile,
        ),
    };
    if !how.undo && is_unknown(profile, socket) {
        plan.notes.push(format!(
            "The daemon that is running shows you no profile {profile}: one is added in its configuration."
        ));
    }
    plan.carry_out(how)
}

/// Whether there is a daemon that has no such profile for whoever asks.
fn is_unknown(profile: &str, socket: Option<&str>) -> bool {
    let stream = connect::socket_path(socket.map(Into::into))
        .ok()
        .and_then(|path| status::open_soon(&path));
    let status = stream.and_then(|mut stream| status::read(&mut stream).ok());
    status.is_some_and(|status| status.profiles.iter().all(|known| known.profile != profile))
}
