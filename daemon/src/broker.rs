//! The request path: authorize, look up, fetch if need be, lease.
//!
//! Adapters call [`Broker::lease`], and what other modules add to the broker (`status`, `iam`, `explain`, `audit`). No lock is held across an await here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use crate::cache::flight::Landing;
use crate::cache::state::{MARGIN, Session, State};
use crate::cache::{Cache, Fetched, Slot};
use crate::clock::{Boot, Clock, Now};
use crate::iam::NoCall;
use crate::journal::Journal;
use crate::policy::{Denied, Grant, Policy};
use crate::refresh::{Failing, Health, Timetable, refresh_after};
use crate::serve::peer::Peer;
use crate::upstream::{Granted, Upstream, UpstreamError};

/// How long a consumer waits for the upstream before it is told so. The fetch goes on without it.
pub const WAIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Broker {
    pub policy: Policy,
    pub cache: Cache,
    pub clock: Clock,
    pub timetable: Timetable,
    /// By their names in the configuration.
    pub upstreams: BTreeMap<String, Arc<dyn Upstream>>,
    /// Who was given what.
    pub journal: Journal,
    pub started_at: Boot,
}

/// What a consumer gets: a session's credentials with an advertised expiry, which is never later than the true one.
#[derive(Debug, Clone)]
pub struct Lease {
    pub session: Arc<Session>,
    pub expires_at: Timestamp,
}

/// Why there is no lease, named for what is to be done about it.
#[derive(Debug, Clone, Error)]
pub enum Refusal {
    #[error("there is no profile `{name}`")]
    UnknownProfile { name: String, nearest: Option<String> },
    #[error("this daemon serves another user than user {uid}", uid = .0.uid)]
    Denied(Denied),
    #[error("{}", .0.error)]
    Failing(Failing, Now),
    #[error("the upstream has not answered within {} s", WAIT.as_secs())]
    StillWaiting,
    /// For what is asked of the upstream at that moment, and given up with the answer.
    #[error("the upstream has not told everything within {} s", WAIT.as_secs())]
    TooSlow,
    #[error("the fetch of this profile's session broke off")]
    BrokeOff,
    #[error("rolekeeperd is stopping, and the upstream has not answered yet")]
    Stopping,
    #[error(transparent)]
    Iam(#[from] NoCall),
}

impl Broker {
    pub fn new(
        policy: Policy,
        cache: Cache,
        upstreams: BTreeMap<String, Arc<dyn Upstream>>,
        journal: Journal,
        clock: Clock,
    ) -> Arc<Self> {
        let started_at = clock.now().boot;
        Arc::new(Self { policy, cache, clock, timetable: Timetable::default(), upstreams, journal, started_at })
    }

    pub async fn lease(self: &Arc<Self>, peer: &Peer, want: &str) -> Result<Lease, Refusal> {
        let (grant, session) = self.session(peer, want).await?;
        Ok(self.lend(peer, &grant, session))
    }

    /// A session that may be used for a peer, which does not see it.
    pub(crate) async fn session(self: &Arc<Self>, peer: &Peer, want: &str) -> Result<(Grant, Arc<Session>), Refusal> {
        let grant = self.grant(peer, want)?;
        let slot = grant.slot();
        let session = match slot.lookup(self.clock.now().boot) {
            State::Fresh(session) => session,
            State::Aging(session) => {
                self.refresh(slot);
                session
            }
            State::Expired => self.await_fetch(slot).await?,
        };
        Ok((grant, session))
    }

    pub(crate) fn grant(&self, peer: &Peer, want: &str) -> Result<Grant, Refusal> {
        let slot = self.cache.find(want).ok_or_else(|| self.unknown(want))?;
        self.policy.authorize(peer, slot).map_err(Refusal::Denied)
    }

    /// Fetches a new session in the background, unless that is under way or too soon after a failure.
    pub fn refresh(self: &Arc<Self>, slot: &Arc<Slot>) {
        if slot.health(|health| health.permit(self.clock.now().boot)).is_ok() {
            drop(self.fetch(slot));
        }
    }

    /// The lease that this grant allows on a session, in the wall time that the consumer will compare it with. It is
    /// noted who got it.
    fn lend(&self, peer: &Peer, grant: &Grant, session: Arc<Session>) -> Lease {
        let now = self.clock.now();
        self.journal.handed(peer, grant.slot().profile.name.as_str(), &session, now.boot);
        let left = session.expires_at.since(now.boot);
        let span = grant.slot().profile.lease.limit().map_or(left, |limit| limit.min(left));
        Lease { expires_at: now.wall.saturating_add(span).unwrap_or(now.wall), session }
    }

