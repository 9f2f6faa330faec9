//! `rolekeeper setup TOOL PROFILE`: configures another tool to get its credentials from rolekeeper. It prints the changes,
//! makes them with `--write`, and removes them with `--undo --write`.
//!
//! A report has only what setup itself adds or removes: the rest of a tool's configuration may hold secrets.

#[cfg(target_os = "linux")]
mod attributes;
mod aws;
mod backup;
mod docker;
mod external;
mod file;
mod git;
mod kube;
mod lock;
mod plan;
mod program;
#[cfg(unix)]
mod replaceable;

use std::path::PathBuf;
use std::time::Duration;

use clap_complete::ArgValueCandidates;
use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, ProfileStatus};

use self::file::ApplyError;
use self::plan::{Change, Note, Plan};
use super::iam::suggest;
use super::status;

pub(crate) const HELP: &str = "\
setup prints the changes, and makes them with --write. With --undo it prints how to remove them,
and removes them with --undo --write.

git and kubectl (1.30 or newer) change their own files: setup runs git config and kubectl config.
setup itself changes the files of AWS and Docker. Before its first change it copies the file to
FILE.rolekeeper-backup, or to the state folder if the file is in a repository. All other settings in these files stay as they are.";

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
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, clap::Args)]
struct Options {
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

impl Common {
    fn parts(&self) -> (&String, &Options) {
        (&self.profile, &self.options)
    }
}

pub(crate) fn run(tool: &Tool, socket: Option<PathBuf>) -> Result<(), Failure> {
    let socket = program::socket(socket)?;
    let socket = socket.as_deref();
    let (profile, options) = match tool {
        Tool::Aws(arguments) => match &arguments.profile {
            Some(profile) => (profile, &arguments.options),
            None => return run_all(&arguments.options, socket),
        },
        Tool::Kube(arguments) => arguments.common.parts(),
        Tool::Docker(arguments) => arguments.common.parts(),
        Tool::Git(arguments) => arguments.common.parts(),
    };

    let daemon_profile = match options.undo {
        true => DaemonProfile::NoDaemon,
        false => daemon_profile(profile, socket),
    };
    let plan_again = || plan(tool, profile, socket, daemon_profile.region());

    let _lock = match options.write {
        true => lock::acquire()?,
        false => None,
    };
    let mut plan = plan_again()?;

    if options.write {
        plan.changes = write(plan.changes, || plan_again().map(|plan| plan.changes))?;
    } else if let Err(failure) = plan.changes.iter().try_for_each(Change::check) {
        plan.notes.push(Note {
            message: failure.message,
            hint: failure.hint,
        });
    }

    if matches!(daemon_profile, DaemonProfile::Unknown) {
        plan.notes.push(Note {
            message: format!("the running daemon has no profile {profile}"),
            hint: format!("add [profile.{profile}] to its configuration"),
        });
    }

    plan.report(profile, options)
}

/// `setup aws --all`.
fn run_all(options: &Options, socket: Option<&str>) -> Result<(), Failure> {
    let plan_again = || aws::all::plan(options, socket);
    let _lock = match options.write {
        true => lock::acquire()?,
        false => None,
    };
    let mut all = plan_again()?;

    if options.write {
        all.changes = write(all.changes, || plan_again().map(|all| all.changes))?;
    } else {
        all.changes.iter().try_for_each(Change::check)?;
    }

    all.report(options)
}

fn plan(
    tool: &Tool,
    profile: &str,
    socket: Option<&str>,
    region: Option<&str>,
) -> Result<Plan, Failure> {
    match tool {
        Tool::Aws(arguments) => aws::plan(arguments, profile, socket, region),
        Tool::Kube(arguments) => kube::plan(arguments, socket),
        Tool::Docker(arguments) => docker::plan(arguments, socket),
        Tool::Git(arguments) => git::plan(arguments, socket),
    }
}

/// How often changes are planned anew because another program has changed the same files.
const ATTEMPTS: u32 = 10;

/// Makes the changes, and reads the configuration again: nothing must be left to change. Returns the changes that were made.
fn write(
    mut changes: Vec<Change>,
    plan_again: impl Fn() -> Result<Vec<Change>, Failure>,
) -> Result<Vec<Change>, Failure> {
    let mut made = Vec::new();
    let mut failure = Failure::new(
        Code::Unexpected,
        "the configuration does not have all of the changes after it was written",
        "run the command again: another program may have changed the file too",
    );

    for attempt in 0..ATTEMPTS {
        if changes.is_empty() {
            return Ok(made);
        }
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(10 << attempt.min(6)));
        }

        changes.iter().try_for_each(Change::check)?;
        for change in changes {
            match change.apply() {
                Ok(()) => made.push(change),
                Err(ApplyError::Changed(changed)) => {
                    failure = changed;
                    break;
                }
                Err(ApplyError::Failed(failed)) => return Err(failed),
            }
        }

        changes = plan_again()?;
    }

    if changes.is_empty() {
        return Ok(made);
    }

    Err(failure)
}

/// What a running daemon reports about the profile.
enum DaemonProfile {
    /// None is running, or it does not answer in time.
    NoDaemon,
    /// It shows this user no such profile.
    Unknown,
    Known {
        region: Option<String>,
    },
}

impl DaemonProfile {
    fn region(&self) -> Option<&str> {
        match self {
            Self::Known { region } => region.as_deref(),
            Self::NoDaemon | Self::Unknown => None,
        }
    }
}

fn daemon_profile(profile: &str, socket: Option<&str>) -> DaemonProfile {
    let stream = connect::socket_path(socket.map(Into::into))
        .ok()
        .and_then(|path| status::open_for_completion(&path));
    let status = stream.and_then(|mut stream| status::read(&mut stream).ok());
    let Some(status) = status else {
        return DaemonProfile::NoDaemon;
    };

    let mut profiles = status.profiles.into_iter();
    match profiles.find(|known| known.profile == profile) {
        Some(ProfileStatus { region, .. }) => DaemonProfile::Known { region },
        None => DaemonProfile::Unknown,
    }
}
