//! The request path: authorize, look up, fetch if need be, lease.
//!
//! Adapters call [`Broker::lease`], and what other modules add to the broker (`keeper`, `status`, `iam`, `explain`,
//! `audit`). No lock is held across an await here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rolekeeper::protocol::Ending;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::approvals::Approvals;
use crate::cache::flight::{Flight, Landing};
use crate::cache::standing::Generation;
use crate::cache::state::{MARGIN, Session, Sightings, State};
use crate::cache::{Cache, Fetched, Slot};
use crate::clock::{Boot, Clock, Now};
use crate::iam::no_call::NoCall;
use crate::journal::Journal;
use crate::login::{NotRotated, Records};
use crate::policy::{Denied, Grant, Policy};
use crate::refresh::{Failing, GRACE, Health, RECOVERY_SPREAD, refresh_left, spread};
use crate::revoke::feed::{is_stale, view_age};
use crate::revoke::ledger::Ledger;
use crate::revoke::notices::Notices;
use crate::revoke::{Withdrawals, keep_earlier};
use crate::serve::peer::Peer;
use crate::timetable::Timetable;
use crate::upstream::gate::{Gate, Haste};
use crate::upstream::{Granted, UpstreamError, Why};
use crate::watch::Watchers;

/// How long a consumer waits for the upstream before it is told so. The fetch goes on without it.
pub const WAIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Broker {
    pub policy: Policy,
    pub cache: Cache,
    pub clock: Clock,
    pub timetable: Timetable,
    /// The ways to the upstreams, by their names in the configuration.
    pub gates: BTreeMap<Arc<str>, Arc<Gate>>,
    /// Who was given what.
    pub journal: Journal,
    /// What must survive this process.
    pub ledger: Ledger,
    /// What the upstreams are still to revoke.
    pub withdrawals: Withdrawals,
    /// Which credentials were made here.
    pub logins: Records,
    /// Who is told of changes.
    pub watchers: Watchers,
    pub notices: Notices,
    /// What people are asked.
    pub approvals: Approvals,
    pub started_at: Boot,
    /// A session was published, or is over.
    pub has_new: Notify,
    /// Where upstreams are called: reads do not queue behind that.
    background: Handle,
}

/// What is written down for later daemons.
#[derive(Debug)]
pub struct Books {
    pub journal: Journal,
    pub ledger: Ledger,
    pub logins: Records,
}

impl Books {
    /// Such as last as long as this process.
    pub fn in_memory() -> Self {
        Self {
            journal: Journal::in_memory(),
            ledger: Ledger::in_memory(),
            logins: Records::at(None),
        }
    }
}

/// What a consumer gets: a session's credentials with an advertised expiry, which is never later than the true one.
#[derive(Debug, Clone)]
pub struct Lease {
    pub session: Arc<Session>,
    /// Of the profile that it is of.
    pub slot: Arc<Slot>,
    pub expires_at: Timestamp,
    /// How old the view of revocations is, if that is older than the profile wants.
    pub stale_view: Option<Duration>,
}

/// Why there is no lease, named for what is to be done about it.
#[derive(Debug, Clone, Error)]
pub enum Refusal {
    #[error("there is no profile `{name}`")]
    UnknownProfile {
        name: String,
        nearest: Option<String>,
    },
    #[error(transparent)]
    Denied(Denied),
    #[error("{}", .0.error)]
    Failing(Failing, Now),
    #[error("profile {profile} is held: {held}")]
    Held { profile: String, held: Arc<Ending> },
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
    Iam(#[from] NoCall),
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
        gates: BTreeMap<Arc<str>, Arc<Gate>>,
        books: Books,
        clock: Clock,
    ) -> Arc<Self> {
        let Books {
            journal,
            ledger,
            logins,
        } = books;
        Arc::new(Self {
            policy,
            cache,
            started_at: clock.now().boot,
            clock,
            timetable: Timetable::default(),
            gates,
            journal,
            ledger,
            logins,
            withdrawals: Withdrawals::default(),
            watchers: Watchers::default(),
            notices: Notices::default(),
            approvals: Approvals::default(),
            has_new: Notify::new(),
            background: Handle::current(),
        })
    }

    pub(crate) fn background(&self) -> &Handle {
        &self.background
    }

    pub async fn lease(self: &Arc<Self>, peer: &Peer, want: &str) -> Result<Lease, Refusal> {
        let (grant, session) = self.session(peer, want).await?;
        Ok(self.lend(peer, &grant, session))
    }

