//! Credentials of a supervised command: requests them, waits where that may help, and follows their revocation. The
//! subscription uses the connection of the request, so that no revocation is missed in between.

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, ProfileUpdate};

use super::super::{Arguments, OnRevoke};
use super::{Event, Loss, Stderr};
use crate::autostart;
use crate::command::environment;
use crate::command::watch::{self, Subscription};

/// The interval between two requests for a restart, which doubles up to a maximum.
const MIN_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) struct CredentialSupply {
    pub(super) socket: PathBuf,
    pub(super) arguments: Arguments,
    pub(super) on_revoke: OnRevoke,
    pub(super) stderr: Stderr,
    pub(super) sender: Sender<Event>,
}

/// A command with credentials, and the subscription to their revocation.
struct Granted {
    command: Command,
    state: CredentialState,
    subscription: Subscription,
}

impl CredentialSupply {
    /// Sends an event for the credentials, and then for their loss.
    pub(super) fn start(&self, has_started: bool) {
        let supply = self.clone();
        thread::spawn(move || match supply.wait_for_credentials(has_started) {
            Ok(granted) => supply.follow(granted),
            Err(failure) => drop(supply.sender.send(Event::Refused(failure))),
        });
    }

    fn follow(&self, granted: Granted) {
        let Granted {
            command,
            mut state,
            mut subscription,
        } = granted;

        let mut endpoint = environment::endpoint_of(&command);
        let event = Event::Granted(Box::new(command));
        let mut continues = self.sender.send(event).is_ok();
        while continues {
            let (now, is_first) = subscription.next(|text| self.stderr.print(text));
            let loss = if state.is_revoked(&now, is_first) {
                Loss::of_revocation(&now)
            } else if is_first && let Some(address) = self.other_endpoint(endpoint.as_deref()) {
                let loss = Loss::of_endpoint(&now.profile, endpoint.as_deref(), &address);
                endpoint = Some(address);
                loss
            } else {
                continue;
            };

            // After the first loss the command exits, except with `warn`.
            let event = Event::Lost(Box::new(loss));
            continues = self.sender.send(event).is_ok() && self.on_revoke == OnRevoke::Warn;
        }
    }

    /// The endpoint of the daemon that runs now, if the command uses another one. A daemon that starts while another program
    /// has the port gets a new one.
    fn other_endpoint(&self, used: Option<&str>) -> Option<String> {
        let used = used?;
        let Arguments { profile, mode, .. } = &self.arguments;
        let mut stream = connect::open(&self.socket).ok()??;
        let now = environment::endpoint_now(&mut stream, profile, *mode)?;

        (now != used).then_some(now)
    }

    /// Requests credentials. With `restart`, waits while the profile is held and, once the command has run, after errors that
    /// may clear.
    fn wait_for_credentials(&self, has_started: bool) -> Result<Granted, Failure> {
        // Later a missing daemon was stopped by the user.
        let mut starts_daemon = !has_started;
        let mut pause = MIN_PAUSE;
        let mut reported = Vec::new();

        loop {
            let failure = match self.ask(starts_daemon) {
                Ok(granted) => return Ok(granted),
                Err(failure) => failure,
            };
            let is_held = failure.code == Code::Held;
            if self.on_revoke != OnRevoke::Restart
                || !(is_held || (has_started && may_clear(failure.code)))
            {
                return Err(failure);
            }
            if !reported.contains(&failure.code) {
                self.stderr.print(&format!(
                    "rolekeeper: {failure}; waiting to start the command"
                ));
                reported.push(failure.code);
            }
            if is_held {
                self.wait_for_resume();
            } else {
                thread::sleep(pause);
                pause = (pause * 2).min(MAX_PAUSE);
            }
            starts_daemon = false;
        }
    }

    fn ask(&self, starts_daemon: bool) -> Result<Granted, Failure> {
        let open = || {
            if starts_daemon {
                autostart::open(&self.socket)
            } else {
                connect::open(&self.socket)?.ok_or_else(|| autostart::no_daemon(&self.socket))
            }
        };

        loop {
            let (answer, stream) = autostart::ask_and_keep(open, |stream| {
                let (command, generation) = self.arguments.prepare(stream)?;
                let now = watch::subscribe(stream, &self.arguments.profile)?;
                Ok((command, generation, now))
            })?;
            let (command, generation, now) = answer;

            let mut state = CredentialState {
                generation: generation.unwrap_or(now.generation),
                is_held: false,
            };
            // Otherwise they were revoked between the two replies.
            if !state.is_revoked(&now, true) {
                let subscription =
                    Subscription::new(self.socket.clone(), &self.arguments.profile, Some(stream));
                return Ok(Granted {
                    command,
                    state,
                    subscription,
                });
            }
        }
    }

