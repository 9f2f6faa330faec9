//! Profiles and their sessions. Reading a session takes no lock that a refresh can hold.

pub mod freshness;
pub mod session_state;
pub mod single_flight;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rolekeeper::protocol::SessionEnded;

use crate::clock::timer_queue::{TimerKey, TimerSlot};
use crate::clock::{BootTime, Now, millis};
use crate::config::Profile;
use crate::model::ProfileId;
use crate::refresh::policy::{Backoff, BackoffState, GRACE};
use crate::sync::lock;
use crate::upstream::handle::UpstreamHandle;
use freshness::{Freshness, Session, SupersededSession};
use session_state::SessionState;
use single_flight::SingleFlight;

/// The entries of all configured profiles, in order of name. (A vector would keep the room of the profiles that it is made from.)
#[derive(Debug)]
pub struct Cache(Box<[Arc<CacheEntry>]>);

impl Cache {
    pub fn new(profiles: impl IntoIterator<Item = (Profile, Arc<UpstreamHandle>)>) -> Self {
        let mut profiles: Vec<_> = profiles.into_iter().collect();
        profiles.sort_by(|(one, _), (two, _)| one.name.cmp(&two.name));
        let entries = profiles
            .into_iter()
            .zip(0..)
            .map(|((profile, upstream), place)| {
                Arc::new(CacheEntry::new(ProfileId::new(place), profile, upstream))
            });
        Self(entries.collect())
    }

    pub fn find(&self, name: &str) -> Option<&Arc<CacheEntry>> {
        let place = self
            .0
            .binary_search_by(|entry| entry.profile.name.as_str().cmp(name))
            .ok()?;
        self.0.get(place)
    }

    pub fn at(&self, place: ProfileId) -> Option<&Arc<CacheEntry>> {
        self.0.get(place.index())
    }

    pub fn entries(&self) -> &[Arc<CacheEntry>] {
        &self.0
    }

    /// The entries behind `after`, in order of name.
    pub fn entries_after(&self, after: Option<&str>) -> &[Arc<CacheEntry>] {
        let first = after.map_or(0, |after| {
            self.0
                .partition_point(|entry| entry.profile.name.as_str() <= after)
        });
        self.0.get(first..).unwrap_or_default()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|entry| entry.profile.name.as_str())
    }
}

/// How a flight ended: with a new session in the cache, or with a failure.
pub(crate) type Fetched = Result<(), BackoffState>;

/// A profile and what the daemon holds for it.
#[derive(Debug)]
pub struct CacheEntry {
    pub place: ProfileId,
    pub profile: Profile,
    pub upstream: Arc<UpstreamHandle>,
    /// Its session, or why there is none.
    pub(crate) state: SessionState<Session, SupersededSession, SessionEnded>,
    /// The fetch under way, if any.
    pub(crate) flight: SingleFlight<Fetched>,
    /// How the last fetches went: it decides when the next may be made.
    health: Mutex<Backoff>,
    pub(crate) plan: TimerSlot,
    /// Until when somebody may still ask, in milliseconds of [`Now::awake`].
    used_until: AtomicU64,
}

impl CacheEntry {
    fn new(place: ProfileId, profile: Profile, upstream: Arc<UpstreamHandle>) -> Self {
        Self {
            place,
            profile,
            upstream,
            state: SessionState::default(),
            flight: SingleFlight::default(),
            health: Mutex::default(),
            plan: TimerSlot::new(TimerKey::Profile(place)),
            used_until: AtomicU64::new(0),
        }
    }

    pub fn lookup(&self, now: BootTime) -> Freshness {
        Freshness::of(self.session(), now, self.upstream.client.server_clock())
    }

    /// The session whatever its state, for those who report on it.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.state.session()
    }

    /// Whether there is a session of which the upstream may be asked what has become of it.
    pub(crate) fn has_any(&self) -> bool {
        self.session().is_some() || !self.state.earlier().is_empty()
    }

    /// Whose session of which role it has: it is this profile's for as long as this stays the same. No secret is in it.
    pub(crate) fn identity(&self) -> String {
        let role = &self.profile.role;
        format!(
            "{} {} {}",
            self.upstream.client.identity(),
            role.role_id.as_str(),
            role.duration.as_secs()
        )
    }

    /// What a hold is about: it stays while the token is moved, or the duration changed.
    pub(crate) fn role_there(&self) -> String {
        format!(
            "{} {}",
            self.upstream.client.place(),
            self.profile.role.role_id.as_str()
        )
    }

    /// The session is of no use any more; nor is what failed, if nobody waits for it to be mended.
    pub(crate) fn forget(&self, now: &Now) {
        if let Some(session) = self
            .session()
            .filter(|_| matches!(self.lookup(now.boot), Freshness::Expired))
        {
            self.state.drop_old(&session);
        }
        if self.use_left(now).is_zero() {
            self.health(Backoff::succeeded);
        }
    }

    /// Whether a new session is to be fetched without anybody asking: it is in use, and its last failure, if any, is none
    /// that a person has to mend.
    pub fn is_wanted(&self, now: &Now) -> bool {
        let needs_a_person =
            || self.health(|health| health.failing().is_some_and(|last| !last.error.may_pass()));
        !self.use_left(now).is_zero() && !needs_a_person()
    }

    pub(crate) fn health<T>(&self, act: impl FnOnce(&mut Backoff) -> T) -> T {
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
