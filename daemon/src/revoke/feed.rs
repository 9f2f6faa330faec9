//! Noticing: one list of active sessions for each principal and interval, whatever the number of its profiles, and none
//! while nobody holds a lease. What is missing from the list is looked at by itself, for who did it and why. That an old
//! session's credentials still work somewhere is never taken for an answer.

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::Cause;

use super::compare::known;
use super::{Known, Which};
use crate::broker::{Broker, Refusal, WAIT};
use crate::cache::Slot;
use crate::cache::flight::{Flight, Landing};
use crate::cache::state::Session;
use crate::clock::{AtomicBoot, Boot, Now};
use crate::config::{LeaseLimit, Place};
use crate::refresh::BACK_OFF_CAP;
use crate::sync::{Mutex, lock};
use crate::timetable::{Item, Plan};
use crate::upstream::gate::Gate;
use crate::upstream::{Fate, UpstreamError};

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
    pub(crate) plan: Plan,
    flight: Flight<Looked>,
    /// When the last look began that succeeded.
    viewed_at: AtomicBoot,
    /// When the last look began at all.
    tried_at: AtomicBoot,
    /// Why the last look failed, if it did.
    failure: Mutex<Option<String>>,
}

impl Feed {
    pub(crate) fn new(place: Place, every: Duration) -> Self {
        Self {
            every,
            plan: Plan::new(Item::Feed(place)),
            flight: Flight::default(),
            viewed_at: AtomicBoot::default(),
            tried_at: AtomicBoot::default(),
            failure: Mutex::default(),
        }
    }

    /// Since when a session is known to be good: it was issued then, or looked at.
    fn good_at(&self, session: &Session) -> Boot {
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
pub fn view_age(slot: &Slot, session: &Session, now: Boot) -> Duration {
    now.since(slot.gate.feed.good_at(session))
}

/// Whether the profile wants a younger view than this.
pub(crate) fn is_stale(slot: &Slot, age: Duration) -> bool {
    age > slot.profile.max_view_age
}

impl Broker {
    /// A strict profile is not served on a view that is too old: it waits for a look, and is refused without one.
    pub(crate) fn may_serve(&self, slot: &Slot, session: &Session) -> bool {
        slot.profile.lease != LeaseLimit::Strict
            || !is_stale(slot, view_age(slot, session, self.clock.now().boot))
    }

    /// Waits for a look. One that has failed is not repeated at once.
    pub(crate) async fn await_look(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<(), Refusal> {
        let feed = &slot.gate.feed;
        let is_recent = feed
            .tried_at
            .read()
            .is_some_and(|at| self.clock.now().boot.since(at) < APART);
        if let Some(why) = feed.failure().filter(|_| is_recent) {
            return self.stale(slot, why).map_or(Ok(()), Err);
        }
        let why = match tokio::time::timeout(WAIT, self.look(&slot.gate).result()).await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_crashed)) => return Err(Refusal::BrokeOff),
            Err(_elapsed) => format!("no answer within {} s", WAIT.as_secs()),
        };
        self.stale(slot, why).map_or(Ok(()), Err)
    }

    /// The view of a profile's session is old, and could not be renewed. Without a session there is none to be old.
    pub(super) fn stale(&self, slot: &Slot, why: String) -> Option<Refusal> {
        let age = view_age(slot, &*slot.session()?, self.clock.now().boot);
        Some(Refusal::ViewStale {
            profile: slot.profile.name.to_string(),
            age,
            why,
        })
    }

    /// Somebody is given a lease, or watches: from here on the upstream is looked at, at once if that was long ago.
    pub(crate) fn expect_looks(&self, slot: &Slot) {
        let feed = &slot.gate.feed;
        if feed.plan.at().is_none() && slot.has_any() {
            let now = self.clock.now().boot;
            let good = slot
                .session()
                .map_or(Boot::ZERO, |session| feed.good_at(&session));
            let last = good.max(feed.tried_at.read().unwrap_or(Boot::ZERO));
            self.timetable
                .set_by(&feed.plan, now.max(last.plus(feed.interval())));
        }
    }

