//! A profile's session, the superseded sessions that consumers may still use, the generation under which a new session
//! may be installed, and the hold that forbids it. They change together under one lock, which is held for moments only.
//! Reading the session takes no lock.
//!
//! The cells come from `crate::sync`, so that `tests/interleavings` can search this source for bad interleavings.

use super::session::{Session, SupersededSession};
use crate::clock::BootTime;
use crate::model::SessionEnded;
use crate::sync::{Arc, Mutex, Swap, lock};

/// Incremented by each revocation. A fetch that started under an older one is discarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u32);

#[derive(Debug, Default)]
pub(crate) struct SessionState {
    session: Swap<Session>,
    rest: Mutex<Rest>,
}

#[derive(Debug, Default)]
struct Rest {
    generation: Generation,
    superseded: Vec<Arc<SupersededSession>>,
    hold: Option<Arc<SessionEnded>>,
}

/// Everything at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) generation: Generation,
    pub(crate) session: Option<Arc<Session>>,
    /// Why the profile is held, if it is.
    pub(crate) hold: Option<Arc<SessionEnded>>,
}

/// The sessions of a profile that a revocation is about. All sessions of a profile end with any of them, because the
/// person who revoked an older one means the newer ones, too.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SessionSelector<'a> {
    Any,
    /// One of these. If the profile has none of them any more, nothing ends.
    Ids(&'a [Box<str>]),
}

/// What happens to a profile whose session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// No new session until a person resumes it.
    Hold,
    /// A new session at once. The superseded sessions that were not revoked stay monitored.
    Reassume,
    /// A new session when a consumer asks.
    Drop,
}

/// What [`SessionState::end`] ended.
#[derive(Debug)]
pub struct EndedSessions {
    /// The session that was served until then.
    pub(crate) current: Option<Arc<Session>>,
    /// The superseded sessions that are not monitored any more.
    pub(crate) superseded: Vec<Arc<SupersededSession>>,
}

impl Generation {
    pub(crate) fn number(self) -> u64 {
        self.0.into()
    }

    fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl SessionSelector<'_> {
    fn contains(self, id: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Ids(ids) => ids.iter().any(|each| **each == *id),
        }
    }

    fn matches(self, session: Option<&Session>, superseded: &[Arc<SupersededSession>]) -> bool {
        matches!(self, Self::Any)
            || session.is_some_and(|session| self.contains(session.id()))
            || superseded
                .iter()
                .any(|session| self.contains(&session.session_id))
    }
}

impl SessionState {
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        self.session.load_full()
    }

    /// Why the profile is held, if it is.
    pub(crate) fn hold(&self) -> Option<Arc<SessionEnded>> {
        lock(&self.rest).hold.clone()
    }

    /// The sessions before this one that a consumer may still use.
    pub(crate) fn superseded(&self) -> Vec<Arc<SupersededSession>> {
        lock(&self.rest).superseded.clone()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let rest = lock(&self.rest);

        Snapshot {
            generation: rest.generation,
            session: self.session.load_full(),
            hold: rest.hold.clone(),
        }
    }

    /// Continues from the state of an earlier process.
    pub(crate) fn restore(&self, generation: u64, superseded: Vec<Arc<SupersededSession>>) {
        let generation = Generation(u32::try_from(generation).unwrap_or(u32::MAX));
        let mut rest = lock(&self.rest);

        rest.generation = rest.generation.max(generation);
        rest.superseded = superseded;
    }

    /// Returns the generation under which the fetched session can be installed, or why the profile is held.
    pub(crate) fn start_fetch(&self) -> Result<Generation, Arc<SessionEnded>> {
        let rest = lock(&self.rest);

        match &rest.hold {
            Some(hold) => Err(Arc::clone(hold)),
            None => Ok(rest.generation),
        }
    }

    /// Installs a session that was fetched under `fetched_under`, unless there was a revocation since. Returns whether
    /// it was installed. The session before it becomes a superseded one.
    #[must_use]
    pub(crate) fn install(
        &self,
        session: Arc<Session>,
        fetched_under: Generation,
        now: BootTime,
    ) -> bool {
        let mut rest = lock(&self.rest);

        if rest.generation != fetched_under || rest.hold.is_some() {
            return false;
        }

        if let Some(replaced) = self.session.load_full() {
            SupersededSession::append(&mut rest.superseded, &replaced, now);
        }

        self.session.store(Some(session));

        true
    }

    /// Ends the sessions and invalidates the fetches under way. Returns nothing if the selector matches no session.
    pub(crate) fn end(
        &self,
        selector: SessionSelector<'_>,
        ended: &Arc<SessionEnded>,
        reaction: Reaction,
        now: BootTime,
    ) -> Option<EndedSessions> {
        let mut rest = lock(&self.rest);
        let current = self.session.load_full();

        if !selector.matches(current.as_deref(), &rest.superseded) {
            return None;
        }

        rest.generation = rest.generation.next();
        self.session.store(None);

        let superseded = if reaction == Reaction::Reassume {
            if let Some(current) = &current {
                SupersededSession::append(&mut rest.superseded, current, now);
            }
            rest.superseded
                .retain(|session| !selector.contains(&session.session_id));
            Vec::new()
        } else {
            std::mem::take(&mut rest.superseded)
        };

        if reaction == Reaction::Hold {
            rest.hold = Some(Arc::clone(ended));
        }

        Some(EndedSessions {
            current,
            superseded,
        })
    }

    /// Drops this session if it is still the current one.
    pub(crate) fn drop_session(&self, old: &Arc<Session>) {
        let _rest = lock(&self.rest);
        let current = self.session.load_full();

        if current.is_some_and(|current| Arc::ptr_eq(&current, old)) {
            self.session.store(None);
        }
    }

    /// Replaces the reason of the hold `known` by one that says more. Returns false if the profile is not held for it.
    pub(crate) fn update_hold(
        &self,
        known: &Arc<SessionEnded>,
        enriched: &Arc<SessionEnded>,
    ) -> bool {
        let mut rest = lock(&self.rest);
        let is_same = rest
            .hold
            .as_ref()
            .is_some_and(|hold| Arc::ptr_eq(hold, known));

        if is_same {
            rest.hold = Some(Arc::clone(enriched));
        }

        is_same
    }

    /// Removes the hold and returns it.
    pub(crate) fn resume(&self) -> Option<Arc<SessionEnded>> {
        lock(&self.rest).hold.take()
    }
}
