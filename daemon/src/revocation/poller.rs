//! Polls the upstreams for revocations: one list of active sessions per principal and interval, whatever the number of
//! profiles, and none while no consumer has a lease. A session that is missing from the list is looked up by itself.
//! That an old session's credentials still work somewhere is never taken as proof.

use std::sync::Arc;
use std::time::Duration;

use super::RevocationService;
use crate::cache::CacheEntry;
use crate::cache::session::Session;
use crate::cache::single_flight::{FlightHandle, SingleFlight};
use crate::clock::timer_queue::{TimerKey, TimerSlot};
use crate::clock::{AtomicBootTime, BootTime};
use crate::config::LeaseLimit;
use crate::error::{RequestError, WAIT};
use crate::model::UpstreamId;
use crate::sync::{Mutex, lock};
use crate::upstream::UpstreamError;
use crate::upstream::backoff::BACKOFF_CAP;
use crate::upstream::handle::UpstreamHandle;

/// The least time between two polls that callers request, and after one that failed.
const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// The part of the interval after which the next poll is made, so that daemons that started together drift apart.
const JITTER: std::ops::Range<f64> = 0.8..1.0;
/// The most that a poll may take. Callers that join it wait for its end.
const LIMIT: Duration = Duration::from_secs(60);

type Polled = Result<(), UpstreamError>;

/// The polls of one upstream.
#[derive(Debug)]
pub(crate) struct PollState {
    pub(crate) timer: TimerSlot,
    flight: SingleFlight<Polled>,
    /// When the last successful poll started.
    succeeded_at: AtomicBootTime,
    /// When the last poll started.
    started_at: AtomicBootTime,
    /// Why the last poll failed, if it did.
    failure: Mutex<Option<String>>,
}

impl PollState {
    pub(super) fn new(upstream: UpstreamId) -> Self {
        Self {
            timer: TimerSlot::new(TimerKey::Poll(upstream)),
            flight: SingleFlight::default(),
            succeeded_at: AtomicBootTime::default(),
            started_at: AtomicBootTime::default(),
            failure: Mutex::default(),
        }
    }

    fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// When a session was last known to be valid: it was issued then, or a poll started then and did not miss it.
    fn valid_at(&self, session: &Session) -> BootTime {
        let polled = self.succeeded_at.read().unwrap_or(BootTime::ZERO);
        polled.max(session.obtained_at)
    }

    fn started_since(&self, time: BootTime) -> bool {
        self.started_at.read().is_some_and(|at| at >= time)
    }
}

impl RevocationService {
    /// How long ago a session was last known to be valid. `None` if its upstream does not say which sessions are.
    pub fn view_age(
        &self,
        entry: &CacheEntry,
        session: &Session,
        now: BootTime,
    ) -> Option<Duration> {
        let poll = self.poll_state(&entry.upstream)?;
        Some(now.since(poll.valid_at(session)))
    }

    /// Why the last poll of a profile's upstream failed, if it did.
    pub(crate) fn poll_failure(&self, upstream: &UpstreamHandle) -> Option<String> {
        self.poll_state(upstream)?.failure()
    }

    /// A strict profile is served only while its view of revocations is young enough.
    pub(crate) fn is_view_fresh_enough(&self, entry: &CacheEntry, session: &Session) -> bool {
        if entry.profile.lease != LeaseLimit::Strict {
            return true;
        }

        let age = self.view_age(entry, session, self.clock.now().boot);
        !age.is_some_and(|age| is_stale(entry, age))
    }

    /// Waits for a poll. One that failed less than 5 s ago is not repeated.
    pub(crate) async fn await_poll(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
    ) -> Result<(), RequestError> {
        if let Some(reason) = self.recent_failure(&entry.upstream) {
            return self.check_view(entry, reason);
        }

        let polled = tokio::time::timeout(WAIT, self.poll(&entry.upstream)).await;
        let reason = match polled {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => no_answer(&entry.upstream, WAIT),
        };

        self.check_view(entry, reason)
    }

    fn recent_failure(&self, upstream: &UpstreamHandle) -> Option<String> {
        let poll = self.poll_state(upstream)?;
        let started_at = poll.started_at.read()?;
        let is_recent = self.clock.now().boot.since(started_at) < MIN_INTERVAL;

        poll.failure().filter(|_| is_recent)
    }

    /// The view of a profile's session is old and could not be renewed. Without a session there is no view.
    fn check_view(&self, entry: &CacheEntry, reason: String) -> Result<(), RequestError> {
        let now = self.clock.now().boot;
        let age = entry
            .session()
            .and_then(|session| self.view_age(entry, &session, now));

        match age {
            Some(age) => Err(RequestError::ViewStale {
                profile: entry.profile.name.to_string(),
                age,
                reason,
            }),
            None => Ok(()),
        }
    }

    /// Polls once more for a caller whose credentials were rejected. A poll that started before is not enough.
    pub(super) async fn poll_after_now(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
    ) -> Result<(), RequestError> {
        let polled = tokio::time::timeout(WAIT, self.poll_started_after_now(&entry.upstream)).await;

        match polled {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => self.check_view(entry, error.to_string()),
            Err(_elapsed) => {
                self.check_view(entry, format!("no answer within {} s", WAIT.as_secs()))
            }
        }
    }

