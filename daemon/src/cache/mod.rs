//! Profiles and their sessions. Reading a session takes no lock that a refresh can hold.

pub mod freshness;
pub mod session;
pub mod session_state;
pub(crate) mod single_flight;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::timer_queue::{TimerKey, TimerSlot};
use crate::clock::{BootTime, Now, millis};
use crate::config::{Profile, ProfileName};
use crate::model::{ProfileId, SessionEnded};
use crate::sync::lock;
use crate::upstream::backoff::{Backoff, BackoffState};
use crate::upstream::call_limit::CallLimit;
use crate::upstream::handle::UpstreamHandle;
use freshness::Freshness;
use session::Session;
use session_state::SessionState;
use single_flight::SingleFlight;

/// How long after its last lease has expired a profile is still in use. Time during which the machine sleeps is not
/// counted.
pub(crate) const USE_GRACE: Duration = Duration::from_secs(30 * 60);

/// The entries of all configured profiles, in order of name. A boxed slice, because a vector would keep the memory of
/// the profiles that it is made from.
#[derive(Debug)]
pub struct Cache(Box<[Arc<CacheEntry>]>);

/// How a fetch ended: with a new session in the cache, or with a failure.
pub(crate) type Fetched = Result<(), BackoffState>;

/// A profile and what the daemon holds for it.
#[derive(Debug)]
pub struct CacheEntry {
    pub(crate) id: ProfileId,
    pub profile: Profile,
    pub upstream: Arc<UpstreamHandle>,
    /// The profile whose session assumes the role.
    pub(crate) base: Option<Arc<CacheEntry>>,
    pub(crate) state: SessionState,
    /// The fetch under way, if any.
    pub(crate) flight: SingleFlight<Fetched>,
    /// The last fetches that failed in a row. It decides when the next one may start.
    backoff: Mutex<Backoff>,
    call_limit: Mutex<CallLimit>,
    pub(crate) timer: TimerSlot,
    /// Until when a consumer may ask again, in milliseconds of [`Now::awake`].
    used_until: AtomicU64,
}

impl Cache {
    pub(crate) fn new(profiles: impl IntoIterator<Item = (Profile, Arc<UpstreamHandle>)>) -> Self {
        let mut profiles: Vec<_> = profiles.into_iter().collect();
        profiles.sort_by(|(one, _), (two, _)| one.name.cmp(&two.name));

        // An entry is made after that of its base. Each round makes those whose base was made in an earlier one.
        let mut waiting: Vec<_> = profiles.into_iter().zip(0..).collect();
        let mut entries: BTreeMap<ProfileName, Arc<CacheEntry>> = BTreeMap::new();
        while !waiting.is_empty() {
            let (ready, rest): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|((profile, _), _)| {
                    let base = profile.base.as_ref();
                    base.is_none_or(|base| entries.contains_key(base))
                });
            // The configuration has no circles.
            if ready.is_empty() {
                break;
            }

            for ((profile, upstream), number) in ready {
                let base = profile.base.as_ref().and_then(|base| entries.get(base));
                let base = base.cloned();
                let name = profile.name.clone();
                let entry = CacheEntry::new(ProfileId::new(number), profile, upstream, base);
                entries.insert(name, Arc::new(entry));
            }
            waiting = rest;
        }

        Self(entries.into_values().collect())
    }

    pub fn find(&self, name: &str) -> Option<&Arc<CacheEntry>> {
        let index = self
            .0
            .binary_search_by(|entry| entry.profile.name.as_str().cmp(name))
            .ok()?;

        self.0.get(index)
    }

    pub(crate) fn get(&self, id: ProfileId) -> Option<&Arc<CacheEntry>> {
        self.0.get(id.index())
    }

    pub(crate) fn entries(&self) -> &[Arc<CacheEntry>] {
        &self.0
    }

    /// The entries behind `after`, in order of name.
    pub(crate) fn entries_after(&self, after: Option<&str>) -> &[Arc<CacheEntry>] {
        let first = after.map_or(0, |after| {
            self.0
                .partition_point(|entry| entry.profile.name.as_str() <= after)
        });

        self.0.get(first..).unwrap_or_default()
    }

    /// The entries whose sessions come from this upstream.
    pub fn entries_of(&self, upstream: &UpstreamHandle) -> impl Iterator<Item = &Arc<CacheEntry>> {
        let id = upstream.id;
        self.0.iter().filter(move |entry| entry.upstream.id == id)
    }

    /// The entry that has this session of the upstream, as the current or a superseded one.
    pub(crate) fn entry_of_session(
        &self,
        upstream: &UpstreamHandle,
        session_id: &str,
    ) -> Option<&Arc<CacheEntry>> {
        self.entries_of(upstream)
            .find(|entry| entry.has_session(session_id))
    }
}

