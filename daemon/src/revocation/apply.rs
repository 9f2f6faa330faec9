//! Puts a revocation in force, before any I/O.

use std::sync::Arc;

use super::RevocationService;
use super::outbox::PendingRevocation;
use super::subscriptions::SessionEvent;
use crate::cache::CacheEntry;
use crate::cache::session::{Session, SupersededSession};
use crate::cache::session_state::{EndedSessions, Reaction, SessionSelector};
use crate::config::OnRevoke;
use crate::model::{EndCause, SessionEnded};

/// A revocation that is in force.
#[derive(Debug)]
pub(crate) struct RevocationOutcome {
    pub(crate) ended: Arc<SessionEnded>,
    /// The session that was served until then.
    pub(crate) current: Option<Arc<Session>>,
    /// The superseded sessions that are not monitored any more.
    pub(crate) superseded: Vec<Arc<SupersededSession>>,
}

impl RevocationService {
    /// Ends a profile's sessions: no consumer gets their credentials from here on, and a fetch under way is discarded.
    /// Returns nothing if the profile has no such session.
    pub(crate) fn apply(
        &self,
        entry: &Arc<CacheEntry>,
        selector: SessionSelector<'_>,
        ended: SessionEnded,
    ) -> Option<RevocationOutcome> {
        let now = self.clock.now();
        let reaction = reaction(entry, ended.cause);
        let ended = Arc::new(SessionEnded {
            session_id: session_id(entry, selector),
            ..ended
        });

        let EndedSessions {
            current,
            superseded,
            ..
        } = entry.state.end(selector, &ended, reaction, now.boot)?;

        self.subscriptions
            .publish(entry, SessionEvent::Ended(Arc::clone(&ended)));

        if reaction == Reaction::Hold {
            self.store.update_hold(entry);
        }

        self.schedule_next_session(entry, reaction, ended.cause);

        if reaction == Reaction::Hold || current.is_some() {
            tracing::warn!(
                profile = %entry.profile.name, session = ?ended.session_id, cause = ?ended.cause,
                by = ended.by, reason = ended.reason, ?reaction, "session ended"
            );
        }

        Some(RevocationOutcome {
            ended,
            current,
            superseded,
        })
    }

    /// Continues a hold of an earlier daemon.
    pub(super) fn restore_hold(&self, entry: &Arc<CacheEntry>, ended: SessionEnded) {
        let now = self.clock.now().boot;
        entry
            .state
            .end(SessionSelector::Any, &Arc::new(ended), Reaction::Hold, now);
    }

    /// Requests at the upstream what was ended here.
    pub(super) fn revoke_at_upstream(
        &self,
        entry: &CacheEntry,
        outcome: &RevocationOutcome,
        reason: &str,
    ) {
        for (session_id, pending) in revocations_of(entry, outcome, reason) {
            self.outbox.add(session_id, pending);
        }
    }

    fn schedule_next_session(&self, entry: &CacheEntry, reaction: Reaction, cause: EndCause) {
        let now = self.clock.now();
        self.timers.unset(&entry.timer);

        if reaction == Reaction::Reassume && entry.is_wanted(&now) {
            self.timers.set_by(&entry.timer, now.boot);
        }

        // After a logout, a lock, a sleep or a stop, no consumer is expected to ask soon.
        if !matches!(cause, EndCause::Revoked | EndCause::AccountDisabled) {
            entry.mark_unused();
        }
    }
}

/// The revocation of each session that was ended.
fn revocations_of<'a>(
    entry: &'a CacheEntry,
    outcome: &'a RevocationOutcome,
    reason: &'a str,
) -> impl Iterator<Item = (&'a str, PendingRevocation)> {
    let current = outcome.current.iter().map(|session| &session.issued);
    let current = current.map(|issued| (&*issued.session_id, issued.expires_at));
    let superseded = outcome.superseded.iter();
    let superseded = superseded.map(|session| (&*session.session_id, session.expires_at));

    current
        .chain(superseded)
        .map(move |(session_id, expires_at)| {
            (
                session_id,
                PendingRevocation::new(entry, reason, expires_at),
            )
        })
}

/// The session that the event is about.
fn session_id(entry: &CacheEntry, selector: SessionSelector<'_>) -> Option<Box<str>> {
    match selector {
        SessionSelector::Ids(ids) => ids.first().cloned(),
        SessionSelector::Any => entry
            .session()
            .map(|session| session.issued.session_id.clone()),
    }
}

/// A revocation by another person is not undone silently unless the configuration says so, and a logout never is. A
/// disabled account is for the upstream to enable. After a lock, a sleep or a stop the user is back.
pub(super) fn reaction(entry: &CacheEntry, cause: EndCause) -> Reaction {
    match cause {
        EndCause::Revoked => match entry.profile.on_revoke {
            OnRevoke::Hold => Reaction::Hold,
            OnRevoke::Reassume => Reaction::Reassume,
        },
        EndCause::LoggedOut => Reaction::Hold,
        EndCause::AccountDisabled
        | EndCause::ScreenLocked
        | EndCause::MachineSlept
        | EndCause::DaemonStopped => Reaction::Drop,
    }
}