    /// Looks at every upstream of which sessions are held, soon: much may have happened.
    pub(crate) fn look_soon(&self, now: Boot) {
        for gate in self
            .gates
            .values()
            .filter(|gate| self.slots_of(gate).any(|slot| slot.has_any()))
        {
            self.timetable.set_by(&gate.feed.plan, now);
        }
    }

    /// Looks once more for somebody whose credentials were refused, and returns when what is found is in force. A look
    /// that began before does not count.
    pub(crate) async fn look_again(self: &Arc<Self>, gate: &Arc<Gate>) -> Looked {
        let asked = self.clock.now().boot;
        loop {
            let last = gate.feed.tried_at.read();
            let apart = last.map_or(Duration::ZERO, |last| {
                last.plus(APART).since(self.clock.now().boot)
            });
            tokio::time::sleep(apart).await;
            let looked = self.look(gate).result().await;
            if gate.feed.tried_at.read().is_some_and(|at| at >= asked) {
                let broke_off = |_| UpstreamError::Unavailable {
                    what: "the look broke off".into(),
                    retry_after: None,
                };
                return looked.map_err(broke_off)?;
            }
        }
    }

    /// Joins or starts the one look at an upstream.
    pub(crate) fn look(self: &Arc<Self>, gate: &Arc<Gate>) -> Landing<Looked> {
        let work = || Arc::clone(self).looked(Arc::clone(gate));
        Flight::join(self.background(), gate, |gate| &gate.feed.flight, work)
    }

    async fn looked(self: Arc<Self>, gate: Arc<Gate>) -> Looked {
        let feed = &gate.feed;
        let began = self.clock.now().boot;
        feed.tried_at.replace(Some(began));
        let ended = Mutex::default();
        let looked = tokio::time::timeout(LOOK, self.compare(&gate, began, &ended))
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
        self.explain_endings(&gate, std::mem::take(&mut lock(&ended)));
        let pause = match &looked {
            Ok(()) => {
                feed.viewed_at.replace(Some(began));
                Duration::ZERO
            }
            Err(error) => {
                tracing::warn!(upstream = %gate.name, %error, "it cannot be asked what was revoked");
                error
                    .retry_after()
                    .unwrap_or_default()
                    .clamp(APART, BACK_OFF_CAP)
            }
        };
        *lock(&feed.failure) = looked.as_ref().err().map(ToString::to_string);
        let now = self.clock.now();
        if self
            .slots_of(&gate)
            .any(|slot| self.is_waited_for(slot, &now))
        {
            self.timetable.set(
                &feed.plan,
                began.plus(feed.interval().max(pause)).max(now.boot),
            );
        }
        looked
    }

    /// The upstream has refused a session's token as revoked. Why comes later.
    pub(crate) fn token_was_refused(self: &Arc<Self>, slot: &Arc<Slot>, id: &str) {
        let only = Known::only(Cause::Revoked);
        let Some(ending) = self.revoke(slot, Which::These(&[id.into()]), only).ending else {
            return;
        };
        let (broker, slot, id) = (Arc::clone(self), Arc::clone(slot), id.to_owned());
        self.background().spawn(async move {
            let mut ending = ending;
            if let Ok(fate @ Fate::Revoked { .. }) = slot.gate.upstream.fate(&id).await {
                ending = Arc::new(broker.ending(Some(&id), known(fate)));
                broker.amend(&slot, &ending);
            }
            broker.explain_endings(&slot.gate, vec![(Arc::clone(&slot), ending)]);
        });
    }

    /// An account that is disabled has no sessions (A13).
    pub(crate) fn account_disabled(self: &Arc<Self>, gate: &Arc<Gate>) {
        let end = |slot: &Arc<Slot>| {
            let id = slot.session()?.granted.session_id.clone();
            let ended = self.revoke(
                slot,
                Which::These(&[id]),
                Known::only(Cause::AccountDisabled),
            );
            Some((Arc::clone(slot), ended.ending?))
        };
        self.explain_endings(gate, self.slots_of(gate).filter_map(end).collect());
    }

    /// Somebody would want to know of a revocation.
    fn is_waited_for(&self, slot: &Slot, now: &Now) -> bool {
        slot.has_any() && (slot.is_leased(now) || self.watchers.has(slot))
    }
}
