//! How this daemon was started, and what it works with: for `rolekeeper status`, and for errors that have their cause there.

use std::path::Path;

use rolekeeper::connect::{
    CONFIG_VARIABLE, IGNORED_VARIABLES, STARTED_BY_CLIENT, network, variable,
};
use rolekeeper::places;
use rolekeeper::protocol::{Code, Failure, LaunchStatus};
use rolekeeper::shell::quoted_path;

#[derive(Debug)]
pub(crate) struct Launch {
    pub(super) status: LaunchStatus,
    /// The option for a daemon at the same socket, if it is not the default one.
    socket_option: String,
}

impl Launch {
    pub(crate) fn new(config: &Path, socket: &Path, is_supervised: bool) -> Self {
        let started_by = match (variable(STARTED_BY_CLIENT), is_supervised) {
            (_, true) => "service manager",
            (Some(_), false) => "client",
            (None, false) => "person",
        };
        let ignored = variable(IGNORED_VARIABLES).unwrap_or_default();

        let is_default = places::default_socket().is_some_and(|default| default == socket);

        Self {
            socket_option: match is_default {
                true => String::new(),
                false => format!(" --socket {}", quoted_path(socket)),
            },
            status: LaunchStatus {
                config: config.to_string_lossy().into_owned(),
                socket: socket.to_string_lossy().into_owned(),
                started_by: started_by.into(),
                ignored_variables: ignored
                    .to_string_lossy()
                    .split_terminator(',')
                    .map(Into::into)
                    .collect(),
                network: network(),
            },
        }
    }

    /// Refuses a caller that wants another configuration.
    pub(super) fn check_config(&self, wanted: Option<&str>) -> Result<(), Failure> {
        let own = &self.status.config;
        let Some(wanted) = wanted.filter(|wanted| wanted != own) else {
            return Ok(());
        };
        // A link may lead elsewhere since the start.
        let resolved = Path::new(own).canonicalize();
        if resolved.is_ok_and(|resolved| resolved == Path::new(wanted)) {
            return Ok(());
        }

        Err(Failure::new(
            Code::Configuration,
            format!(
                "{CONFIG_VARIABLE} is {wanted}, and the running daemon has the configuration {own}"
            ),
            format!(
                "run unset {CONFIG_VARIABLE} and then the command again, or run kill {} and then rolekeeperd --detach \
                 --config {}{}",
                std::process::id(),
                quoted_path(Path::new(wanted)),
                self.socket_option
            ),
        ))
    }
}
