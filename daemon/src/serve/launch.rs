//! How this daemon was started, and what it works with: for `rolekeeper status`, and for errors that have their cause there.

use std::path::Path;

use rolekeeper::connect::{
    CONFIG_VARIABLE, IGNORED_VARIABLES, STARTED_BY_CLIENT, network, variable,
};
use rolekeeper::places;
use rolekeeper::protocol::{Code, Failure, LaunchStatus, WantedConfig};
use rolekeeper::shell::quoted_path;

const BY_CLIENT: &str = "client";

#[derive(Debug)]
pub(crate) struct Launch {
    pub(super) status: LaunchStatus,
    /// The option for a daemon at the same socket, if it is not the default one.
    socket_option: String,
}

impl Launch {
    /// `state` is the state folder, and why nothing can be stored there.
    pub(crate) fn new(
        config: &Path,
        socket: &Path,
        state: Option<(&Path, Option<String>)>,
        is_supervised: bool,
    ) -> Self {
        let started_by = match (variable(STARTED_BY_CLIENT), is_supervised) {
            (_, true) => "service manager",
            (Some(_), false) => BY_CLIENT,
            (None, false) => "person",
        };
        let ignored = variable(IGNORED_VARIABLES).unwrap_or_default();

        let (state, state_problem) = state.unzip();
        let is_default = places::default_socket().is_some_and(|default| default == socket);

        Self {
            socket_option: match is_default {
                true => String::new(),
                false => format!(" --socket {}", quoted_path(socket)),
            },
            status: LaunchStatus {
                config: config.to_string_lossy().into_owned(),
                socket: socket.to_string_lossy().into_owned(),
                state: state.map(|folder| folder.to_string_lossy().into_owned()),
                state_problem: state_problem.flatten(),
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

    /// What a user who does not own the daemon may know of it: nothing of its files.
    pub(super) fn for_other_users(&self) -> LaunchStatus {
        LaunchStatus {
            socket: self.status.socket.clone(),
            started_by: self.status.started_by.clone(),
            network: self.status.network.clone(),
            ..LaunchStatus::default()
        }
    }

    /// Refuses a caller that wants another configuration.
    pub(super) fn check_config(
        &self,
        is_owner: bool,
        wanted: Option<&WantedConfig<'_>>,
    ) -> Result<(), Failure> {
        let own = &self.status.config;
        let Some(wanted) = wanted.filter(|wanted| wanted.path != *own) else {
            return Ok(());
        };
        // A link may lead elsewhere since the start.
        let resolved = Path::new(own).canonicalize();
        if resolved.is_ok_and(|resolved| resolved == Path::new(&*wanted.path)) {
            return Ok(());
        }

        let variable = &wanted.variable;
        if !is_owner {
            return Err(Failure::new(
                Code::Configuration,
                format!("{variable} names a configuration, and this daemon has its own"),
                format!("run unset {variable} and then the command again"),
            ));
        }

        let pid = std::process::id();
        let restart = match &**variable {
            CONFIG_VARIABLE => format!(
                "then rolekeeperd --detach --config {}{}",
                quoted_path(Path::new(&*wanted.path)),
                self.socket_option
            ),
            // A person or a service manager has chosen the configuration, and not by this variable.
            _ if self.status.started_by != BY_CLIENT => return Ok(()),
            _ => "then the command".into(),
        };

        Err(Failure::new(
            Code::Configuration,
            format!(
                "{variable} names the configuration {}, and the running daemon has {own}",
                wanted.path
            ),
            format!(
                "run unset {variable} and then the command again, or run kill {pid} and {restart}"
            ),
        ))
    }
}
