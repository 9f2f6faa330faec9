//! The handle of one upstream: its client, behind a limiter and a circuit breaker. A failing upstream does not slow down
//! the others.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};

use super::backoff::BackoffState;
use super::circuit_breaker::{CircuitBreaker, Permit};
use super::limiter::{Limiter, Slot};
use super::{CallError, CallErrorKind, Upstream, UpstreamError};
use crate::clock::{AtomicBootTime, BootTime, Clock, Now};
use crate::model::{ProfileId, UpstreamId};
use crate::sync::lock;

pub(crate) use super::limiter::Priority;

#[derive(Debug)]
pub struct UpstreamHandle {
    /// Its name in the configuration.
    pub name: Arc<str>,
    pub client: Box<dyn Upstream>,
    pub(crate) id: UpstreamId,
    /// The interval of the polls for revocations.
    pub(crate) poll_interval: Duration,
    breaker: Mutex<CircuitBreaker>,
    /// Held by the one call that probes whether the upstream is back.
    probe: AsyncMutex<()>,
    limiter: Limiter,
    /// When the server clock was last synchronized.
    clock_synced_at: AtomicBootTime,
}

/// The right to make one call, whose result is reported by [`CallPermit::record`].
#[derive(Debug)]
pub(crate) struct CallPermit<'a> {
    upstream: &'a UpstreamHandle,
    probe: Option<AsyncMutexGuard<'a, ()>>,
    _slot: Slot<'a>,
}

impl UpstreamHandle {
    pub fn new(
        name: Arc<str>,
        id: UpstreamId,
        client: Box<dyn Upstream>,
        poll_interval: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            client,
            id,
            poll_interval,
            breaker: Mutex::default(),
            probe: AsyncMutex::const_new(()),
            limiter: Limiter::new(),
            clock_synced_at: AtomicBootTime::default(),
        })
    }

    /// A capability of the client, which `what` needs: a command or a method.
    ///
    /// # Errors
    /// When the upstream does not have it.
    pub(crate) fn require<T>(&self, capability: Option<T>, what: &str) -> Result<T, CallError> {
        capability.ok_or_else(|| {
            let kind = self.client.kind();
            CallError::new(
                CallErrorKind::Invalid,
                format!("upstream {} ({kind}) does not support {what}", self.name),
                "use another upstream",
            )
        })
    }

    /// Waits for a slot.
    ///
    /// # Errors
    /// The outage, while the circuit breaker is open.
    pub(crate) async fn acquire(
        &self,
        priority: Priority,
        clock: &Clock,
    ) -> Result<CallPermit<'_>, BackoffState> {
        let slot = self.limiter.slot(priority).await;
        let probe = match self.permit(clock) {
            Permit::Go => None,
            Permit::No(outage) => return Err(outage),
            Permit::Probe => {
                let probe = self.probe.lock().await;
                // Another probe may have ended meanwhile.
                match self.permit(clock) {
                    Permit::Go => None,
                    Permit::No(outage) => return Err(outage),
                    Permit::Probe => Some(probe),
                }
            }
        };

        Ok(CallPermit {
            upstream: self,
            probe,
            _slot: slot,
        })
    }

    /// Waits for a slot, also while the circuit breaker is open: for the poll for revocations, which is also a probe.
    pub(crate) async fn acquire_for_poll(&self) -> CallPermit<'_> {
        CallPermit {
            upstream: self,
            probe: None,
            _slot: self.limiter.slot(Priority::Interactive).await,
        }
    }

    /// Whether to synchronize the server clock now: not during an outage, and not within `interval` of the last time.
    /// A yes is recorded as the last time.
    pub(crate) fn take_clock_sync(&self, now: BootTime, interval: Duration) -> bool {
        let last = self.clock_synced_at.read();
        let is_recent = last.is_some_and(|at| now.since(at) < interval);
        if is_recent || self.outage().is_some() {
            return false;
        }

        self.clock_synced_at.replace(Some(now));
        true
    }

    /// The upstream has replied, if only with a refusal: an outage has ended.
    pub(crate) fn record_reply(&self, now: BootTime) {
        let mut breaker = lock(&self.breaker);
        if let Some(outage) = breaker.outage() {
            tracing::info!(upstream = %self.name, outage = ?now.since(outage.since), "the upstream is available again");
        }
        breaker.replied();
    }

    /// The upstream's time as far as it is known, else this machine's.
    pub(crate) fn server_time(&self, now: &Now) -> Timestamp {
        let server = self.client.server_clock().latest(now.boot);
        server.unwrap_or(now.wall)
    }

    /// The failures of the upstream as a whole, while the circuit breaker is open.
    pub(crate) fn outage(&self) -> Option<BackoffState> {
        lock(&self.breaker).outage().cloned()
    }

    fn permit(&self, clock: &Clock) -> Permit {
        lock(&self.breaker).permit(clock.now().boot)
    }
}

impl CallPermit<'_> {
    /// Reports the result of a call for a profile.
    pub(crate) fn record(
        self,
        profile: ProfileId,
        error: Option<&UpstreamError>,
        now: BootTime,
        jitter: f64,
    ) {
        let error = match error {
            None | Some(UpstreamError::Refused { .. }) => return self.upstream.record_reply(now),
            Some(error) => error,
        };

        let mut breaker = lock(&self.upstream.breaker);
        let was_open = breaker.outage().is_some();
        breaker.failed(profile, error, self.probe.is_some(), now, jitter);
        if !was_open && breaker.outage().is_some() {
            tracing::warn!(upstream = %self.upstream.name, %error, "the upstream is unavailable; one call at a time probes it");
        }
    }
}
