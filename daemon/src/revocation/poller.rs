//! Noticing: one list of active sessions for each principal and interval, whatever the number of its profiles, and none
//! while nobody holds a lease. What is missing from the list is looked at by itself, for who did it and why. That an old
//! session's credentials still work somewhere is never taken for an answer.

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::EndCause;

use super::reconcile::known;
use super::{Known, Which};
use crate::cache::CacheEntry;
use crate::cache::freshness::Session;
use crate::cache::single_flight::{FlightHandle, SingleFlight};
use crate::clock::timer_queue::{TimerKey, TimerSlot};
use crate::clock::{AtomicBootTime, BootTime, Now};
use crate::config::LeaseLimit;
use crate::credentials::{AccessError, Broker, WAIT};
use crate::model::UpstreamId;
use crate::refresh::policy::BACK_OFF_CAP;
use crate::sync::{Mutex, lock};
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{IssuedSessionStatus, UpstreamError};

/// The least time between two looks at an upstream that somebody asks for, and after one that failed.
const APART: Duration = Duration::from_secs(5);
/// The part of the interval after which the next look is made: daemons that were started together drift apart.
const EARLY: std::ops::Range<f64> = 0.8..1.0;
/// The most that a look takes: those that come after it wait for its end.
const LOOK: Duration = Duration::from_secs(60);

type Looked = Result<(), UpstreamError>;

/// What is known of revocations at one upstream.
#[derive(Debug)]
pub struct Feed {
    every: Duration,
    pub(crate) plan: TimerSlot,
    flight: SingleFlight<Looked>,
    /// When the last look began that succeeded.
    viewed_at: AtomicBootTime,
    /// When the last look began at all.
    tried_at: AtomicBootTime,
    /// RefusalKind the last look failed, if it did.
    failure: Mutex<Option<String>>,
}

impl Feed {
    pub(crate) fn new(place: UpstreamId, every: Duration) -> Self {
        Self {
            every,
            plan: TimerSlot::new(TimerKey::Poll(place)),
            flight: SingleFlight::default(),
            viewed_at: AtomicBootTime::default(),
            tried_at: AtomicBootTime::default(),
            failure: Mutex::default(),
        }
    }

    /// Since when a session is known to be good: it was issued then, or looked at.
    fn good_at(&self, session: &Session) -> BootTime {
        self.viewed_at.read().map_or(session.obtained_at, |viewed| {
            viewed.max(session.obtained_at)
        })
    }

    pub(crate) fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    fn interval(&self) -> Duration {
        self.every
            .mul_f64(EARLY.start + (EARLY.end - EARLY.start) * fastrand::f64())
    }
}

/// How old the view of a session is.
pub fn view_age(entry: &CacheEntry, session: &Session, now: BootTime) -> Duration {
    now.since(entry.upstream.feed.good_at(session))
}

/// Whether the profile wants a younger view than this.
pub(crate) fn is_stale(entry: &CacheEntry, age: Duration) -> bool {
    age > entry.profile.max_view_age
}

impl Broker {
    /// A strict profile is not served on a view that is too old: it waits for a look, and is refused without one.
    pub(crate) fn may_serve(&self, entry: &CacheEntry, session: &Session) -> bool {
        entry.profile.lease != LeaseLimit::Strict
            || !is_stale(entry, view_age(entry, session, self.clock.now().boot))
    }

