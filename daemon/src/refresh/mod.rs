//! Fetches sessions and keeps them fresh: one call per profile at a time, as often as the policy says.

pub(crate) mod policy;
mod scheduler;
mod token_recursion;

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::cache::freshness::Freshness;
use crate::cache::session::{ListPresence, Session};
use crate::cache::session_state::Generation;
use crate::cache::single_flight::{FlightHandle, SingleFlight};
use crate::cache::{Cache, CacheEntry, Fetched, USE_GRACE};
use crate::clock::timer_queue::TimerQueue;
use crate::clock::{BootTime, Clock};
use crate::error::{RequestError, WAIT};
use crate::model::MARGIN;
use crate::revocation::RevocationService;
use crate::upstream::backoff::{Backoff, BackoffState};
use crate::upstream::handle::{Priority, UpstreamHandle};
use crate::upstream::{IssuedSession, RefusalKind, UpstreamError, Upstreams};
use policy::{RECOVERY_SPREAD, refresh_left, spread};
use token_recursion::TokenWaits;

pub(crate) use token_recursion::TokenWaitGuard;

#[derive(Debug)]
pub(crate) struct RefreshService {
    cache: Arc<Cache>,
    upstreams: Arc<Upstreams>,
    clock: Clock,
    timers: Arc<TimerQueue>,
    revocation: Arc<RevocationService>,
    /// Where upstreams are called, so that reads do not queue behind that.
    runtime: Handle,
    token_waits: TokenWaits,
}

/// A call that was made.
struct Call {
    sent_at: BootTime,
    answer: Result<IssuedSession, UpstreamError>,
}

impl Call {
    fn failed_with(&self, wanted: RefusalKind) -> bool {
        matches!(&self.answer, Err(UpstreamError::Refused { kind, .. }) if *kind == wanted)
    }
}