impl CacheEntry {
    fn new(
        id: ProfileId,
        profile: Profile,
        upstream: Arc<UpstreamHandle>,
        base: Option<Arc<Self>>,
    ) -> Self {
        Self {
            id,
            profile,
            upstream,
            base,
            state: SessionState::default(),
            flight: SingleFlight::default(),
            backoff: Mutex::default(),
            call_limit: Mutex::default(),
            timer: TimerSlot::new(TimerKey::Profile(id)),
            used_until: AtomicU64::new(0),
        }
    }

    pub fn lookup(&self, now: BootTime) -> Freshness {
        Freshness::of(self.session(), now, self.upstream.client.server_clock())
    }

    /// The session, fresh or not.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.state.session()
    }

    /// The hold of the profile, or of one that it is assumed from, and whose it is.
    pub(crate) fn hold(&self) -> Option<(&ProfileName, Arc<SessionEnded>)> {
        match self.state.hold() {
            Some(ended) => Some((&self.profile.name, ended)),
            None => self.base.as_ref()?.hold(),
        }
    }

    /// Whether there is a session, current or superseded, that the upstream may have revoked.
    pub(crate) fn has_sessions(&self) -> bool {
        self.session().is_some() || !self.state.superseded().is_empty()
    }

    fn has_session(&self, id: &str) -> bool {
        self.session().is_some_and(|session| session.id() == id)
            || self
                .state
                .superseded()
                .iter()
                .any(|superseded| *superseded.session_id == *id)
    }

    /// The principal, role and duration of its sessions. Sessions of an earlier process are used if it is the same. It
    /// holds no secret.
    pub(crate) fn session_identity(&self) -> String {
        let role = &self.profile.role;

        let assumed_by = match &self.base {
            Some(base) => base.session_identity(),
            None => self.upstream.client.identity(),
        };

        format!(
            "{assumed_by} {} {}",
            role.role.identity(),
            role.duration.as_secs()
        )
    }

    /// The role that a hold is about. A hold stays while the token is moved or the duration changed.
    pub(crate) fn role_at_upstream(&self) -> String {
        format!(
            "{} {}",
            self.upstream.client.location(),
            self.profile.role.role.id()
        )
    }

    /// Drops an expired session. If the profile is not in use, drops its failures, too.
    pub(crate) fn evict(&self, now: &Now) {
        if let Some(session) = self.session()
            && matches!(self.lookup(now.boot), Freshness::Expired)
        {
            self.state.drop_session(&session);
        }

        if self.use_left(now).is_zero() {
            self.backoff(Backoff::reset);
        }
    }

    /// Whether a session is fetched without a request: the profile is in use, and its last failure, if any, may pass by
    /// itself.
    pub(crate) fn is_wanted(&self, now: &Now) -> bool {
        !self.use_left(now).is_zero() && !self.needs_user_action()
    }

    fn needs_user_action(&self) -> bool {
        self.backoff(|backoff| {
            backoff
                .state()
                .is_some_and(|failure| !failure.error.is_transient())
        })
    }

    pub(crate) fn backoff<T>(&self, act: impl FnOnce(&mut Backoff) -> T) -> T {
        act(&mut lock(&self.backoff))
    }

    /// Counts a call to the upstream that fetches a session.
    ///
    /// # Errors
    /// When the next call may be made, if there were too many.
    pub(crate) fn take_call(&self, now: BootTime) -> Result<(), BootTime> {
        lock(&self.call_limit).take(now)
    }

    /// The profile is in use for at least this long.
    pub(crate) fn mark_used(&self, now: &Now, span: Duration) {
        let until = millis(now.awake.saturating_add(span));
        self.used_until.fetch_max(until, Ordering::Relaxed);
    }

    pub(crate) fn mark_unused(&self) {
        self.used_until.store(0, Ordering::Relaxed);
    }

    /// Whether a consumer may have a lease that has not expired.
    pub fn is_leased(&self, now: &Now) -> bool {
        self.use_left(now) > USE_GRACE
    }

    /// How much longer the profile is in use.
    pub(crate) fn use_left(&self, now: &Now) -> Duration {
        Duration::from_millis(self.used_until.load(Ordering::Relaxed)).saturating_sub(now.awake)
    }
}