    async fn await_fetch(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<Arc<Session>, Refusal> {
        match tokio::time::timeout(WAIT, self.fetch(slot).result()).await {
            Ok(Ok(Ok(session))) => Ok(session),
            Ok(Ok(Err(failing))) => Err(Refusal::Failing(failing, self.clock.now())),
            Ok(Err(_crashed)) => Err(Refusal::BrokeOff),
            Err(_elapsed) => Err(Refusal::StillWaiting),
        }
    }

    /// Joins or starts the one flight that fetches this profile's session.
    fn fetch(self: &Arc<Self>, slot: &Arc<Slot>) -> Landing<Fetched> {
        slot.flight.join(|| Arc::clone(self).assume(Arc::clone(slot)))
    }

    /// Assumes the role and publishes the session: the work of a flight.
    async fn assume(self: Arc<Self>, slot: Arc<Slot>) -> Fetched {
        let sent = self.clock.now();
        // Who saw the cache before another flight landed starts a flight of its own, for which nothing is left to do.
        if let State::Fresh(session) = slot.lookup(sent.boot) {
            return Ok(session);
        }
        slot.health(|health| health.permit(sent.boot))?;
        let answer = slot.upstream.assume(&slot.profile.role).await;
        match answer.and_then(|granted| long_enough(granted, &slot)) {
            Ok(granted) => Ok(self.publish(&slot, granted, sent.boot)),
            Err(error) => Err(self.put_off(&slot, error)),
        }
    }

    fn publish(&self, slot: &Slot, granted: Granted, sent: Boot) -> Arc<Session> {
        let refresh_at = sent.plus(refresh_after(granted.life, fastrand::f64()));
        tracing::info!(profile = %slot.profile.name, session = %granted.session_id, life = ?granted.life, "role assumed");
        let session = Arc::new(Session {
            obtained_at: sent,
            received_at: self.clock.now().boot,
            refresh_at,
            expires_at: sent.plus(granted.life),
            granted,
        });
        slot.health(Health::succeeded);
        slot.publish(Arc::clone(&session));
        self.timetable.set(&slot.profile.name, refresh_at);
        session
    }

    /// Notes a failure. A session that still has time keeps being served, and is tried again by itself; without one,
    /// the next who asks tries again.
    fn put_off(&self, slot: &Slot, error: UpstreamError) -> Failing {
        let now = self.clock.now().boot;
        tracing::warn!(profile = %slot.profile.name, %error, "the role could not be assumed");
        let may_pass = error.may_pass();
        let failing = slot.health(|health| health.failed(error, now, fastrand::f64()));
        if may_pass && !matches!(slot.lookup(failing.next_try), State::Expired) {
            self.timetable.set(&slot.profile.name, failing.next_try);
        }
        failing
    }

    /// Refreshes what is due, for as long as the daemon runs: one timer, whatever the number of profiles.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            while let Some(name) = self.timetable.take_due(self.clock.now().boot) {
                if let Some(slot) = self.cache.find(name.as_str()) {
                    self.refresh(slot);
                }
            }
            match self.timetable.earliest() {
                None => self.timetable.changed().await,
                Some(at) => tokio::select! {
                    () = self.clock.sleep_until(at) => {}
                    () = self.timetable.changed() => {}
                },
            }
        }
    }

    fn unknown(&self, want: &str) -> Refusal {
        let nearest = crate::config::nearest(want, self.cache.names()).map(Into::into);
        Refusal::UnknownProfile { name: crate::printable(want), nearest }
    }
}

/// A session too short to be served for long would be fetched at every request.
fn long_enough(granted: Granted, slot: &Slot) -> Result<Granted, UpstreamError> {
    if granted.life >= MARGIN * 2 {
        return Ok(granted);
    }
    Err(UpstreamError::Refused {
        what: format!(
            "role {} was granted for {} s only, and nothing is served in its last {} s",
            slot.profile.role.role_id.as_str(),
            granted.life.as_secs(),
            MARGIN.as_secs()
        ),
    })
}

#[cfg(test)]
#[path = "broker_tests.rs"]
mod tests;