    /// A session that may be used for a peer, which does not see it.
    pub(crate) async fn session(
        self: &Arc<Self>,
        peer: &Peer,
        want: &str,
    ) -> Result<(Grant, Arc<Session>), Refusal> {
        let grant = self.grant(peer, want).await?;
        let slot = grant.slot();
        self.confirm(peer, slot).await?;
        slot.used(&self.clock.now(), GRACE);
        let mut has_looked = false;
        let session = loop {
            let session = match slot.lookup(self.clock.now().boot) {
                State::Fresh(session) => session,
                State::Aging(session) => {
                    self.refresh(slot);
                    session
                }
                State::Expired => {
                    if let Some(held) = slot.standing.hold() {
                        return Err(Refusal::Held {
                            profile: want.into(),
                            held,
                        });
                    }
                    // Looked up once more, because much may have happened while it was fetched.
                    self.await_fetch(slot, false).await?;
                    continue;
                }
            };
            if has_looked || self.may_serve(slot, &session) {
                break session;
            }
            self.await_look(slot).await?;
            has_looked = true;
        };
        Ok((grant, session))
    }

    pub(crate) async fn grant(&self, peer: &Peer, want: &str) -> Result<Grant, Refusal> {
        self.policy
            .authorize(peer, self.find(peer, want)?)
            .await
            .map_err(Refusal::Denied)
    }

    fn find(&self, peer: &Peer, want: &str) -> Result<&Arc<Slot>, Refusal> {
        self.cache
            .find(want)
            .ok_or_else(|| self.unknown(peer, want))
    }

    /// For what gives no credentials.
    pub(crate) fn see(&self, peer: &Peer, want: &str) -> Result<Grant, Refusal> {
        self.policy
            .watch(peer, self.find(peer, want)?)
            .map_err(Refusal::Denied)
    }

    /// For what only the user whose daemon this is may do.
    pub(crate) fn own(&self, peer: &Peer, want: &str) -> Result<Grant, Refusal> {
        self.policy
            .own(peer, self.find(peer, want)?)
            .map_err(Refusal::Denied)
    }

    /// The lease that this grant allows on a session, in the wall time that the consumer will compare it with. It is
    /// noted who got it, and that the profile is in use for as long as it lasts.
    fn lend(&self, peer: &Peer, grant: &Grant, session: Arc<Session>) -> Lease {
        let (slot, now) = (grant.slot(), self.clock.now());
        self.journal
            .handed(peer, slot.profile.name.as_str(), &session, now.boot);
        let left = session.left(now.boot, slot.gate.upstream.server_clock());
        let span = slot
            .profile
            .lease
            .limit()
            .map_or(left, |limit| limit.min(left));
        slot.used(&now, span.saturating_add(GRACE));
        self.expect_looks(slot);
        let stale_view =
            Some(view_age(slot, &session, now.boot)).filter(|age| is_stale(slot, *age));
        let expires_at = now.wall.saturating_add(span).unwrap_or(now.wall);
        Lease {
            expires_at,
            session,
            slot: Arc::clone(slot),
            stale_view,
        }
    }

