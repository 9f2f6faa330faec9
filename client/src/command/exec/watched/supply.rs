//! Credentials for a command that is watched over: they are asked for, waited for where that may help, and heard of from
//! then on. The daemon that gave them is the one whose word on them counts first, over the same connection: between the
//! two nothing can happen unheard.

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, ProfileUpdate};

use super::super::{OnRevoke, Plan};
use super::{Event, Voice};
use crate::autostart;
use crate::command::watch::{self, Following};

/// Between two requests of a command that is to be started again.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) struct Supply {
    pub(super) socket: PathBuf,
    pub(super) plan: Plan,
    pub(super) on_revoke: OnRevoke,
    pub(super) voice: Voice,
    pub(super) tell: Sender<Event>,
}

/// A command with credentials, and where their revocation would be heard.
struct Granted {
    command: Command,
    standing: Standing,
    following: Following,
}

impl Supply {
    /// Tells of credentials, and then of their revocation.
    pub(super) fn begin(&self, has_started: bool) {
        let supply = self.clone();
        thread::spawn(move || match supply.granted(has_started) {
            Ok(granted) => supply.hear(granted),
            Err(failure) => drop(supply.tell.send(Event::Refused(failure))),
        });
    }

    fn hear(
        &self,
        Granted {
            command,
            mut standing,
            mut following,
        }: Granted,
    ) {
        let mut goes_on = self.tell.send(Event::Granted(Box::new(command))).is_ok();
        while goes_on {
            let (now, is_first) = following.next(|text| self.voice.say(text));
            if standing.is_revoked(&now, is_first) {
                // Of a command that ends there is no more to hear.
                goes_on = self.tell.send(Event::Revoked(Box::new(now))).is_ok()
                    && self.on_revoke == OnRevoke::Warn;
            }
        }
    }

    /// A command that is to be started again waits for as long as waiting may help, one that never ran only for somebody who
    /// resumes the profile.
    fn granted(&self, has_started: bool) -> Result<Granted, Failure> {
        // A daemon that was there once and is not any more was stopped by somebody.
        let mut starts_daemon = !has_started;
        let mut pause = SHORTEST_PAUSE;
        let mut said = Vec::new();
        loop {
            let failure = match self.ask(starts_daemon) {
                Ok(granted) => return Ok(granted),
                Err(failure) => failure,
            };
            let is_held = failure.code == Code::Held;
            if self.on_revoke != OnRevoke::Restart
                || !(is_held || (has_started && may_pass(failure.code)))
            {
                return Err(failure);
            }
            if !said.contains(&failure.code) {
                self.voice.say(&format!(
                    "rolekeeper: {failure}; the command is started then"
                ));
                said.push(failure.code);
            }
            if is_held {
                self.until_resumed();
            } else {
                thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
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
            let ((command, generation, now), stream) = autostart::ask_and_keep(open, |stream| {
                let (command, generation) = self.plan.with_credentials(stream)?;
                Ok((
                    command,
                    generation,
                    watch::subscribe(stream, &self.plan.profile)?,
                ))
            })?;
            let mut standing = Standing {
                generation: generation.unwrap_or(now.generation),
                is_held: false,
            };
            // Otherwise they were revoked in this moment.
            if !standing.is_revoked(&now, true) {
                let following =
                    Following::new(self.socket.clone(), &self.plan.profile, Some(stream));
                return Ok(Granted {
                    command,
                    standing,
                    following,
                });
            }
        }
    }

    fn until_resumed(&self) {
        let mut following = Following::new(self.socket.clone(), &self.plan.profile, None);
        while following.next(|text| self.voice.say(text)).0.held.is_some() {}
    }
}

/// Whether a refusal may be over some time without anybody changing the configuration or the command line.
fn may_pass(code: Code) -> bool {
    match code {
        Code::Held
        | Code::LoginNeeded
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

/// What was last known of the credentials that a command runs with.
struct Standing {
    /// A later one means that they have been revoked.
    generation: u64,
    is_held: bool,
}

impl Standing {
    /// Whether they have been revoked since, by what is told now; `is_first` is a daemon's first word. Generations go on over
    /// a reload; a daemon that follows one which was killed begins them anew, and knows only what is held.
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

    fn word(generation: u64, is_held: bool) -> ProfileUpdate {
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

    /// Which of these words, (generation, is held, is a daemon's first), mean that credentials of generation 3 were revoked.
    fn revoked(words: &[(u64, bool, bool)]) -> Vec<bool> {
        let mut standing = Standing {
            generation: 3,
            is_held: false,
        };
        words
            .iter()
            .map(|&(generation, held, first)| standing.is_revoked(&word(generation, held), first))
            .collect()
    }

    #[test]
    fn a_later_generation_is_a_revocation_once() {
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
    fn a_daemon_after_a_reload_goes_on_counting() {
        assert_eq!(
            revoked(&[(3, false, true), (3, false, true), (4, false, true)]),
            [false, false, true]
        );
    }

    #[test]
    fn daemons_after_a_kill_count_anew_and_are_believed_on_what_is_held() {
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