    async fn poll_started_after_now(self: &Arc<Self>, upstream: &Arc<UpstreamHandle>) -> Polled {
        let Some(poll) = self.poll_state(upstream) else {
            return Ok(());
        };

        let requested_at = self.clock.now().boot;

        loop {
            let next = poll.started_at.read().map(|last| last.plus(MIN_INTERVAL));
            let pause = next.map_or(Duration::ZERO, |next| next.since(self.clock.now().boot));
            tokio::time::sleep(pause).await;

            let polled = self.poll(upstream).await;
            if poll.started_since(requested_at) {
                return polled;
            }
        }
    }

    /// A consumer gets a lease, or a subscriber waits. From here on the upstream is polled, at once if the last poll was
    /// long ago.
    pub(crate) fn schedule_poll(&self, entry: &CacheEntry) {
        let Some(poll) = self.poll_state(&entry.upstream) else {
            return;
        };

        if poll.timer.at().is_some() || !entry.has_sessions() {
            return;
        }

        let valid_at = entry
            .session()
            .map_or(BootTime::ZERO, |session| poll.valid_at(&session));
        let last = valid_at.max(poll.started_at.read().unwrap_or(BootTime::ZERO));
        let next = last.plus(interval(&entry.upstream));

        self.timers
            .set_by(&poll.timer, next.max(self.clock.now().boot));
    }

    /// Polls an upstream as soon as possible, because a session there may have been revoked.
    pub(crate) fn poll_soon(&self, upstream: &UpstreamHandle) {
        if let Some(poll) = self.poll_state(upstream) {
            self.timers.set_by(&poll.timer, self.clock.now().boot);
        }
    }

    /// Polls every upstream that issued a session which is held here.
    pub(crate) fn poll_all_soon(&self) {
        for upstream in self.upstreams.iter() {
            if self
                .cache
                .entries_of(upstream)
                .any(|entry| entry.has_sessions())
            {
                self.poll_soon(upstream);
            }
        }
    }

    pub(crate) fn poll_timer(&self, upstream: UpstreamId) -> Option<&TimerSlot> {
        Some(&self.polls.get(upstream.index())?.timer)
    }

    /// Starts a poll in the background, unless one is under way.
    pub(crate) fn start_poll(self: &Arc<Self>, upstream: UpstreamId) {
        if let Some(upstream) = self.upstreams.get(upstream) {
            drop(self.join_poll(upstream));
        }
    }

    async fn poll(self: &Arc<Self>, upstream: &Arc<UpstreamHandle>) -> Polled {
        let Some(flight) = self.join_poll(upstream) else {
            return Ok(());
        };

        flight.result().await.unwrap_or_else(|_aborted| {
            Err(UpstreamError::Unavailable {
                what: "internal error: the revocation check panicked".into(),
                retry_after: None,
                hint: None,
            })
        })
    }

    fn join_poll(self: &Arc<Self>, upstream: &Arc<UpstreamHandle>) -> Option<FlightHandle<Polled>> {
        upstream.client.session_registry()?;
        let poll = self.polls.get(upstream.id.index())?;
        let service = Arc::clone(self);
        let upstream = Arc::clone(upstream);
        let work = || async move { service.run_poll(&upstream).await };

        Some(SingleFlight::join(
            &self.runtime,
            poll,
            |poll| &poll.flight,
            work,
        ))
    }

    async fn run_poll(self: &Arc<Self>, upstream: &Arc<UpstreamHandle>) -> Polled {
        let Some(poll) = self.poll_state(upstream) else {
            return Ok(());
        };

        let started_at = self.clock.now().boot;
        poll.started_at.replace(Some(started_at));

        let polled = tokio::time::timeout(LIMIT, self.reconcile(upstream, started_at)).await;
        let polled = polled.unwrap_or_else(|_elapsed| {
            Err(UpstreamError::Unavailable {
                what: no_answer(upstream, LIMIT),
                retry_after: None,
                hint: None,
            })
        });

        let pause = match &polled {
            Ok(()) => {
                poll.succeeded_at.replace(Some(started_at));
                Duration::ZERO
            }
            Err(error) => {
                tracing::warn!(upstream = %upstream.name, %error, "revocation check failed");
                let retry_after = error.retry_after().unwrap_or_default();
                retry_after.clamp(MIN_INTERVAL, BACKOFF_CAP)
            }
        };

        *lock(&poll.failure) = polled.as_ref().err().map(ToString::to_string);

        if self
            .cache
            .entries_of(upstream)
            .any(|entry| self.is_monitored(entry))
        {
            let next = started_at.plus(interval(upstream).max(pause));
            self.timers
                .set(&poll.timer, next.max(self.clock.now().boot));
        }

        polled
    }
}

fn interval(upstream: &UpstreamHandle) -> Duration {
    let jitter = JITTER.start + (JITTER.end - JITTER.start) * fastrand::f64();
    upstream.poll_interval.mul_f64(jitter)
}

/// Whether the view of a profile's session is older than the profile allows.
pub(crate) fn is_stale(entry: &CacheEntry, age: Duration) -> bool {
    age > entry.profile.max_view_age
}

/// What has taken longer than `limit`: the upstream, or its token.
fn no_answer(upstream: &UpstreamHandle, limit: Duration) -> String {
    let limit = limit.as_secs();
    match upstream.client.token_wait() {
        Some(wait) => format!("{} has given no token within {limit} s", wait.location),
        None => format!("no complete answer within {limit} s"),
    }
}
