//! The revocation path: raise the generation and drop the session, tell subscribers, note it, and only then do what takes
//! time. Everything that ends a session before its time comes through [`Broker::revoke`].

mod commands;
pub mod notifications;
mod outbox;
pub mod poller;
mod reconcile;
mod sessions;
pub mod store;
pub mod subscriptions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rolekeeper::protocol::{EndCause, SessionEnded};

use crate::cache::CacheEntry;
use crate::cache::freshness::{Session, SupersededSession};
use crate::clock::BootTime;
use crate::config::OnRevoke;
use crate::credentials::Broker;
use crate::journal::shown;
use crate::upstream::handle::UpstreamHandle;

pub use outbox::RevocationOutbox;

/// How long the names of those who revoked are waited for before the person is told.
const NAMING: Duration = Duration::from_secs(5);
/// When it is seen to that a profile whose role is to be assumed again has a session.
const AGAIN: Duration = Duration::from_secs(1);
/// The most replaced sessions of one profile that are looked at.
const EARLIER: usize = 16;

/// What is known of an ending when it is noticed.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) cause: EndCause,
    pub(crate) by: Option<String>,
    pub(crate) at: Option<Timestamp>,
    pub(crate) reason: Option<String>,
}

impl Known {
    pub(crate) fn only(cause: EndCause) -> Self {
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

    fn is_met_by(self, earlier: &[Arc<SupersededSession>], session: Option<&Session>) -> bool {
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
        entry: &Arc<CacheEntry>,
        which: Which<'_>,
        known: Known,
    ) -> Revoked {
        let ended_id = match which {
            Which::These(ids) => ids.first().cloned(),
            Which::Whatever => entry
                .session()
                .map(|session| session.granted.session_id.clone()),
        };
        let ending = self.ending(ended_id.as_deref(), known);
        let holds = holds(entry, ending.cause);
        let is_meant = |earlier: &[Arc<SupersededSession>], session: Option<&Session>| {
            which.is_met_by(earlier, session)
        };
        let mut replaced = Vec::new();
        let ended = |earlier: &mut Vec<Arc<SupersededSession>>, session: Option<&Session>| {
            if ending.cause == EndCause::Revoked && !holds {
                // Those that nobody has revoked may be used on, and are looked at.
                keep_earlier(earlier, session, self.clock.now().boot);
                earlier.retain(|earlier| !which.has(&earlier.session_id));
            } else {
                replaced = std::mem::take(earlier);
            }
        };
        let Some(view) = entry
            .state
            .end(is_meant, holds.then(|| ending.clone()), ended)
        else {
            return Revoked::default();
        };
        let ending = Arc::new(ending);
        self.subscriptions.tell(entry, Some(Arc::clone(&ending)));
        self.timer_queue.unset(&entry.plan);
        // Copies of the session are to be replaced.
        self.has_new.notify_one();
        if holds {
            self.revocations.note(entry);
        }
        if holds || view.session.is_some() {
            self.journal.ended(entry.profile.name.as_str(), &ending);
            tracing::warn!(profile = %entry.profile.name, session = ?ending.session_id, cause = ?ending.cause,
                by = ending.by, reason = ending.reason, holds, "the session is over");
        }
        match ending.cause {
            EndCause::Revoked if !holds && entry.is_wanted(&self.clock.now()) => {
                self.refresh(entry);
                // A fetch that was under way brings nothing.
                self.timer_queue
                    .set_by(&entry.plan, self.clock.now().boot.plus(AGAIN));
            }
            EndCause::Revoked | EndCause::AccountDisabled => {}
            // Nobody is meant to use it soon.
            _ => entry.unused(),
        }
        Revoked {
            session: view.session,
            earlier: replaced,
            ending: Some(ending),
        }
    }

    /// More is known of an ending that is in force already.
    fn amend(&self, entry: &CacheEntry, ending: &SessionEnded) {
        let is_same = |hold: &SessionEnded| {
            hold.session_id == ending.session_id && hold.cause == ending.cause
        };
        if entry.state.amend(is_same, ending.clone()) {
            self.revocations.note(entry);
            self.subscriptions
                .tell(entry, Some(Arc::new(ending.clone())));
        }
        self.journal.ended(entry.profile.name.as_str(), ending);
    }

    /// Tells the person at the machine of endings that are in force, with the names of those who did it, as far as the
    /// upstream tells them soon.
    pub(crate) fn explain_endings(
        self: &Arc<Self>,
        upstream: &Arc<UpstreamHandle>,
        endings: Vec<(Arc<CacheEntry>, Arc<SessionEnded>)>,
    ) {
        if endings.is_empty() {
            return;
        }
        let (broker, upstream) = (Arc::clone(self), Arc::clone(upstream));
        self.background().spawn(async move {
            let ids: BTreeSet<String> = endings
                .iter()
                .filter_map(|(_, ending)| ending.by.clone())
                .collect();
            let mut names = BTreeMap::new();
            let naming = async {
                for id in ids {
                    if let Some(name) = upstream.client.name_of(&id).await {
                        names.insert(id, name);
                    }
                }
            };
            let _ = tokio::time::timeout(NAMING, naming).await;
            for (entry, ending) in endings {
                let named = ending.by.as_ref().and_then(|by| names.get(by)).cloned();
                let ending = match named {
                    None => ending,
                    by => {
                        let ending = SessionEnded {
                            by,
                            ..SessionEnded::clone(&ending)
                        };
                        broker.amend(&entry, &ending);
                        Arc::new(ending)
                    }
                };
                broker.notifications.tell(
                    entry.profile.name.as_str(),
                    &ending,
                    holds(&entry, ending.cause),
                );
            }
        });
    }

    fn ending(&self, session_id: Option<&str>, known: Known) -> SessionEnded {
        SessionEnded {
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
pub(crate) fn keep_earlier(
    earlier: &mut Vec<Arc<SupersededSession>>,
    session: Option<&Session>,
    now: BootTime,
) {
    earlier.extend(session.map(|session| Arc::new(SupersededSession::of(session))));
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
    pub(crate) earlier: Vec<Arc<SupersededSession>>,
    /// Absent if it did nothing.
    pub(crate) ending: Option<Arc<SessionEnded>>,
}

/// Whether a person has to resume the profile. What somebody else revoked is not undone silently unless the configuration
/// says so, what the user logged out of never is; a disabled account is the upstream's to enable; and after a lock, a
/// sleep or a stop the user is back.
fn holds(entry: &CacheEntry, cause: EndCause) -> bool {
    match cause {
        EndCause::Revoked => entry.profile.on_revoke == OnRevoke::Hold,
        EndCause::LoggedOut => true,
        EndCause::AccountDisabled
        | EndCause::Locked
        | EndCause::Slept
        | EndCause::Stopped
        | EndCause::Unknown => false,
    }
}

#[cfg(test)]
mod tests;
