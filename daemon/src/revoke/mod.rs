//! The revocation path: raise the generation and drop the session, tell subscribers, note it, and only then do what takes
//! time. Everything that ends a session before its time comes through [`Broker::revoke`].

mod compare;
pub mod feed;
pub mod ledger;
mod logout;
pub mod notices;
mod sessions;
mod withdrawals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rolekeeper::protocol::{Cause, Ending};

use crate::broker::Broker;
use crate::cache::Slot;
use crate::cache::state::{Earlier, Session};
use crate::clock::Boot;
use crate::config::OnRevoke;
use crate::journal::shown;
use crate::upstream::gate::Gate;

pub use withdrawals::Withdrawals;

/// How long the names of those who revoked are waited for before the person is told.
const NAMING: Duration = Duration::from_secs(5);
/// When it is seen to that a profile whose role is to be assumed again has a session.
const AGAIN: Duration = Duration::from_secs(1);
/// The most replaced sessions of one profile that are looked at.
const EARLIER: usize = 16;

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
        Self {
            cause,
            by: None,
            at: None,
            reason: None,
        }
    }
}

/// Which sessions of a profile are over. All of them end with any of them: whoever revokes one that another has replaced
/// does not mean its heirs to go on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'a> {
    Whatever,
    /// These, and if there is none of them any more, none.
    These(&'a [Box<str>]),
}

impl Which<'_> {
    fn has(self, id: &str) -> bool {
        match self {
            Self::Whatever => true,
            Self::These(ids) => ids.iter().any(|each| **each == *id),
        }
    }

    fn is_met_by(self, earlier: &[Arc<Earlier>], session: Option<&Session>) -> bool {
        matches!(self, Self::Whatever)
            || session.is_some_and(|session| self.has(&session.granted.session_id))
            || earlier.iter().any(|earlier| self.has(&earlier.session_id))
    }
}

impl Broker {
    /// Ends a profile's sessions, of which no consumer gets credentials from here on, and stops whatever is being fetched
    /// for it from being served.
    pub(crate) fn revoke(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        which: Which<'_>,
        known: Known,
    ) -> Revoked {
        let ended_id = match which {
            Which::These(ids) => ids.first().cloned(),
            Which::Whatever => slot
                .session()
                .map(|session| session.granted.session_id.clone()),
        };
        let ending = self.ending(ended_id.as_deref(), known);
        let holds = holds(slot, ending.cause);
        let is_meant =
            |earlier: &[Arc<Earlier>], session: Option<&Session>| which.is_met_by(earlier, session);
        let mut replaced = Vec::new();
        let ended = |earlier: &mut Vec<Arc<Earlier>>, session: Option<&Session>| {
            if ending.cause == Cause::Revoked && !holds {
                // Those that nobody has revoked may be used on, and are looked at.
                keep_earlier(earlier, session, self.clock.now().boot);
                earlier.retain(|earlier| !which.has(&earlier.session_id));
            } else {
                replaced = std::mem::take(earlier);
            }
        };
        let Some(view) = slot
            .standing
            .end(is_meant, holds.then(|| ending.clone()), ended)
        else {
            return Revoked::default();
        };
        let ending = Arc::new(ending);
        self.watchers.tell(slot, Some(Arc::clone(&ending)));
        self.timetable.unset(&slot.plan);
        // Copies of the session are to be replaced.
        self.has_new.notify_one();
        if holds {
            self.ledger.note(slot);
        }
        if holds || view.session.is_some() {
            self.journal.ended(slot.profile.name.as_str(), &ending);
            tracing::warn!(profile = %slot.profile.name, session = ?ending.session_id, cause = ?ending.cause,
                by = ending.by, reason = ending.reason, holds, "the session is over");
        }
        match ending.cause {
            Cause::Revoked if !holds && slot.is_wanted(&self.clock.now()) => {
                self.refresh(slot);
                // A fetch that was under way brings nothing.
                self.timetable
                    .set_by(&slot.plan, self.clock.now().boot.plus(AGAIN));
            }
            Cause::Revoked | Cause::AccountDisabled => {}
            // Nobody is meant to use it soon.
            _ => slot.unused(),
        }
        Revoked {
            session: view.session,
            earlier: replaced,
            ending: Some(ending),
        }
    }

    /// More is known of an ending that is in force already.
    fn amend(&self, slot: &Slot, ending: &Ending) {
        let is_same =
            |hold: &Ending| hold.session_id == ending.session_id && hold.cause == ending.cause;
        if slot.standing.amend(is_same, ending.clone()) {
            self.ledger.note(slot);
            self.watchers.tell(slot, Some(Arc::new(ending.clone())));
        }
        self.journal.ended(slot.profile.name.as_str(), ending);
    }

    /// Tells the person at the machine of endings that are in force, with the names of those who did it, as far as the
    /// upstream tells them soon.
    pub(crate) fn explain_endings(
        self: &Arc<Self>,
        gate: &Arc<Gate>,
        endings: Vec<(Arc<Slot>, Arc<Ending>)>,
    ) {
        if endings.is_empty() {
            return;
        }
        let (broker, gate) = (Arc::clone(self), Arc::clone(gate));
        self.background().spawn(async move {
            let ids: BTreeSet<String> = endings
                .iter()
                .filter_map(|(_, ending)| ending.by.clone())
                .collect();
            let mut names = BTreeMap::new();
            let naming = async {
                for id in ids {
                    if let Some(name) = gate.upstream.name_of(&id).await {
                        names.insert(id, name);
                    }
                }
            };
            let _ = tokio::time::timeout(NAMING, naming).await;
            for (slot, ending) in endings {
                let named = ending.by.as_ref().and_then(|by| names.get(by)).cloned();
                let ending = match named {
                    None => ending,
                    by => {
                        let ending = Ending {
                            by,
                            ..Ending::clone(&ending)
                        };
                        broker.amend(&slot, &ending);
                        Arc::new(ending)
                    }
                };
                broker.notices.tell(
                    slot.profile.name.as_str(),
                    &ending,
                    holds(&slot, ending.cause),
                );
            }
        });
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

/// The session joins those that somebody may still use, of which only the newest count.
pub(crate) fn keep_earlier(earlier: &mut Vec<Arc<Earlier>>, session: Option<&Session>, now: Boot) {
    earlier.extend(session.map(|session| Arc::new(Earlier::of(session))));
    earlier.retain(|earlier| earlier.ends_at > now);
    let surplus = earlier.len().saturating_sub(EARLIER);
    earlier.drain(..surplus);
}

/// What [`Broker::revoke`] did.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    /// The session that was served until then.
    pub(crate) session: Option<Arc<Session>>,
    /// Those before it that are not looked at any more.
    pub(crate) earlier: Vec<Arc<Earlier>>,
    /// Absent if it did nothing.
    pub(crate) ending: Option<Arc<Ending>>,
}

/// Whether a person has to resume the profile. What somebody else revoked is not undone silently unless the configuration
/// says so, what the user logged out of never is; a disabled account is the upstream's to enable; and after a lock, a
/// sleep or a stop the user is back.
fn holds(slot: &Slot, cause: Cause) -> bool {
    match cause {
        Cause::Revoked => slot.profile.on_revoke == OnRevoke::Hold,
        Cause::LoggedOut => true,
        Cause::AccountDisabled | Cause::Locked | Cause::Slept | Cause::Stopped | Cause::Unknown => {
            false
        }
    }
}

#[cfg(test)]
mod tests;
