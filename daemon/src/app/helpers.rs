//! The processes that run outside the sandbox. They are started before this process confines itself, or inherited from
//! an earlier process of the daemon.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::inherited_fds::Inherited;
use crate::config::{Config, TokenLocation};
use crate::sandbox::helper::command_runner::CommandRunner;
use crate::sandbox::helper::peer_inspector::PeerInspector;

pub(super) struct Helpers {
    pub(super) peer_inspector: Arc<PeerInspector>,
    /// Absent if no token comes from a command.
    pub(super) command_runner: Option<Arc<CommandRunner>>,
}

impl Helpers {
    pub(super) fn start(
        program: &Path,
        inherited: &mut Inherited,
        config: &Config,
    ) -> io::Result<Self> {
        // A process in place of a confined one is as confined, and so is what it starts.
        let is_reloaded = inherited.lookout.is_some();
        let commands = token_commands(config);

        let peer_inspector = match inherited.lookout.take() {
            Some(socket) => PeerInspector::at(socket),
            None if cfg!(target_os = "linux") => PeerInspector::start(program)?,
            None => PeerInspector::none()?,
        };

        let command_runner = match inherited.starter.take() {
            Some(socket) => Some(CommandRunner::at(socket)),
            None if !is_reloaded && !commands.is_empty() => {
                Some(CommandRunner::start(program, &commands)?)
            }
            None => None,
        };
        if is_reloaded {
            warn_of_unknown(&commands, command_runner.as_ref());
        }

        Ok(Self {
            peer_inspector,
            command_runner: command_runner.map(Arc::new),
        })
    }
}

fn token_commands(config: &Config) -> Vec<Vec<String>> {
    config
        .upstreams
        .iter()
        .filter_map(|upstream| match &upstream.token {
            TokenLocation::Command { words, .. } => Some(words.clone()),
            _ => None,
        })
        .collect()
}

/// The command runner runs only what was configured when it was started.
fn warn_of_unknown(commands: &[Vec<String>], runner: Option<&CommandRunner>) {
    for command in commands {
        let is_known = runner.is_some_and(|runner| runner.knows(command).unwrap_or(false));
        if !is_known {
            tracing::warn!(
                command = command.first(),
                "cannot run this token command, because it is new: restart rolekeeperd"
            );
        }
    }
}
