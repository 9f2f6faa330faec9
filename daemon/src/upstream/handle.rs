//! The way to one upstream: how many calls at once, who goes first, and none while it is known to be away. What happens
//! at one upstream costs nothing at another.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex as Turn, MutexGuard as MyTurn, Semaphore, SemaphorePermit};

use super::circuit_breaker::{CircuitBreaker, Permit};
use super::{Upstream, UpstreamError};
use crate::clock::{AtomicBootTime, BootTime, Clock, Now};
use crate::model::{ProfileId, UpstreamId};
use crate::refresh::policy::BackoffState;
use crate::revocation::poller::Feed;
use crate::sync::lock;

/// The most calls under way at once to one upstream.
pub const PLACES: usize = 32;
/// The most of them that nobody waits for: whoever waits for a session finds a place, however many are being refreshed.
pub const UNHURRIED: usize = 24;

#[derive(Debug)]
pub struct UpstreamHandle {
    /// Its name in the configuration.
    pub name: Arc<str>,
    pub client: Box<dyn Upstream>,
    /// What is known of revocations there.
    pub feed: Feed,
    breaker: Mutex<CircuitBreaker>,
    /// Of the one call that finds out whether it is back.
    probe: Turn<()>,
    /// First come, first served; a profile has one call at the most, so this is fair between them.
    places: Semaphore,
    unhurried: Semaphore,
    /// When it was last asked for its time.
    asked_time: AtomicBootTime,
}

/// Whether somebody waits for a call's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    Interactive,
    Background,
}

/// The right to make one call. How it went is to be told by [`CallPermit::tell`].
#[derive(Debug)]
pub struct CallPermit<'a> {
    upstream: &'a UpstreamHandle,
    probe: Option<MyTurn<'a, ()>>,
    _places: (Option<SemaphorePermit<'a>>, Option<SemaphorePermit<'a>>),
}

impl UpstreamHandle {
    /// It has this place in the order of names, and is asked for revocations this often.
    pub fn new(
        name: Arc<str>,
        place: UpstreamId,
        client: Box<dyn Upstream>,
        check_every: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            client,
            feed: Feed::new(place, check_every),
            breaker: Mutex::default(),
            probe: Turn::const_new(()),
            places: Semaphore::const_new(PLACES),
            unhurried: Semaphore::const_new(UNHURRIED),
            asked_time: AtomicBootTime::default(),
        })
    }

    /// Waits for a place, or is told since when the upstream has been away.
    pub async fn enter(
        &self,
        priority: Priority,
        clock: &Clock,
    ) -> Result<CallPermit<'_>, BackoffState> {
        // They are never closed, so there always is a permit.
        let unhurried = if priority == Priority::Background {
            self.unhurried.acquire().await.ok()
        } else {
            None
        };
        let place = self.places.acquire().await.ok();
        let probe = match self.permit(clock) {
            Permit::Go => None,
            Permit::No(failing) => return Err(failing),
            Permit::Probe => {
                let turn = self.probe.lock().await;
                // Somebody else may have found out meanwhile.
                match self.permit(clock) {
                    Permit::Go => None,
                    Permit::No(failing) => return Err(failing),
                    Permit::Probe => Some(turn),
                }
            }
        };
        Ok(CallPermit {
            upstream: self,
            probe,
            _places: (unhurried, place),
        })
    }

    /// Waits for a place, whether the upstream is known to be away or not: for the one look at what was revoked, which also
    /// finds out whether it is back.
    pub async fn enter_anyway(&self) -> CallPermit<'_> {
        CallPermit {
            upstream: self,
            probe: None,
            _places: (None, self.places.acquire().await.ok()),
        }
    }

    /// Whether it is to be asked for its time now: not while it is away, nor more often than this. A yes is noted.
    pub fn may_be_asked_time(&self, now: BootTime, apart: Duration) -> bool {
        let recently = self
            .asked_time
            .read()
            .is_some_and(|at| now.since(at) < apart);
        let may = !recently && self.failing().is_none();
        if may {
            self.asked_time.replace(Some(now));
        }
        may
    }

    /// It has answered, if only with a refusal.
    pub fn answered(&self, now: BootTime) {
        let mut breaker = lock(&self.breaker);
        if let Some(failing) = breaker.failing() {
            tracing::info!(upstream = %self.name, away = ?now.since(failing.since), "it is back");
        }
        breaker.answered();
    }

    /// What time it is there, as far as that is known; else what time it is here.
    pub fn upstream_time(&self, now: &Now) -> Timestamp {
        self.client
            .server_clock()
            .latest(now.boot)
            .unwrap_or(now.wall)
    }

    /// Since when the upstream as a whole has been failing, if it has.
    pub fn failing(&self) -> Option<BackoffState> {
        lock(&self.breaker).failing().cloned()
    }

    fn permit(&self, clock: &Clock) -> Permit {
        lock(&self.breaker).permit(clock.now().boot)
    }
}

impl CallPermit<'_> {
    /// How a call for this profile went.
    pub fn tell(self, place: ProfileId, error: Option<&UpstreamError>, now: BootTime, jitter: f64) {
        let mut breaker = lock(&self.upstream.breaker);
        match error {
            None | Some(UpstreamError::Refused { .. }) => {
                drop(breaker);
                self.upstream.answered(now);
            }
            Some(error) => {
                let was_open = breaker.failing().is_some();
                breaker.failed(place, error, self.probe.is_some(), now, jitter);
                if !was_open && breaker.failing().is_some() {
                    tracing::warn!(upstream = %self.upstream.name, %error, "it is away; one call at a time looks whether it is back");
                }
            }
        }
    }
}
