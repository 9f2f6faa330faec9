//! The request path: authorize, look up, fetch if need be, lease.
//!
//! Adapters call [`Broker::lease`], and what other modules add to the broker (`keeper`, `status`, `iam`, `explain`,
//! `audit`). No lock is held across an await here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rolekeeper::protocol::SessionEnded;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::access::approvals::Approvals;
use crate::access::peer::Peer;
use crate::access::policy::{Denied, Grant, Policy};
use crate::cache::freshness::{Freshness, ListPresence, MARGIN, Session};
use crate::cache::session_state::Generation;
use crate::cache::single_flight::{FlightHandle, SingleFlight};
use crate::cache::{Cache, CacheEntry, Fetched};
use crate::clock::timer_queue::TimerQueue;
use crate::clock::{BootTime, Clock, Now};
use crate::iam::error::IamCallError;
use crate::journal::Journal;
use crate::login::{NotRotated, RotationStates};
use crate::refresh::policy::{Backoff, BackoffState, GRACE, RECOVERY_SPREAD, refresh_left, spread};
use crate::revocation::notifications::Notifications;
use crate::revocation::poller::{is_stale, view_age};
use crate::revocation::store::RevocationStore;
use crate::revocation::subscriptions::Subscriptions;
use crate::revocation::{RevocationOutbox, keep_earlier};
use crate::upstream::handle::{Priority, UpstreamHandle};
use crate::upstream::{IssuedSession, RefusalKind, UpstreamError};

/// How long a consumer waits for the upstream before it is told so. The fetch goes on without it.
pub const WAIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Broker {
    pub policy: Policy,
    pub cache: Cache,
    pub clock: Clock,
    pub timer_queue: TimerQueue,
    /// The ways to the upstreams, by their names in the configuration.
    pub upstreams: BTreeMap<Arc<str>, Arc<UpstreamHandle>>,
    /// Who was given what.
    pub journal: Journal,
    /// What must survive this process.
    pub revocations: RevocationStore,
    /// What the upstreams are still to revoke.
    pub withdrawals: RevocationOutbox,
    /// Which credentials were made here.
    pub logins: RotationStates,
    /// Who is told of changes.
    pub subscriptions: Subscriptions,
    pub notifications: Notifications,
    /// What people are asked.
    pub approvals: Approvals,
    pub started_at: BootTime,
    /// A session was published, or is over.
    pub has_new: Notify,
    /// Where upstreams are called: reads do not queue behind that.
    background: Handle,
}

/// What is written down for later daemons.
#[derive(Debug)]
pub struct Stores {
    pub journal: Journal,
    pub revocations: RevocationStore,
    pub logins: RotationStates,
}

impl Stores {
    /// Such as last as long as this process.
    pub fn in_memory() -> Self {
        Self {
            journal: Journal::in_memory(),
            revocations: RevocationStore::in_memory(),
            logins: RotationStates::at(None),
        }
    }
}

/// What a consumer gets: a session's credentials with an advertised expiry, which is never later than the true one.
#[derive(Debug, Clone)]
pub struct Lease {
    pub session: Arc<Session>,
    /// Of the profile that it is of.
    pub entry: Arc<CacheEntry>,
    pub expires_at: Timestamp,
    /// How old the view of revocations is, if that is older than the profile wants.
    pub stale_view: Option<Duration>,
}