    /// Waits until a session is in the cache; with `anew`, until it is another than now.
    pub(crate) async fn await_fetch(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        anew: bool,
    ) -> Result<(), Refusal> {
        let old = slot.session().filter(|_| anew);
        match tokio::time::timeout(WAIT, self.fetch(slot, Haste::Awaited, old).result()).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(failing))) => Err(Refusal::Failing(failing, self.clock.now())),
            Ok(Err(_crashed)) => Err(Refusal::BrokeOff),
            Err(_elapsed) => Err(Refusal::StillWaiting),
        }
    }

    /// Fetches a new session in the background, unless that is under way or too soon after a failure.
    pub(crate) fn refresh(self: &Arc<Self>, slot: &Arc<Slot>) {
        match slot.health(|health| health.permit(self.clock.now().boot)) {
            Ok(()) => drop(self.fetch(slot, Haste::Background, None)),
            Err(failing) => self.timetable.set_by(&slot.plan, failing.next_try),
        }
    }

    /// Joins or starts the one flight that fetches this profile's session.
    fn fetch(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        haste: Haste,
        old: Option<Arc<Session>>,
    ) -> Landing<Fetched> {
        let work = || Arc::clone(self).assume(Arc::clone(slot), haste, old);
        Flight::join(&self.background, slot, |slot| &slot.flight, work)
    }

    /// Assumes the role and publishes the session: the work of a flight. Where somebody wants another than the `old` one,
    /// a fresh one will not do.
    async fn assume(
        self: Arc<Self>,
        slot: Arc<Slot>,
        haste: Haste,
        old: Option<Arc<Session>>,
    ) -> Fetched {
        let now = || self.clock.now().boot;
        let is_old =
            |session: &Arc<Session>| old.as_ref().is_some_and(|old| Arc::ptr_eq(old, session));
        // Who saw the cache before another flight landed starts a flight of its own, for which nothing is left to do.
        if matches!(slot.lookup(now()), State::Fresh(session) if !is_old(&session)) {
            return Ok(());
        }
        // Nothing to do either where it is held: whoever asks will find that out.
        let Ok(begun) = slot.standing.begin() else {
            return Ok(());
        };
        slot.health(|health| health.permit(now()))?;
        let pass = match slot.gate.enter(haste, &self.clock).await {
            Ok(pass) => pass,
            Err(away) => return Err(self.wait_for_upstream(&slot, away)),
        };
        let sent = now();
        let answer = slot.gate.upstream.assume(&slot.profile.role).await;
        let answer = answer.and_then(|granted| long_enough(granted, &slot));
        pass.tell(slot.place, answer.as_ref().err(), now(), fastrand::f64());
        match answer {
            Ok(granted) => {
                self.publish(&slot, granted, sent, begun);
                Ok(())
            }
            Err(error) => Err(self.put_off(&slot, error)),
        }
    }

    fn publish(&self, slot: &Slot, granted: Granted, sent: Boot, begun: Generation) {
        let (life, received_at) = (granted.life(), self.clock.now().boot);
        tracing::info!(profile = %slot.profile.name, session = %granted.session_id, ?life, "role assumed");
        slot.gate
            .upstream
            .server_clock()
            .issued(granted.issued_at, sent, received_at);
        let refresh_left = refresh_left(life, fastrand::f64());
        slot.health(Health::succeeded);
        let sightings = Sightings::default();
        self.serve(
            slot,
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
    pub(crate) fn serve(&self, slot: &Slot, session: Session) -> bool {
        let (refresh_at, now) = (
            session.ends_at().minus(session.refresh_left),
            self.clock.now().boot,
        );
        session.granted.keep_in_memory();
        let session = Arc::new(session);
        let replaced =
            |earlier: &mut Vec<_>, old: Option<&Session>| keep_earlier(earlier, old, now);
        let counts = slot
            .standing
            .publish(Arc::clone(&session), session.generation, replaced);
        if counts {
            self.timetable.set(&slot.plan, refresh_at);
            self.watchers.tell(slot, None);
            if self.watchers.has(slot) {
                self.expect_looks(slot);
            }
        } else {
            self.withdraw(
                slot,
                &session,
                "not used: there was a revocation while it was issued",
            );
            // Somebody may still want one.
            self.timetable.set_by(&slot.plan, now);
        }
        counts
    }

    /// Notes a failure of this profile's own call, and when it is to be looked at again.
    fn put_off(self: &Arc<Self>, slot: &Slot, error: UpstreamError) -> Failing {
        let now = self.clock.now().boot;
        match error {
            UpstreamError::Refused {
                why: Why::AccountDisabled,
                ..
            } => self.account_disabled(&slot.gate),
            // Whoever takes a role away may have revoked its sessions.
            UpstreamError::Refused { .. } if slot.session().is_some() => {
                self.timetable.set_by(&slot.gate.feed.plan, now);
            }
            _ => {}
        }
        tracing::warn!(profile = %slot.profile.name, %error, "the role could not be assumed");
        let failing = slot.health(|health| health.failed(error, now, fastrand::f64()));
        self.timetable.set(&slot.plan, failing.next_try);
        failing
    }

    /// No call was made: the upstream is known to be away. Once it is asked again, not all are to come at once.
    fn wait_for_upstream(&self, slot: &Slot, away: Failing) -> Failing {
        let spread = spread(self.cache.slots().len(), RECOVERY_SPREAD, fastrand::f64());
        self.timetable.set(&slot.plan, away.next_try.plus(spread));
        away
    }

    /// Names of profiles are for those alone whom they are for.
    fn unknown(&self, peer: &Peer, want: &str) -> Refusal {
        let slots = self
            .cache
            .slots()
            .iter()
            .filter(|slot| self.policy.is_for(peer, &slot.profile.callers));
        let nearest = crate::config::nearest(want, slots.map(|slot| slot.profile.name.as_str()))
            .map(Into::into);
        Refusal::UnknownProfile {
            name: crate::printable(want),
            nearest,
        }
    }
}

/// A session too short to be served for long would be fetched at every request.
fn long_enough(granted: Granted, slot: &Slot) -> Result<Granted, UpstreamError> {
    if granted.life() >= MARGIN * 2 {
        return Ok(granted);
    }
    Err(UpstreamError::Refused {
        what: format!(
            "role {} was granted for {} s only, and nothing is served in its last {} s",
            slot.profile.role.role_id.as_str(),
            granted.life().as_secs(),
            MARGIN.as_secs()
        ),
        why: Why::Other,
    })
}

#[cfg(test)]
#[path = "broker_tests.rs"]
pub(crate) mod tests;
