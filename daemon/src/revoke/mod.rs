//! The revocation path: raise the generation and drop the session, tell subscribers, note it, and only then do what takes
//! time. Everything that ends a session before its time comes through [`Broker::revoke`].

pub mod feed;
pub mod ledger;
mod logout;
pub mod notices;
mod withdrawals;

use std::sync::Arc;

use jiff::Timestamp;
use rolekeeper::protocol::{Cause, Ending};

use crate::broker::Broker;
use crate::cache::Slot;
use crate::cache::state::Session;
use crate::config::OnRevoke;
use crate::journal::shown;

pub use withdrawals::Withdrawals;

/// What is known of an ending when it is noticed.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) cause: Cause,
    pub(crate) by: Option<String>,
    pub(crate) at: Option<Timestamp>,
    pub(crate) reason: Option<String>,
}

impl Known {
    pub(crate) fn only(cause: Cause) -> Self {
        Self { cause, by: None, at: None, reason: None }
    }
}

impl Broker {
    /// Ends a profile's session, of which no consumer gets credentials from here on, and stops whatever is being fetched
    /// for it from being served. Nothing happens if `session_id` is no longer its session; `None` means whatever there
    /// is. Returns the session that was ended.
    pub(crate) fn revoke(self: &Arc<Self>, slot: &Arc<Slot>, session_id: Option<&str>, known: Known) -> Revoked {
        let current = slot.session();
        let meant = session_id.map(Into::into).or_else(|| Some(current?.granted.session_id.clone()));
        let ending = self.ending(meant.as_deref(), known);
        let holds = holds(slot, ending.cause);
        let is_meant = |session: Option<&Session>| {
            session_id.is_none() || session_id == session.map(|session| &*session.granted.session_id)
        };
        let Some(view) = slot.standing.end(is_meant, holds.then(|| ending.clone())) else { return Revoked::default() };
        let ending = Arc::new(ending);
        self.watchers.tell(slot, Some(Arc::clone(&ending)));
        self.timetable.unset(&slot.plan);
        if holds {
            self.ledger.hold(slot, &ending);
        }
        self.journal.ended(slot.profile.name.as_str(), &ending);
        // Copies of the session are to be replaced.
        self.has_new.notify_one();
        tracing::warn!(profile = %slot.profile.name, session = ?ending.session_id, cause = ?ending.cause, by = ending.by,
            reason = ending.reason, holds, "the session is over");
        match ending.cause {
            Cause::Revoked => {
                self.notices.tell(slot.profile.name.as_str(), &ending, holds);
                if !holds && slot.is_wanted(&self.clock.now()) {
                    self.refresh(slot);
                }
            }
            Cause::AccountDisabled => self.notices.tell(slot.profile.name.as_str(), &ending, holds),
            // Nobody is meant to use it soon.
            _ => slot.unused(),
        }
        Revoked { session: view.session, happened: true }
    }

    /// More is known of an ending that is in force already.
    fn amend(&self, slot: &Slot, session_id: &str, known: Known) {
        let ending = self.ending(Some(session_id), known);
        let is_same = |hold: &Ending| hold.session_id.as_deref() == Some(session_id) && hold.cause == ending.cause;
        if slot.standing.amend(is_same, ending.clone()) {
            self.ledger.hold(slot, &ending);
            self.watchers.tell(slot, Some(Arc::new(ending.clone())));
        }
        self.journal.ended(slot.profile.name.as_str(), &ending);
    }

    fn ending(&self, session_id: Option<&str>, known: Known) -> Ending {
        Ending {
            cause: known.cause,
            session_id: session_id.map(Into::into),
            by: known.by,
            at: known.at.map(shown),
            reason: known.reason,
            noticed_at: shown(self.clock.now().wall),
        }
    }
}

/// What [`Broker::revoke`] did.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    pub(crate) happened: bool,
    pub(crate) session: Option<Arc<Session>>,
}

/// Whether a person has to resume the profile. What somebody else revoked is not undone silently unless the configuration
/// says so, what the user logged out of never is; a disabled account is the upstream's to enable; and after a lock, a
/// sleep or a stop the user is back.
fn holds(slot: &Slot, cause: Cause) -> bool {
    match cause {
        Cause::Revoked => slot.profile.on_revoke == OnRevoke::Hold,
        Cause::LoggedOut => true,
        Cause::AccountDisabled | Cause::Locked | Cause::Slept | Cause::Stopped | Cause::Unknown => false,
    }
}

#[cfg(test)]
mod tests;