    /// Waits for a look. One that has failed is not repeated at once.
    pub(crate) async fn await_look(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
    ) -> Result<(), AccessError> {
        let feed = &entry.upstream.feed;
        let is_recent = feed
            .tried_at
            .read()
            .is_some_and(|at| self.clock.now().boot.since(at) < APART);
        if let Some(why) = feed.failure().filter(|_| is_recent) {
            return self.stale(entry, why).map_or(Ok(()), Err);
        }
        let why = match tokio::time::timeout(WAIT, self.look(&entry.upstream).result()).await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_crashed)) => return Err(AccessError::BrokeOff),
            Err(_elapsed) => format!("no answer within {} s", WAIT.as_secs()),
        };
        self.stale(entry, why).map_or(Ok(()), Err)
    }

    /// The view of a profile's session is old, and could not be renewed. Without a session there is none to be old.
    pub(super) fn stale(&self, entry: &CacheEntry, why: String) -> Option<AccessError> {
        let age = view_age(entry, &*entry.session()?, self.clock.now().boot);
        Some(AccessError::ViewStale {
            profile: entry.profile.name.to_string(),
            age,
            why,
        })
    }

    /// Somebody is given a lease, or watches: from here on the upstream is looked at, at once if that was long ago.
    pub(crate) fn expect_looks(&self, entry: &CacheEntry) {
        let feed = &entry.upstream.feed;
        if feed.plan.at().is_none() && entry.has_any() {
            let now = self.clock.now().boot;
            let good = entry
                .session()
                .map_or(BootTime::ZERO, |session| feed.good_at(&session));
            let last = good.max(feed.tried_at.read().unwrap_or(BootTime::ZERO));
            self.timer_queue
                .set_by(&feed.plan, now.max(last.plus(feed.interval())));
        }
    }

    /// Looks at every upstream of which sessions are held, soon: much may have happened.
    pub(crate) fn look_soon(&self, now: BootTime) {
        for upstream in self
            .upstreams
            .values()
            .filter(|upstream| self.entries_of(upstream).any(|entry| entry.has_any()))
        {
            self.timer_queue.set_by(&upstream.feed.plan, now);
        }
    }

    /// Looks once more for somebody whose credentials were refused, and returns when what is found is in force. A look
    /// that began before does not count.
    pub(crate) async fn look_again(self: &Arc<Self>, upstream: &Arc<UpstreamHandle>) -> Looked {
        let asked = self.clock.now().boot;
        loop {
            let last = upstream.feed.tried_at.read();
            let apart = last.map_or(Duration::ZERO, |last| {
                last.plus(APART).since(self.clock.now().boot)
            });
            tokio::time::sleep(apart).await;
            let looked = self.look(upstream).result().await;
            if upstream.feed.tried_at.read().is_some_and(|at| at >= asked) {
                let broke_off = |_| UpstreamError::Unavailable {
                    what: "the look broke off".into(),
                    retry_after: None,
                };
                return looked.map_err(broke_off)?;
            }
        }
    }

    /// Joins or starts the one look at an upstream.
    pub(crate) fn look(self: &Arc<Self>, upstream: &Arc<UpstreamHandle>) -> FlightHandle<Looked> {
        let work = || Arc::clone(self).looked(Arc::clone(upstream));
        SingleFlight::join(
            self.background(),
            upstream,
            |upstream| &upstream.feed.flight,
            work,
        )
    }

    async fn looked(self: Arc<Self>, upstream: Arc<UpstreamHandle>) -> Looked {
        let feed = &upstream.feed;
        let began = self.clock.now().boot;
        feed.tried_at.replace(Some(began));
        let ended = Mutex::default();
        let looked = tokio::time::timeout(LOOK, self.compare(&upstream, began, &ended))
            .await
            .unwrap_or_else(|_elapsed| {
                let what = format!(
                    "listSTSSessions: not everything was told within {} s",
                    LOOK.as_secs()
                );
                Err(UpstreamError::Unavailable {
                    what,
                    retry_after: None,
                })
            });
        self.explain_endings(&upstream, std::mem::take(&mut lock(&ended)));
        let pause = match &looked {
            Ok(()) => {
                feed.viewed_at.replace(Some(began));
                Duration::ZERO
            }
            Err(error) => {
                tracing::warn!(upstream = %upstream.name, %error, "it cannot be asked what was revoked");
                error
                    .retry_after()
                    .unwrap_or_default()
                    .clamp(APART, BACK_OFF_CAP)
            }
        };
        *lock(&feed.failure) = looked.as_ref().err().map(ToString::to_string);
        let now = self.clock.now();
        if self
            .entries_of(&upstream)
            .any(|entry| self.is_waited_for(entry, &now))
        {
            self.timer_queue.set(
                &feed.plan,
                began.plus(feed.interval().max(pause)).max(now.boot),
            );
        }
        looked
    }

    /// The upstream has refused a session's token as revoked. RefusalKind comes later.
    pub(crate) fn token_was_refused(self: &Arc<Self>, entry: &Arc<CacheEntry>, id: &str) {
        let only = Known::only(EndCause::Revoked);
        let Some(ending) = self.revoke(entry, Which::These(&[id.into()]), only).ending else {
            return;
        };
        let (broker, entry, id) = (Arc::clone(self), Arc::clone(entry), id.to_owned());
        self.background().spawn(async move {
            let mut ending = ending;
            if let Ok(fate @ IssuedSessionStatus::Revoked { .. }) =
                entry.upstream.client.fate(&id).await
            {
                ending = Arc::new(broker.ending(Some(&id), known(fate)));
                broker.amend(&entry, &ending);
            }
            broker.explain_endings(&entry.upstream, vec![(Arc::clone(&entry), ending)]);
        });
    }

    /// An account that is disabled has no sessions (A13).
    pub(crate) fn account_disabled(self: &Arc<Self>, upstream: &Arc<UpstreamHandle>) {
        let end = |entry: &Arc<CacheEntry>| {
            let id = entry.session()?.granted.session_id.clone();
            let ended = self.revoke(
                entry,
                Which::These(&[id]),
                Known::only(EndCause::AccountDisabled),
            );
            Some((Arc::clone(entry), ended.ending?))
        };
        self.explain_endings(
            upstream,
            self.entries_of(upstream).filter_map(end).collect(),
        );
    }

    /// Somebody would want to know of a revocation.
    fn is_waited_for(&self, entry: &CacheEntry, now: &Now) -> bool {
        entry.has_any() && (entry.is_leased(now) || self.subscriptions.has(entry))
    }
}
