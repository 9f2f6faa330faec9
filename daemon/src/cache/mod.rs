//! Profiles and their sessions. Reading a session takes no lock that a refresh can hold.

pub mod flight;
pub mod standing;
pub mod state;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rolekeeper::protocol::Ending;

use crate::clock::{Boot, Now, millis};
use crate::config::{Place, Profile};
use crate::refresh::{Failing, GRACE, Health};
use crate::sync::lock;
use crate::timetable::{Item, Plan};
use crate::upstream::gate::Gate;
use flight::Flight;
use standing::Standing;
use state::{Earlier, Session, State};

/// The slots of all configured profiles, in order of name. (A vector would keep the room of the profiles that it is made from.)
#[derive(Debug)]
pub struct Cache(Box<[Arc<Slot>]>);

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
        let place = self
            .0
            .binary_search_by(|slot| slot.profile.name.as_str().cmp(name))
            .ok()?;
        self.0.get(place)
    }

    pub fn at(&self, place: Place) -> Option<&Arc<Slot>> {
        self.0.get(place.index())
    }

    pub fn slots(&self) -> &[Arc<Slot>] {
        &self.0
    }

    /// The slots behind `after`, in order of name.
    pub fn slots_after(&self, after: Option<&str>) -> &[Arc<Slot>] {
        let first = after.map_or(0, |after| {
            self.0
                .partition_point(|slot| slot.profile.name.as_str() <= after)
        });
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
    /// Its session, or why there is none.
    pub(crate) standing: Standing<Session, Earlier, Ending>,
    /// The fetch under way, if any.
    pub(crate) flight: Flight<Fetched>,
    /// How the last fetches went: it decides when the next may be made.
    health: Mutex<Health>,
    pub(crate) plan: Plan,
    /// Until when somebody may still ask, in milliseconds of [`Now::awake`].
    used_until: AtomicU64,
}

impl Slot {
    fn new(place: Place, profile: Profile, gate: Arc<Gate>) -> Self {
        Self {
            place,
            profile,
            gate,
            standing: Standing::default(),
            flight: Flight::default(),
            health: Mutex::default(),
            plan: Plan::new(Item::Profile(place)),
            used_until: AtomicU64::new(0),
        }
    }

    pub fn lookup(&self, now: Boot) -> State {
        State::of(self.session(), now, self.gate.upstream.server_clock())
    }

    /// The session whatever its state, for those who report on it.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.standing.session()
    }

    /// Whether there is a session of which the upstream may be asked what has become of it.
    pub(crate) fn has_any(&self) -> bool {
        self.session().is_some() || !self.standing.earlier().is_empty()
    }

    /// Whose session of which role it has: it is this profile's for as long as this stays the same. No secret is in it.
    pub(crate) fn identity(&self) -> String {
        let role = &self.profile.role;
        format!(
            "{} {} {}",
            self.gate.upstream.identity(),
            role.role_id.as_str(),
            role.duration.as_secs()
        )
    }

    /// What a hold is about: it stays while the token is moved, or the duration changed.
    pub(crate) fn role_there(&self) -> String {
        format!(
            "{} {}",
            self.gate.upstream.place(),
            self.profile.role.role_id.as_str()
        )
    }

    /// The session is of no use any more; nor is what failed, if nobody waits for it to be mended.
    pub(crate) fn forget(&self, now: &Now) {
        if let Some(session) = self
            .session()
            .filter(|_| matches!(self.lookup(now.boot), State::Expired))
        {
            self.standing.drop_old(&session);
        }
        if self.use_left(now).is_zero() {
            self.health(Health::succeeded);
        }
    }

    /// Whether a new session is to be fetched without anybody asking: it is in use, and its last failure, if any, is none
    /// that a person has to mend.
    pub fn is_wanted(&self, now: &Now) -> bool {
        let needs_a_person =
            || self.health(|health| health.failing().is_some_and(|last| !last.error.may_pass()));
        !self.use_left(now).is_zero() && !needs_a_person()
    }

    pub(crate) fn health<T>(&self, act: impl FnOnce(&mut Health) -> T) -> T {
        act(&mut lock(&self.health))
    }

    /// It was asked for, or somebody holds a lease on it, and may ask again within `span`.
    pub(crate) fn used(&self, now: &Now, span: Duration) {
        self.used_until
            .fetch_max(millis(now.awake.saturating_add(span)), Ordering::Relaxed);
    }

    /// Nobody is expected to ask again.
    pub(crate) fn unused(&self) {
        self.used_until.store(0, Ordering::Relaxed);
    }

    /// Somebody may still hold a lease that has not ended.
    pub fn is_leased(&self, now: &Now) -> bool {
        self.use_left(now) > GRACE
    }

    /// For how long it still counts as used.
    pub fn use_left(&self, now: &Now) -> Duration {
        Duration::from_millis(self.used_until.load(Ordering::Relaxed)).saturating_sub(now.awake)
    }
}
