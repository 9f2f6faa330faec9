//! A service that issues sessions, follows a script, and remembers what it issued and what it was asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use rolekeeperd::clock::{BootTime, Clock, ServerClock};
use rolekeeperd::config::RoleRequest;
use rolekeeperd::upstream::limiter::MAX_CALLS;
use rolekeeperd::upstream::{
    IssuedSession, IssuedSessionStatus, RefusalKind, Upstream, UpstreamError,
};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// No answer at all, at once.
    Unreachable,
    /// No answer for 30 s.
    Silent,
    /// Its own answer, with or without a `Retry-After`.
    Overloaded(Option<Duration>),
    /// A page of somebody else's, with that one's `Date`.
    Captive,
    /// The account is no longer good.
    LoggedOut,
    /// The role may not be assumed.
    Refused,
}

#[derive(Debug, Clone)]
pub(crate) struct Service(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    number: usize,
    clock: Clock,
    server_clock: ServerClock,
    truth: Mutex<Truth>,
}

#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) weather: Weather,
    /// How long it takes to answer, and now and then ten times that, unless it is always the same.
    pub(crate) latency: std::ops::Range<Duration>,
    /// Time that went by without this machine's counting it: a virtual machine that was paused.
    pub(crate) lost: Duration,
    /// By how much its `Date` is wrong.
    pub(crate) date_is_wrong: SignedDuration,
    /// Every session: when it ends, in true time.
    pub(crate) ends: BTreeMap<String, Duration>,
    /// The same by their ends.
    by_end: BTreeSet<(Duration, String)>,
    /// When each role was asked for lately, in boot time: at most 12 a minute.
    recent: BTreeMap<String, VecDeque<BootTime>>,
    /// Roles that are being asked for: at most once at a time.
    under_way: BTreeSet<String>,
    /// How often each role was asked for.
    pub(crate) by_role: BTreeMap<String, usize>,
    /// Every call, in boot time.
    pub(crate) calls: Vec<BootTime>,
    pub(crate) granted: usize,
    /// Which sessions were revoked, and when, in boot time.
    pub(crate) revoked: BTreeMap<String, BootTime>,
    /// When it was asked what is active, in boot time.
    pub(crate) looks: Vec<BootTime>,
    /// How much of `lost` an answer of its own has told of by its time.
    pub(crate) told: Duration,
    pub(crate) most_at_once: usize,
}

impl Truth {
    pub(crate) fn is_under_way(&self, role: &str) -> bool {
        self.under_way.contains(role)
    }
}

impl Service {
    pub(crate) fn new(clock: &Clock, number: usize) -> Self {
        let truth = Truth {
            weather: Weather::Fair,
            latency: Duration::from_millis(20)..Duration::from_millis(400),
            lost: Duration::ZERO,
            date_is_wrong: SignedDuration::ZERO,
            ends: BTreeMap::new(),
            by_end: BTreeSet::new(),
            recent: BTreeMap::new(),
            under_way: BTreeSet::new(),
            by_role: BTreeMap::new(),
            calls: Vec::new(),
            granted: 0,
            revoked: BTreeMap::new(),
            looks: Vec::new(),
            told: Duration::ZERO,
            most_at_once: 0,
        };
        Self(Arc::new(Inner {
            number,
            clock: clock.clone(),
            server_clock: ServerClock::default(),
            truth: Mutex::new(truth),
        }))
    }

    pub(crate) fn truth(&self) -> MutexGuard<'_, Truth> {
        self.0.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True time since the start of the world.
    pub(crate) fn true_now(&self) -> Duration {
        self.0.clock.now().boot.since_start() + self.truth().lost
    }

    /// What is truly left of a session.
    pub(crate) fn left(&self, session: &str) -> Duration {
        let end = self
            .truth()
            .ends
            .get(session)
            .copied()
            .expect("it issued this session");
        end.saturating_sub(self.true_now())
    }

    fn boot(&self) -> BootTime {
        self.0.clock.now().boot
    }

    /// The service's own time. It is nobody else's business how it counts.
    fn stamp(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time") + self.true_now()
    }

    /// What it says that the time is, in whole seconds.
    fn date(&self) -> Timestamp {
        let date = self.stamp() + self.truth().date_is_wrong;
        Timestamp::from_second(date.as_second()).expect("a time")
    }

    fn latency(&self) -> Duration {
        let latency = self.truth().latency.clone();
        let slow = if !latency.is_empty() && fastrand::u8(..) < 5 {
            10
        } else {
            1
        };
        (latency.start + (latency.end - latency.start).mul_f64(fastrand::f64())) * slow
    }

    /// It answers, in whatever words, after half the round trip.
    async fn answer<T>(&self, sent: BootTime, what: impl FnOnce() -> T) -> T {
        let half = self.latency() / 2;
        tokio::time::sleep(half).await;
        let (answer, date, lost) = (what(), self.date(), self.truth().lost);
        tokio::time::sleep(half).await;
        self.0.server_clock.dated(date, sent, self.boot());
        self.truth().told = lost;
        answer
    }