/// RefusalKind there is no lease, named for what is to be done about it.
#[derive(Debug, Clone, Error)]
pub enum AccessError {
    #[error("there is no profile `{name}`")]
    UnknownProfile {
        name: String,
        nearest: Option<String>,
    },
    #[error(transparent)]
    Denied(Denied),
    #[error("{}", .0.error)]
    BackoffState(BackoffState, Now),
    #[error("profile {profile} is held: {held}")]
    Held {
        profile: String,
        held: Arc<SessionEnded>,
    },
    #[error("it is not known whether the session of profile {profile} has been revoked; {} s ago it had not been: {why}", .age.as_secs())]
    ViewStale {
        profile: String,
        age: Duration,
        why: String,
    },
    #[error("the upstream has not answered within {} s", WAIT.as_secs())]
    StillWaiting,
    /// For what is asked of the upstream at that moment, and given up with the answer.
    #[error("the upstream has not told everything within {} s", WAIT.as_secs())]
    TooSlow,
    #[error("the fetch of this profile's session broke off")]
    BrokeOff,
    #[error("rolekeeperd is stopping, and the upstream has not answered yet")]
    Stopping,
    #[error("no endpoint can be opened for it: {0}")]
    NoEndpoint(String),
    #[error(transparent)]
    Iam(#[from] IamCallError),
    #[error("profile {profile} wants a person's word, and {why}")]
    NotConfirmed { profile: String, why: &'static str },
    #[error("nothing is asked under the number {0}")]
    NothingToApprove(u64),
    #[error(
        "only a person at a terminal may allow it, and neither who asked nor what that has started"
    )]
    NotAPerson,
    #[error("that is a session's token, which ends with the session, and not a principal's own")]
    OfSession,
    #[error("there is no file of the record: it lasts as long as this daemon")]
    NoJournal,
    #[error("the credential is not replaced: {0}")]
    NotRotated(#[from] NotRotated),
}

impl Broker {
    /// Upstreams will be called in the runtime that this is called in.
    pub fn new(
        policy: Policy,
        cache: Cache,
        upstreams: BTreeMap<Arc<str>, Arc<UpstreamHandle>>,
        books: Stores,
        clock: Clock,
    ) -> Arc<Self> {
        let Stores {
            journal,
            revocations,
            logins,
        } = books;
        Arc::new(Self {
            policy,
            cache,
            started_at: clock.now().boot,
            clock,
            timer_queue: TimerQueue::default(),
            upstreams,
            journal,
            revocations,
            logins,
            withdrawals: RevocationOutbox::default(),
            subscriptions: Subscriptions::default(),
            notifications: Notifications::default(),
            approvals: Approvals::default(),
            has_new: Notify::new(),
            background: Handle::current(),
        })
    }

    pub(crate) fn background(&self) -> &Handle {
        &self.background
    }

    pub async fn lease(self: &Arc<Self>, peer: &Peer, want: &str) -> Result<Lease, AccessError> {
        let (grant, session) = self.session(peer, want).await?;
        Ok(self.lend(peer, &grant, session))
    }

    /// A session that may be used for a peer, which does not see it.
    pub(crate) async fn session(
        self: &Arc<Self>,
        peer: &Peer,
        want: &str,
    ) -> Result<(Grant, Arc<Session>), AccessError> {
        let grant = self.grant(peer, want).await?;
        let entry = grant.entry();
        self.confirm(peer, entry).await?;
        entry.used(&self.clock.now(), GRACE);
        let mut has_looked = false;
        let session = loop {
            let session = match entry.lookup(self.clock.now().boot) {
                Freshness::Fresh(session) => session,
                Freshness::Aging(session) => {
                    self.refresh(entry);
                    session
                }
                Freshness::Expired => {
                    if let Some(held) = entry.state.hold() {
                        return Err(AccessError::Held {
                            profile: want.into(),
                            held,
                        });
                    }
                    // Looked up once more, because much may have happened while it was fetched.
                    self.await_fetch(entry, false).await?;
                    continue;
                }
            };
            if has_looked || self.may_serve(entry, &session) {
                break session;
            }
            self.await_look(entry).await?;
            has_looked = true;
        };
        Ok((grant, session))
    }

    pub(crate) async fn grant(&self, peer: &Peer, want: &str) -> Result<Grant, AccessError> {
        self.policy
            .authorize(peer, self.find(peer, want)?)
            .await
            .map_err(AccessError::Denied)
    }

    fn find(&self, peer: &Peer, want: &str) -> Result<&Arc<CacheEntry>, AccessError> {
        self.cache
            .find(want)
            .ok_or_else(|| self.unknown(peer, want))
    }

    /// For what gives no credentials.
    pub(crate) fn see(&self, peer: &Peer, want: &str) -> Result<Grant, AccessError> {
        self.policy
            .watch(peer, self.find(peer, want)?)
            .map_err(AccessError::Denied)
    }

