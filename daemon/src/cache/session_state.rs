//! What a profile stands on: its session, those before it that somebody may still use, the generation under which a new
//! one may be published, and why none may be. They change together under one lock, which is held for moments only; reading
//! the session takes no lock.
//!
//! It knows nothing of what a session or a hold is, and takes its cells from `crate::sync`: the same source is searched
//! for bad interleavings (`tests/interleavings`).

use crate::sync::{Arc, Mutex, Swap, lock};

/// Raised by each revocation: what was begun under an older one is thrown away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u32);

#[derive(Debug)]
pub struct SessionState<S, E, H> {
    session: Swap<S>,
    rest: Mutex<Rest<E, H>>,
}

#[derive(Debug)]
struct Rest<E, H> {
    generation: u32,
    earlier: Vec<Arc<E>>,
    hold: Option<Arc<H>>,
}

/// Everything at one moment.
#[derive(Debug)]
pub struct SlotSnapshot<S, H> {
    pub generation: Generation,
    pub session: Option<Arc<S>>,
    pub hold: Option<Arc<H>>,
}

impl Generation {
    pub fn number(self) -> u64 {
        self.0.into()
    }
}

impl<S, E, H> Default for SessionState<S, E, H> {
    fn default() -> Self {
        let rest = Rest {
            generation: 0,
            earlier: Vec::new(),
            hold: None,
        };
        Self {
            session: Swap::default(),
            rest: Mutex::new(rest),
        }
    }
}

impl<S, E, H> SessionState<S, E, H> {
    pub fn session(&self) -> Option<Arc<S>> {
        self.session.load_full()
    }

    pub fn hold(&self) -> Option<Arc<H>> {
        lock(&self.rest).hold.clone()
    }

    /// The sessions before this one that somebody may still use.
    pub fn earlier(&self) -> Vec<Arc<E>> {
        lock(&self.rest).earlier.clone()
    }

    /// Goes on where another process of the daemon has stopped.
    pub fn go_on(&self, generation: u64, earlier: Vec<Arc<E>>) {
        let mut rest = lock(&self.rest);
        rest.generation = rest
            .generation
            .max(u32::try_from(generation).unwrap_or(u32::MAX));
        rest.earlier = earlier;
    }

    pub fn view(&self) -> SlotSnapshot<S, H> {
        let rest = lock(&self.rest);
        SlotSnapshot {
            generation: Generation(rest.generation),
            session: self.session.load_full(),
            hold: rest.hold.clone(),
        }
    }

    /// A fetch begins: what it brings counts under this generation only. While there is a hold, none may begin.
    pub fn begin(&self) -> Result<Generation, Arc<H>> {
        let rest = lock(&self.rest);
        rest.hold
            .as_ref()
            .map_or(Ok(Generation(rest.generation)), |hold| {
                Err(Arc::clone(hold))
            })
    }

    /// Puts a session in the place of the one before, unless there was a revocation since its fetch began. `replaced` is
    /// told of the one before, to keep what is to be kept of it among the earlier ones.
    #[must_use]
    pub fn publish(
        &self,
        session: Arc<S>,
        begun: Generation,
        replaced: impl FnOnce(&mut Vec<Arc<E>>, Option<&S>),
    ) -> bool {
        let mut rest = lock(&self.rest);
        let counts = rest.generation == begun.0 && rest.hold.is_none();
        if counts {
            replaced(&mut rest.earlier, self.session.load_full().as_deref());
            self.session.store(Some(session));
        }
        counts
    }

    /// Ends the session, whatever fetches are under way, and holds what is to come. Nothing happens if neither the session
    /// nor an earlier one is meant. Of what ends, too, `ended` says what is kept.
    pub fn end(
        &self,
        is_meant: impl FnOnce(&[Arc<E>], Option<&S>) -> bool,
        hold: Option<H>,
        ended: impl FnOnce(&mut Vec<Arc<E>>, Option<&S>),
    ) -> Option<SlotSnapshot<S, H>> {
        let mut rest = lock(&self.rest);
        let session = self.session.load_full();
        if !is_meant(&rest.earlier, session.as_deref()) {
            return None;
        }
        rest.generation = rest.generation.saturating_add(1);
        ended(&mut rest.earlier, session.as_deref());
        if let Some(hold) = hold {
            rest.hold = Some(Arc::new(hold));
        }
        self.session.store(None);
        Some(SlotSnapshot {
            generation: Generation(rest.generation),
            session,
            hold: rest.hold.clone(),
        })
    }

    /// Drops a session that is of no use any more. A newer one stays.
    pub fn drop_old(&self, old: &Arc<S>) {
        let _rest = lock(&self.rest);
        if self
            .session
            .load_full()
            .is_some_and(|session| Arc::ptr_eq(&session, old))
        {
            self.session.store(None);
        }
    }

    /// Puts a hold in the place of the one before: more is known now. None is set where there is none.
    pub fn amend(&self, is_meant: impl FnOnce(&H) -> bool, hold: H) -> bool {
        let mut rest = lock(&self.rest);
        let may = rest.hold.as_deref().is_some_and(is_meant);
        if may {
            rest.hold = Some(Arc::new(hold));
        }
        may
    }

    /// Ends the hold, and returns it.
    pub fn resume(&self) -> Option<Arc<H>> {
        lock(&self.rest).hold.take()
    }
}