    async fn fail<T>(&self, weather: Weather, sent: BootTime) -> Result<T, UpstreamError> {
        let away = |retry_after| UpstreamError::Unavailable {
            what: "it is away".into(),
            retry_after,
        };
        match weather {
            Weather::Fair => unreachable!("there is no failure in fair weather"),
            Weather::Unreachable => Err(away(None)),
            Weather::Silent => {
                tokio::time::sleep(Duration::from_secs(30)).await;
                Err(away(None))
            }
            Weather::Captive => {
                tokio::time::sleep(self.latency()).await;
                Err(away(None))
            }
            Weather::Overloaded(retry_after) => self.answer(sent, || Err(away(retry_after))).await,
            Weather::Refused => {
                self.answer(sent, || {
                    Err(UpstreamError::Refused {
                        what: "no".into(),
                        kind: RefusalKind::Other,
                    })
                })
                .await
            }
            Weather::LoggedOut => {
                let no = UpstreamError::LoginNeeded {
                    what: "no".into(),
                    hint: "a new token".into(),
                };
                self.answer(sent, || Err(no)).await
            }
        }
    }

    fn note(&self, role: &str, sent: BootTime) {
        let mut truth = self.truth();
        truth.calls.push(sent);
        *truth.by_role.entry(role.into()).or_default() += 1;
        assert!(
            truth.under_way.insert(role.into()),
            "{role} is asked for twice at a time"
        );
        truth.most_at_once = truth.most_at_once.max(truth.under_way.len());
        assert!(
            truth.most_at_once <= MAX_CALLS,
            "{} calls at a time",
            truth.most_at_once
        );
        let recent = truth.recent.entry(role.into()).or_default();
        recent.push_back(sent);
        if recent.len() > 12 {
            let first = recent.pop_front().expect("there are 13");
            assert!(
                sent.since(first) >= Duration::from_secs(60),
                "{role}: 13 calls within {:?}",
                sent.since(first)
            );
        }
    }

    async fn grant(&self, role: &RoleRequest) -> Result<IssuedSession, UpstreamError> {
        let sent = self.boot();
        let weather = self.truth().weather;
        if weather != Weather::Fair {
            return self.fail(weather, sent).await;
        }
        self.answer(sent, || {
            let (issued_at, now) = (self.stamp(), self.true_now());
            let mut truth = self.truth();
            truth.granted += 1;
            let session_id = format!("s-{}", truth.granted);
            truth.ends.insert(session_id.clone(), now + role.duration);
            truth
                .by_end
                .insert((now + role.duration, session_id.clone()));
            Ok(IssuedSession {
                session_id: session_id.into(),
                principal: "user/u-1".into(),
                access_key_id: "K".into(),
                secret_access_key: "S".into(),
                session_token: "T".into(),
                issued_at,
                expires_at: issued_at + role.duration,
            })
        })
        .await
    }
}

impl Upstream for Service {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn assume<'a>(
        &'a self,
        role: &'a RoleRequest,
    ) -> BoxFuture<'a, Result<IssuedSession, UpstreamError>> {
        async {
            let name = role.role_id.as_str();
            self.note(name, self.boot());
            let answer = self.grant(role).await;
            self.truth().under_way.remove(name);
            answer
        }
        .boxed()
    }

    fn server_clock(&self) -> &ServerClock {
        &self.0.server_clock
    }

    fn identity(&self) -> String {
        format!("scripted {}", self.0.number)
    }

    fn location(&self) -> String {
        self.identity()
    }

    fn sync_clock(&self) -> BoxFuture<'_, Result<(), UpstreamError>> {
        async {
            let (sent, weather) = (self.boot(), self.truth().weather);
            if weather == Weather::Fair {
                self.answer(sent, || Ok(())).await
            } else {
                self.fail(weather, sent).await
            }
        }
        .boxed()
    }

    fn active_sessions<'a>(
        &'a self,
        _principal: &'a str,
    ) -> BoxFuture<'a, Result<BTreeSet<Box<str>>, UpstreamError>> {
        async {
            let (sent, weather) = (self.boot(), self.truth().weather);
            self.truth().looks.push(sent);
            if !matches!(weather, Weather::Fair | Weather::Refused) {
                return self.fail(weather, sent).await;
            }
            let active = || {
                let now = self.true_now();
                let truth = self.truth();
                let unexpired = truth
                    .by_end
                    .range((now, String::new())..)
                    .filter(|(end, _)| *end > now);
                let active = unexpired.filter(|(_, id)| !truth.revoked.contains_key(id));
                Ok(active.map(|(_, id)| id.as_str().into()).collect())
            };
            self.answer(sent, active).await
        }
        .boxed()
    }

    fn session_status<'a>(
        &'a self,
        session_id: &'a str,
    ) -> BoxFuture<'a, Result<IssuedSessionStatus, UpstreamError>> {
        async {
            let (sent, weather) = (self.boot(), self.truth().weather);
            if !matches!(weather, Weather::Fair | Weather::Refused) {
                return self.fail(weather, sent).await;
            }
            let fate = || {
                let left = self.left(session_id);
                Ok(match self.truth().revoked.get(session_id) {
                    Some(_) => IssuedSessionStatus::Revoked {
                        at: None,
                        by: Some("user/admin".into()),
                        reason: None,
                    },
                    None if left.is_zero() => IssuedSessionStatus::Expired,
                    None => IssuedSessionStatus::Active,
                })
            };
            self.answer(sent, fate).await
        }
        .boxed()
    }

    fn revoke<'a>(
        &'a self,
        id: &'a str,
        _reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), UpstreamError>> {
        async {
            let (sent, weather) = (self.boot(), self.truth().weather);
            if !matches!(weather, Weather::Fair | Weather::Refused) {
                return self.fail(weather, sent).await;
            }
            let revoke = || {
                let now = self.boot();
                self.truth().revoked.entry(id.into()).or_insert(now);
                Ok(())
            };
            self.answer(sent, revoke).await
        }
        .boxed()
    }
}
