//! The processes that run outside the sandbox. They are started before this process confines itself, or inherited from
//! an earlier process of the daemon.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::inherited_fds::Inherited;
use crate::config::{Config, TokenLocation, UpstreamConfig};
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
        let is_reloaded = inherited.peer_inspector.is_some();
        let commands = token_commands(config);

        let peer_inspector = match inherited.peer_inspector.take() {
            Some(socket) => PeerInspector::inherited(socket),
            None if cfg!(target_os = "linux") => PeerInspector::start(program)?,
            None => PeerInspector::unavailable()?,
        };

        let command_runner = match inherited.command_runner.take() {
            Some(socket) => Some(CommandRunner::inherited(socket)),
            None if !is_reloaded && !commands.is_empty() => {
                Some(CommandRunner::start(program, &commands)?)
            }
            None => None,
        };

        Ok(Self {
            peer_inspector,
            command_runner: command_runner.map(Arc::new),
        })
    }

    /// Starts to receive responses. Must be called after the daemon has confined itself.
    pub(super) fn listen(&self, config: &Config) -> io::Result<()> {
        self.peer_inspector.listen()?;
        if let Some(runner) = &self.command_runner {
            runner.listen()?;
        }

        self.warn_of_unknown_commands(config);
        Ok(())
    }

    /// The command runner of an earlier process does not know the commands that are new in the configuration.
    fn warn_of_unknown_commands(&self, config: &Config) {
        for command in token_commands(config) {
            let runner = self.command_runner.as_ref();
            if !runner.is_some_and(|runner| runner.allows(&command)) {
                tracing::warn!(
                    program = command.first(),
                    "cannot run this token command: it is new in the configuration; restart rolekeeperd instead of \
                     reloading it"
                );
            }
        }
    }
}

fn token_commands(config: &Config) -> Vec<Vec<String>> {
    config
        .upstreams
        .iter()
        .flat_map(UpstreamConfig::token_locations)
        .filter_map(|location| match location {
            TokenLocation::Command { words, .. } => Some(words.clone()),
            _ => None,
        })
        .collect()
}