impl RefreshService {
    pub(crate) fn new(
        cache: Arc<Cache>,
        upstreams: Arc<Upstreams>,
        clock: Clock,
        timers: Arc<TimerQueue>,
        revocation: Arc<RevocationService>,
        runtime: Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            cache,
            upstreams,
            clock,
            timers,
            revocation,
            runtime,
            token_waits: TokenWaits::default(),
        })
    }

    /// Fetches a new session now, for a person who does not want the one that there is.
    pub(crate) async fn fetch_new(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
    ) -> Result<(), RequestError> {
        if let Some((profile, ended)) = entry.hold() {
            return Err(RequestError::Held {
                profile: profile.to_string(),
                ended,
            });
        }

        entry.mark_used(&self.clock.now(), USE_GRACE);
        let unwanted = entry.session();

        self.await_flight(entry, unwanted).await
    }

    /// Waits until the profile has a session.
    pub(crate) async fn await_fetch(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
    ) -> Result<(), RequestError> {
        self.await_flight(entry, None).await
    }

    async fn await_flight(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        unwanted: Option<Arc<Session>>,
    ) -> Result<(), RequestError> {
        let flight = self.join_fetch(entry, Priority::Interactive, unwanted);

        match tokio::time::timeout(WAIT, flight.result()).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(backoff))) => {
                let profile = entry.profile.name.clone();
                Err(RequestError::Upstream(
                    Box::new(backoff),
                    self.clock.now(),
                    profile,
                ))
            }
            Ok(Err(_aborted)) => Err(RequestError::Aborted),
            Err(_elapsed) => Err(RequestError::still_waiting(&entry.upstream)),
        }
    }

    /// Fetches a new session in the background, unless that is under way or too soon after a failure.
    pub(crate) fn refresh(self: &Arc<Self>, entry: &Arc<CacheEntry>) {
        let permit = entry.backoff(|backoff| backoff.permit(self.clock.now().boot));

        match permit {
            Ok(()) => drop(self.join_fetch(entry, Priority::Background, None)),
            Err(backoff) => self.timers.set_by(&entry.timer, backoff.next_try),
        }
    }

    fn join_fetch(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        priority: Priority,
        unwanted: Option<Arc<Session>>,
    ) -> FlightHandle<Fetched> {
        let service = Arc::clone(self);
        let target = Arc::clone(entry);
        let work = || async move { service.fetch_session(&target, priority, unwanted).await };

        SingleFlight::join(&self.runtime, entry, |entry| &entry.flight, work)
    }

    /// Assumes the role and installs the session: the work of a flight. A fresh session makes it unnecessary, unless it is
    /// the `unwanted` one.
    async fn fetch_session(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        priority: Priority,
        unwanted: Option<Arc<Session>>,
    ) -> Fetched {
        // Another flight may have ended between the caller's look at the cache and this one's start.
        if let Freshness::Fresh(session) = entry.lookup(self.clock.now().boot)
            && unwanted.is_none_or(|unwanted| !Arc::ptr_eq(&unwanted, &session))
        {
            return Ok(());
        }

        // A held profile fetches nothing. The caller sees the hold when it looks again.
        let Ok(generation) = entry.state.start_fetch() else {
            return Ok(());
        };

        entry.backoff(|backoff| backoff.permit(self.clock.now().boot))?;

        let mut base = self.base_session(entry, priority, None).await?;
        let mut called = self.assume(entry, priority, base.as_deref()).await?;
        // The base's session ended early. Once, a new one is fetched.
        if base.is_some() && called.failed_with(RefusalKind::BaseEnded) {
            base = self.base_session(entry, priority, base).await?;
            called = self.assume(entry, priority, base.as_deref()).await?;
        }

        match called.answer {
            Ok(issued) => {
                // Before a consumer can have it: a logout after a crash must know it.
                self.revocation.outbox.store_issued(entry, &issued).await;
                self.install_issued(entry, issued, called.sent_at, generation);
                Ok(())
            }
            Err(error) => Err(self.record_failure(entry, error)),
        }
    }

    /// The session that assumes the role, if it is not the principal who does. It is fetched if there is none but the
    /// `unwanted` one.
    async fn base_session(
        self: &Arc<Self>,
        entry: &CacheEntry,
        priority: Priority,
        unwanted: Option<Arc<Session>>,
    ) -> Result<Option<Arc<Session>>, BackoffState> {
        let Some(base) = &entry.base else {
            return Ok(None);
        };

        let is_wanted = |session: &Arc<Session>| {
            let unwanted = unwanted.as_ref();
            unwanted.is_none_or(|unwanted| !Arc::ptr_eq(unwanted, session))
        };
        if let Some(session) = self.usable_session(base).filter(is_wanted) {
            return Ok(Some(session));
        }

        let fetching = self.join_fetch(base, priority, unwanted.clone());
        if let Ok(Err(backoff)) = fetching.result().await {
            self.timers.set(&entry.timer, backoff.next_try);
            return Err(backoff);
        }

        match self.usable_session(base) {
            Some(session) => Ok(Some(session)),
            None => Err(self.record_failure(
                entry,
                UpstreamError::Refused {
                    what: format!(
                        "profile {}, which assumes the role, has no session",
                        base.profile.name
                    ),
                    kind: RefusalKind::Other,
                },
            )),
        }
    }

    fn usable_session(&self, entry: &CacheEntry) -> Option<Arc<Session>> {
        match entry.lookup(self.clock.now().boot) {
            Freshness::Fresh(session) | Freshness::Aging(session) => Some(session),
            Freshness::Expired => None,
        }
    }

    /// Makes the call.
    ///
    /// # Errors
    /// When none was made, because the upstream is unavailable, or there were too many calls.
    async fn assume(
        &self,
        entry: &CacheEntry,
        priority: Priority,
        base: Option<&Session>,
    ) -> Result<Call, BackoffState> {
        let permit = match entry.upstream.acquire(priority, &self.clock).await {
            Ok(permit) => permit,
            Err(outage) => return Err(self.wait_for_upstream(entry, outage)),
        };

        let sent_at = self.clock.now().boot;
        if let Err(next_try) = entry.take_call(sent_at) {
            return Err(self.too_many_calls(entry, next_try));
        }

        let client = &entry.upstream.client;
        let base = base.map(|session| &session.issued);
        let answer = client.assume(&entry.profile.role, base).await;
        let answer = answer.and_then(|issued| check_life(issued, entry));
        permit.record(
            entry.id,
            answer.as_ref().err(),
            self.clock.now().boot,
            fastrand::f64(),
        );

        Ok(Call { sent_at, answer })
    }

    fn install_issued(
        &self,
        entry: &CacheEntry,
        issued: IssuedSession,
        sent_at: BootTime,
        generation: Generation,
    ) {
        let received_at = self.clock.now().boot;
        let life = issued.life();
        tracing::info!(profile = %entry.profile.name, session = %issued.session_id, ?life, "role assumed");

        let server_clock = entry.upstream.client.server_clock();
        server_clock.issued(issued.issued_at, sent_at, received_at);
        entry.backoff(Backoff::reset);

        let session = Session {
            issued,
            obtained_at: sent_at,
            received_at,
            refresh_left: refresh_left(life, fastrand::f64()),
            generation,
            list_presence: ListPresence::default(),
        };

        self.install_session(entry, session);
    }

    /// Serves a session from here on and schedules its refresh. If there was a revocation since its fetch started, no
    /// consumer gets it, and the upstream revokes it. Returns whether it is served.
    pub(crate) fn install_session(&self, entry: &CacheEntry, session: Session) -> bool {
        let now = self.clock.now().boot;
        let refresh_at = session.ends_at().minus(session.refresh_left);
        session.issued.lock_in_memory();
        self.revocation.outbox.remember(entry, &session.issued);

        let session = Arc::new(session);
        let is_installed = entry
            .state
            .install(Arc::clone(&session), session.generation, now);

        if is_installed {
            self.timers.set(&entry.timer, refresh_at);
            self.revocation.session_installed(entry);
        } else {
            let reason = "not used: there was a revocation while it was issued";
            self.revocation.outbox.add_session(entry, &session, reason);
            // A consumer may still wait for a session.
            self.timers.set_by(&entry.timer, now);
        }

        is_installed
    }

    /// Records a failure of this profile's own call and schedules the next attempt.
    fn record_failure(&self, entry: &CacheEntry, error: UpstreamError) -> BackoffState {
        let now = self.clock.now().boot;
        tracing::warn!(profile = %entry.profile.name, %error, "cannot assume the role");

        match &error {
            UpstreamError::Refused {
                kind: RefusalKind::AccountDisabled,
                ..
            } => self.revocation.account_disabled(&entry.upstream),
            // A person who takes a role away may have revoked its sessions, too.
            UpstreamError::Refused { .. } if entry.session().is_some() => {
                self.revocation.poll_soon(&entry.upstream);
            }
            _ => {}
        }

        let backoff = entry.backoff(|backoff| backoff.record_failure(error, now, fastrand::f64()));
        self.timers.set(&entry.timer, backoff.next_try);

        backoff
    }

    /// The circuit breaker made no call. Profiles are spread, so that not all of them call once the upstream is back.
    fn wait_for_upstream(&self, entry: &CacheEntry, outage: BackoffState) -> BackoffState {
        let profiles = self.cache.entries().len();
        let spread = spread(profiles, RECOVERY_SPREAD, fastrand::f64());
        self.timers.set(&entry.timer, outage.next_try.plus(spread));

        outage
    }

    /// Programs, or a user, have fetched too many sessions. That is no failure of the upstream.
    fn too_many_calls(&self, entry: &CacheEntry, next_try: BootTime) -> BackoffState {
        self.timers.set_by(&entry.timer, next_try);

        BackoffState {
            since: self.clock.now().boot,
            attempts: 1,
            next_try,
            error: UpstreamError::Unavailable {
                what: format!(
                    "profile {} has had too many new sessions within a minute",
                    entry.profile.name
                ),
                retry_after: None,
                hint: None,
            },
        }
    }

    /// Retries what failed for want of a valid token, after a login.
    pub(crate) fn retry_after_login(&self, upstream: &UpstreamHandle) {
        let now = self.clock.now();

        for entry in self.cache.entries_of(upstream) {
            entry.backoff(|backoff| {
                let needs_login = backoff.state().is_some_and(|state| {
                    matches!(
                        state.error,
                        UpstreamError::LoginNeeded { .. } | UpstreamError::MfaNeeded { .. }
                    )
                });
                if needs_login {
                    backoff.reset();
                }
            });

            if entry.is_wanted(&now) {
                self.timers.set_by(&entry.timer, now.boot);
            }
        }

        upstream.record_reply(now.boot);
        self.revocation.poll_soon(upstream);
    }
}

/// Rejects a session that is too short to be served: it would be fetched again at every request.
fn check_life(issued: IssuedSession, entry: &CacheEntry) -> Result<IssuedSession, UpstreamError> {
    if issued.life() >= MARGIN * 2 {
        return Ok(issued);
    }

    Err(UpstreamError::Refused {
        what: format!(
            "role {} was granted for {} s; sessions shorter than {} s cannot be used",
            entry.profile.role.role.id(),
            issued.life().as_secs(),
            (MARGIN * 2).as_secs()
        ),
        kind: RefusalKind::Other,
    })
}