    fn wait_for_resume(&self) {
        let profile = &self.arguments.profile;
        let mut subscription = Subscription::new(self.socket.clone(), profile, None);
        loop {
            let (update, _) = subscription.next(|text| self.stderr.print(text));
            if update.held.is_none() {
                return;
            }
        }
    }
}

/// Whether an error may clear without a change of the configuration or the command line.
fn may_clear(code: Code) -> bool {
    match code {
        Code::Held
        | Code::LoginNeeded
        | Code::MfaNeeded
        | Code::UpstreamUnavailable
        | Code::ViewStale
        | Code::RoleGone
        | Code::TrustDenied
        | Code::AccountDisabled
        | Code::Busy
        | Code::NoDaemon
        | Code::ShuttingDown => true,
        Code::BadRequest
        | Code::FrameTooLarge
        | Code::UnsupportedVersion
        | Code::UnknownProfile
        | Code::UnknownUpstream
        | Code::UnknownMethod
        | Code::NotAllowed
        | Code::UpstreamRefused
        | Code::Usage
        | Code::Configuration
        | Code::CommandNotFound
        | Code::CommandNotRun
        | Code::Unexpected => false,
    }
}

/// The last known state of the command's credentials.
struct CredentialState {
    /// A higher generation of the profile means that they are revoked.
    generation: u64,
    is_held: bool,
}

impl CredentialState {
    /// Whether an update means that they are revoked. `is_first`: it is the first of a connection. Generations survive a
    /// reload. After a crash the daemon restarts them, and knows only which profiles are held.
    fn is_revoked(&mut self, now: &ProfileUpdate, is_first: bool) -> bool {
        let is_held = now.held.is_some();
        let is_revoked = now.generation > self.generation || (is_first && is_held && !self.is_held);
        *self = Self {
            generation: now.generation,
            is_held,
        };
        is_revoked
    }
}

#[cfg(test)]
mod tests {
    use rolekeeper::protocol::{EndCause, SessionEnded};

    use super::*;

    fn update(generation: u64, is_held: bool) -> ProfileUpdate {
        let ending = SessionEnded {
            cause: EndCause::LoggedOut,
            session_id: None,
            by: None,
            at: None,
            reason: None,
            noticed_at: "2026-01-01T00:00:00Z".into(),
        };
        let held = is_held.then_some(ending);
        ProfileUpdate {
            profile: "dev".into(),
            generation,
            session: None,
            held,
            ended: None,
        }
    }

    /// Which of these updates (generation, is held, is first) revoke credentials of generation 3.
    fn revoked(updates: &[(u64, bool, bool)]) -> Vec<bool> {
        let mut state = CredentialState {
            generation: 3,
            is_held: false,
        };
        updates
            .iter()
            .map(|&(generation, held, first)| state.is_revoked(&update(generation, held), first))
            .collect()
    }

    #[test]
    fn higher_generation_is_one_revocation() {
        assert_eq!(
            revoked(&[(3, false, true), (3, false, false), (4, false, false)]),
            [false, false, true]
        );
        let details_and_resumed = [
            (4, true, false),
            (4, true, false),
            (4, false, false),
            (4, false, false),
        ];
        assert_eq!(revoked(&details_and_resumed), [true, false, false, false]);
        assert_eq!(
            revoked(&[(4, true, false), (4, false, false), (5, true, false)]),
            [true, false, true]
        );
    }

    #[test]
    fn generations_continue_after_a_reload() {
        assert_eq!(
            revoked(&[(3, false, true), (3, false, true), (4, false, true)]),
            [false, false, true]
        );
    }

    #[test]
    fn after_a_crash_only_a_hold_is_a_revocation() {
        assert_eq!(
            revoked(&[(0, false, true), (0, false, true), (1, true, false)]),
            [false, false, true]
        );
        assert_eq!(
            revoked(&[(0, true, true), (0, true, true)]),
            [true, false],
            "it is the same hold"
        );
        assert_eq!(revoked(&[(0, false, true), (0, true, true)]), [false, true]);
    }
}
