//! The two processes that run outside the sandbox. The daemon starts them before it confines itself, because the kernel
//! confines what a confined process starts:
//!
//! - the peer inspector reads from `/proc` which program is at the other end of a connection;
//! - the command helper starts the programs that print tokens.
//!
//! Both run this program as `rolekeeperd internal NAME`, and speak one protocol ([`ipc`]) through one client
//! ([`client::Helper`]) and one loop ([`worker`]). They hold no secrets, exit when the daemon has exited, and serve the next
//! daemon after a reload.

mod client;
pub(crate) mod command_runner;
mod ipc;
mod outbox;
pub(crate) mod peer_inspector;
mod pending;
mod worker;

use std::ffi::OsStr;
use std::os::fd::AsFd;

use crate::platform::signals;

/// The first argument of a helper process.
pub const SUBCOMMAND: &str = "internal";

/// The signals that a terminal or a service manager sends to all processes at once. A helper exits after the daemon.
const SHARED_SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelperKind {
    PeerInspector,
    CommandRunner,
}

impl HelperKind {
    /// By the second argument of a helper process.
    pub fn parse(name: &OsStr) -> Option<Self> {
        [Self::PeerInspector, Self::CommandRunner]
            .into_iter()
            .find(|kind| name == kind.name())
    }

    fn name(self) -> &'static str {
        match self {
            Self::PeerInspector => "peer-inspector",
            Self::CommandRunner => "command-runner",
        }
    }

    /// Token commands need PATH and more. Nothing in the environment matters to the peer inspector.
    fn inherits_environment(self) -> bool {
        self == Self::CommandRunner
    }

    /// Serves requests from this socket until the daemon has exited.
    pub fn run_worker(self, socket: impl AsFd) {
        let Ok(socket) = socket.as_fd().try_clone_to_owned() else {
            return;
        };

        match self {
            Self::PeerInspector => {
                super::confine_peer_inspector();
                SHARED_SIGNALS.into_iter().for_each(signals::ignore);
                peer_inspector::run_worker(&socket);
            }
            Self::CommandRunner => {
                for signal in SHARED_SIGNALS {
                    signals::ignore_but_not_inherit(signal);
                }
                command_runner::run_worker(&socket);
            }
        }
    }
}