    /// For what only the user whose daemon this is may do.
    pub(crate) fn own(&self, peer: &Peer, want: &str) -> Result<Grant, AccessError> {
        self.policy
            .own(peer, self.find(peer, want)?)
            .map_err(AccessError::Denied)
    }

    /// The lease that this grant allows on a session, in the wall time that the consumer will compare it with. It is
    /// noted who got it, and that the profile is in use for as long as it lasts.
    fn lend(&self, peer: &Peer, grant: &Grant, session: Arc<Session>) -> Lease {
        let (entry, now) = (grant.entry(), self.clock.now());
        self.journal
            .handed(peer, entry.profile.name.as_str(), &session, now.boot);
        let left = session.left(now.boot, entry.upstream.client.server_clock());
        let span = entry
            .profile
            .lease
            .limit()
            .map_or(left, |limit| limit.min(left));
        entry.used(&now, span.saturating_add(GRACE));
        self.expect_looks(entry);
        let stale_view =
            Some(view_age(entry, &session, now.boot)).filter(|age| is_stale(entry, *age));
        let expires_at = now.wall.saturating_add(span).unwrap_or(now.wall);
        Lease {
            expires_at,
            session,
            entry: Arc::clone(entry),
            stale_view,
        }
    }

    /// Waits until a session is in the cache; with `anew`, until it is another than now.
    pub(crate) async fn await_fetch(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        anew: bool,
    ) -> Result<(), AccessError> {
        let old = entry.session().filter(|_| anew);
        match tokio::time::timeout(WAIT, self.fetch(entry, Priority::Interactive, old).result())
            .await
        {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(failing))) => Err(AccessError::BackoffState(failing, self.clock.now())),
            Ok(Err(_crashed)) => Err(AccessError::BrokeOff),
            Err(_elapsed) => Err(AccessError::StillWaiting),
        }
    }

    /// Fetches a new session in the background, unless that is under way or too soon after a failure.
    pub(crate) fn refresh(self: &Arc<Self>, entry: &Arc<CacheEntry>) {
        match entry.health(|health| health.permit(self.clock.now().boot)) {
            Ok(()) => drop(self.fetch(entry, Priority::Background, None)),
            Err(failing) => self.timer_queue.set_by(&entry.plan, failing.next_try),
        }
    }

    /// Joins or starts the one flight that fetches this profile's session.
    fn fetch(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        priority: Priority,
        old: Option<Arc<Session>>,
    ) -> FlightHandle<Fetched> {
        let work = || Arc::clone(self).assume(Arc::clone(entry), priority, old);
        SingleFlight::join(&self.background, entry, |entry| &entry.flight, work)
    }

    /// Assumes the role and publishes the session: the work of a flight. Where somebody wants another than the `old` one,
    /// a fresh one will not do.
    async fn assume(
        self: Arc<Self>,
        entry: Arc<CacheEntry>,
        priority: Priority,
        old: Option<Arc<Session>>,
    ) -> Fetched {
        let now = || self.clock.now().boot;
        let is_old =
            |session: &Arc<Session>| old.as_ref().is_some_and(|old| Arc::ptr_eq(old, session));
        // Who saw the cache before another flight landed starts a flight of its own, for which nothing is left to do.
        if matches!(entry.lookup(now()), Freshness::Fresh(session) if !is_old(&session)) {
            return Ok(());
        }
        // Nothing to do either where it is held: whoever asks will find that out.
        let Ok(begun) = entry.state.begin() else {
            return Ok(());
        };
        entry.health(|health| health.permit(now()))?;
        let pass = match entry.upstream.enter(priority, &self.clock).await {
            Ok(pass) => pass,
            Err(away) => return Err(self.wait_for_upstream(&entry, away)),
        };
        let sent = now();
        let answer = entry.upstream.client.assume(&entry.profile.role).await;
        let answer = answer.and_then(|granted| long_enough(granted, &entry));
        pass.tell(entry.place, answer.as_ref().err(), now(), fastrand::f64());
        match answer {
            Ok(granted) => {
                self.publish(&entry, granted, sent, begun);
                Ok(())
            }
            Err(error) => Err(self.put_off(&entry, error)),
        }
    }

    fn publish(
        &self,
        entry: &CacheEntry,
        granted: IssuedSession,
        sent: BootTime,
        begun: Generation,
    ) {
        let (life, received_at) = (granted.life(), self.clock.now().boot);
        tracing::info!(profile = %entry.profile.name, session = %granted.session_id, ?life, "role assumed");
        entry
            .upstream
            .client
            .server_clock()
            .issued(granted.issued_at, sent, received_at);
        let refresh_left = refresh_left(life, fastrand::f64());
        entry.health(Backoff::succeeded);
        let sightings = ListPresence::default();
        self.serve(
            entry,
            Session {
                granted,
                obtained_at: sent,
                received_at,
                refresh_left,
                generation: begun,
                sightings,
            },
        );
        self.has_new.notify_one();
    }

    /// A session is served from here on, and planned to be refreshed; unless there was a revocation since it was asked
    /// for, of which it may be a part: then nobody ever sees it, and the upstream is to end it.
    pub(crate) fn serve(&self, entry: &CacheEntry, session: Session) -> bool {
        let (refresh_at, now) = (
            session.ends_at().minus(session.refresh_left),
            self.clock.now().boot,
        );
        session.granted.keep_in_memory();
        let session = Arc::new(session);
        let replaced =
            |earlier: &mut Vec<_>, old: Option<&Session>| keep_earlier(earlier, old, now);
        let counts = entry
            .state
            .publish(Arc::clone(&session), session.generation, replaced);
        if counts {
            self.timer_queue.set(&entry.plan, refresh_at);
            self.subscriptions.tell(entry, None);
            if self.subscriptions.has(entry) {
                self.expect_looks(entry);
            }
        } else {
            self.withdraw(
                entry,
                &session,
                "not used: there was a revocation while it was issued",
            );
            // Somebody may still want one.
            self.timer_queue.set_by(&entry.plan, now);
        }
        counts
    }

    /// Notes a failure of this profile's own call, and when it is to be looked at again.
    fn put_off(self: &Arc<Self>, entry: &CacheEntry, error: UpstreamError) -> BackoffState {
        let now = self.clock.now().boot;
        match error {
            UpstreamError::Refused {
                why: RefusalKind::AccountDisabled,
                ..
            } => self.account_disabled(&entry.upstream),
            // Whoever takes a role away may have revoked its sessions.
            UpstreamError::Refused { .. } if entry.session().is_some() => {
                self.timer_queue.set_by(&entry.upstream.feed.plan, now);
            }
            _ => {}
        }
        tracing::warn!(profile = %entry.profile.name, %error, "the role could not be assumed");
        let failing = entry.health(|health| health.failed(error, now, fastrand::f64()));
        self.timer_queue.set(&entry.plan, failing.next_try);
        failing
    }

    /// No call was made: the upstream is known to be away. Once it is asked again, not all are to come at once.
    fn wait_for_upstream(&self, entry: &CacheEntry, away: BackoffState) -> BackoffState {
        let spread = spread(self.cache.entries().len(), RECOVERY_SPREAD, fastrand::f64());
        self.timer_queue
            .set(&entry.plan, away.next_try.plus(spread));
        away
    }

    /// Names of profiles are for those alone whom they are for.
    fn unknown(&self, peer: &Peer, want: &str) -> AccessError {
        let entries = self
            .cache
            .entries()
            .iter()
            .filter(|entry| self.policy.is_for(peer, &entry.profile.callers));
        let nearest =
            crate::config::nearest(want, entries.map(|entry| entry.profile.name.as_str()))
                .map(Into::into);
        AccessError::UnknownProfile {
            name: crate::printable(want),
            nearest,
        }
    }
}

/// A session too short to be served for long would be fetched at every request.
fn long_enough(granted: IssuedSession, entry: &CacheEntry) -> Result<IssuedSession, UpstreamError> {
    if granted.life() >= MARGIN * 2 {
        return Ok(granted);
    }
    Err(UpstreamError::Refused {
        what: format!(
            "role {} was granted for {} s only, and nothing is served in its last {} s",
            entry.profile.role.role_id.as_str(),
            granted.life().as_secs(),
            MARGIN.as_secs()
        ),
        why: RefusalKind::Other,
    })
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
pub(crate) mod tests;
