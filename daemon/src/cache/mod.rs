//! Profiles and their sessions. Reading a session takes no lock that a refresh can hold.

pub mod flight;
pub mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;

use crate::clock::Boot;
use crate::config::{Profile, ProfileName};
use crate::lock;
use crate::refresh::{Failing, Health};
use crate::upstream::Upstream;
use flight::Flight;
use state::{Session, State};

/// The slots of all configured profiles, in order of name.
#[derive(Debug)]
pub struct Cache(BTreeMap<ProfileName, Arc<Slot>>);

impl Cache {
    pub fn new(profiles: impl IntoIterator<Item = (Profile, Arc<dyn Upstream>)>) -> Self {
        let slots = profiles.into_iter().map(|(profile, upstream)| Slot::new(profile, upstream));
        Self(slots.map(|slot| (slot.profile.name.clone(), Arc::new(slot))).collect())
    }

    pub fn find(&self, name: &str) -> Option<&Arc<Slot>> {
        self.0.get(name)
    }

    /// The slots behind `after`, in order of name.
    pub fn slots_after<'a>(&'a self, after: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Slot>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, Excluded);
        self.0.range::<str, _>((start, Unbounded)).map(|(_, slot)| slot)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(ProfileName::as_str)
    }
}

/// What a flight brings back.
pub(crate) type Fetched = Result<Arc<Session>, Failing>;

/// A profile and what the daemon holds for it.
#[derive(Debug)]
pub struct Slot {
    pub profile: Profile,
    pub upstream: Arc<dyn Upstream>,
    session: ArcSwapOption<Session>,
    /// The fetch under way, if any.
    pub(crate) flight: Flight<Fetched>,
    /// How the last fetches went: it decides when the next may be made.
    health: Mutex<Health>,
}

impl Slot {
    fn new(profile: Profile, upstream: Arc<dyn Upstream>) -> Self {
        Self { profile, upstream, session: ArcSwapOption::empty(), flight: Flight::default(), health: Mutex::default() }
    }

    pub fn lookup(&self, now: Boot) -> State {
        State::of(self.session.load_full(), now)
    }

    /// The session whatever its state, for those who report on it.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.session.load_full()
    }

    pub(crate) fn publish(&self, session: Arc<Session>) {
        self.session.store(Some(session));
    }

    pub(crate) fn health<T>(&self, act: impl FnOnce(&mut Health) -> T) -> T {
        act(&mut lock(&self.health))
    }
}
