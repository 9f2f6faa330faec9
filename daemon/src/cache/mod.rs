//! Profiles and their sessions. Reading a session takes no lock that a refresh can hold.

pub mod flight;
pub mod state;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::clock::{AtomicBoot, Boot, Now, millis};
use crate::config::{Place, Profile};
use crate::lock;
use crate::refresh::{Failing, Health};
use crate::upstream::gate::Gate;
use flight::Flight;
use state::{Session, State};

/// The slots of all configured profiles, in order of name.
#[derive(Debug)]
pub struct Cache(Vec<Arc<Slot>>);

impl Cache {
    pub fn new(profiles: impl IntoIterator<Item = (Profile, Arc<Gate>)>) -> Self {
        let mut profiles: Vec<_> = profiles.into_iter().collect();
        profiles.sort_by(|(one, _), (two, _)| one.name.cmp(&two.name));
        let slots = profiles
            .into_iter()
            .zip(0..)
            .map(|((profile, gate), place)| Arc::new(Slot::new(Place::new(place), profile, gate)));
        Self(slots.collect())
    }

    pub fn find(&self, name: &str) -> Option<&Arc<Slot>> {
        let place = self.0.binary_search_by(|slot| slot.profile.name.as_str().cmp(name)).ok()?;
        self.0.get(place)
    }

    pub fn slots(&self) -> &[Arc<Slot>] {
        &self.0
    }

    /// The slots behind `after`, in order of name.
    pub fn slots_after(&self, after: Option<&str>) -> &[Arc<Slot>] {
        let first = after.map_or(0, |after| self.0.partition_point(|slot| slot.profile.name.as_str() <= after));
        self.0.get(first..).unwrap_or_default()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|slot| slot.profile.name.as_str())
    }
}

/// How a flight ended: with a new session in the cache, or with a failure.
pub(crate) type Fetched = Result<(), Failing>;

/// A profile and what the daemon holds for it.
#[derive(Debug)]
pub struct Slot {
    pub place: Place,
    pub profile: Profile,
    pub gate: Arc<Gate>,
    session: ArcSwapOption<Session>,
    /// The fetch under way, if any.
    pub(crate) flight: Flight<Fetched>,
    /// How the last fetches went: it decides when the next may be made.
    health: Mutex<Health>,
    /// The time for which it stands in the timetable, which alone writes it.
    pub(crate) planned: AtomicBoot,
    /// Until when somebody may still ask, in milliseconds of [`Now::awake`].
    used_until: AtomicU64,
}

impl Slot {
    fn new(place: Place, profile: Profile, gate: Arc<Gate>) -> Self {
        Self {
            place,
            profile,
            gate,
            session: ArcSwapOption::empty(),
            flight: Flight::default(),
            health: Mutex::default(),
            planned: AtomicBoot::default(),
            used_until: AtomicU64::new(0),
        }
    }

    pub fn lookup(&self, now: Boot) -> State {
        State::of(self.session.load_full(), now, self.gate.upstream.server_clock())
    }

    /// The session whatever its state, for those who report on it.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.session.load_full()
    }

    /// Puts a session in the place of the one before.
    pub(crate) fn publish(&self, session: Session) {
        self.session.store(Some(Arc::new(session)));
    }

    /// The session is of no use any more; nor is what failed, if nobody waits for it to be mended.
    pub(crate) fn forget(&self, now: &Now) {
        self.session.store(None);
        if self.use_left(now).is_zero() {
            self.health(Health::succeeded);
        }
    }

    /// Whether a new session is to be fetched without anybody asking: it is in use, and its last failure, if any, is none
    /// that a person has to mend.
    pub fn is_wanted(&self, now: &Now) -> bool {
        let needs_a_person = || self.health(|health| health.failing().is_some_and(|last| !last.error.may_pass()));
        !self.use_left(now).is_zero() && !needs_a_person()
    }

    pub(crate) fn health<T>(&self, act: impl FnOnce(&mut Health) -> T) -> T {
        act(&mut lock(&self.health))
    }

    /// It was asked for, or somebody holds a lease on it, and may ask again within `span`.
    pub(crate) fn used(&self, now: &Now, span: Duration) {
        self.used_until.fetch_max(millis(now.awake.saturating_add(span)), Ordering::Relaxed);
    }

    /// For how long it still counts as used.
    pub fn use_left(&self, now: &Now) -> Duration {
        Duration::from_millis(self.used_until.load(Ordering::Relaxed)).saturating_sub(now.awake)
    }
}
