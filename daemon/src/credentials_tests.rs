//! The request path under virtual time, with an upstream that follows a script.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::*;
use crate::clock::{ServerClock, Timer};
use crate::config::{DEFAULT_CHECK, LeaseLimit, Profile, ProfileName, RoleId, RoleRequest};
use crate::model::UpstreamId;
use crate::sync::lock;
use crate::upstream::{IssuedSessionStatus, Upstream};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
const UID: u32 = 1000;

pub(crate) fn me() -> Peer {
    Peer::new(UID, None)
}

/// Answers after `delay`, with the script's next line, or with an hour once the script has ended.
#[derive(Debug, Default)]
pub(crate) struct Scripted {
    pub(crate) delay: Duration,
    pub(crate) script: Mutex<VecDeque<Result<Duration, UpstreamError>>>,
    pub(crate) calls: Mutex<Vec<tokio::time::Instant>>,
    pub(crate) server_clock: ServerClock,
    pub(crate) revoked: Mutex<BTreeSet<Box<str>>>,
    /// How often it was asked what is active.
    pub(crate) looks: Mutex<usize>,
    /// It issues sessions, and says nothing of them.
    pub(crate) is_blind: Mutex<bool>,
    /// It does not show everything: neither do lists have these, nor can they be read.
    pub(crate) hidden: Mutex<BTreeSet<String>>,
}

/// For a upstream, which owns its upstream, and a test, which looks at it.
#[derive(Debug, Clone)]
struct Shared(Arc<Scripted>);

impl Upstream for Shared {
    fn assume<'a>(
        &'a self,
        role: &'a RoleRequest,
    ) -> BoxFuture<'a, Result<IssuedSession, UpstreamError>> {
        self.0.assume(role)
    }

    fn server_clock(&self) -> &ServerClock {
        self.0.server_clock()
    }

    fn identity(&self) -> String {
        "scripted".into()
    }

    fn place(&self) -> String {
        "scripted".into()
    }

    fn ask_time(&self) -> BoxFuture<'_, Result<(), UpstreamError>> {
        self.0.ask_time()
    }

    fn active_sessions<'a>(
        &'a self,
        principal: &'a str,
    ) -> BoxFuture<'a, Result<BTreeSet<Box<str>>, UpstreamError>> {
        self.0.active_sessions(principal)
    }

    fn fate<'a>(
        &'a self,
        session_id: &'a str,
    ) -> BoxFuture<'a, Result<IssuedSessionStatus, UpstreamError>> {
        self.0.fate(session_id)
    }

    fn withdraw<'a>(
        &'a self,
        id: &'a str,
        reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), UpstreamError>> {
        self.0.withdraw(id, reason)
    }
}

impl Upstream for Scripted {
    #[allow(clippy::disallowed_methods, reason = "it notes tokio's virtual time")]
    fn assume<'a>(
        &'a self,
        _role: &'a RoleRequest,
    ) -> BoxFuture<'a, Result<IssuedSession, UpstreamError>> {
        async {
            let number = {
                let mut calls = lock(&self.calls);
                calls.push(tokio::time::Instant::now());
                calls.len()
            };
            let line = lock(&self.script).pop_front().unwrap_or(Ok(HOUR));
            tokio::time::sleep(self.delay).await;
            line.map(|life| IssuedSession {
                session_id: format!("s-{number}").into(),
                expires_at: Timestamp::UNIX_EPOCH + life,
                ..IssuedSession::example()
            })
        }
        .boxed()
    }

    fn server_clock(&self) -> &ServerClock {
        &self.server_clock
    }

    fn identity(&self) -> String {
        "scripted".into()
    }

    fn place(&self) -> String {
        "scripted".into()
    }

    fn ask_time(&self) -> BoxFuture<'_, Result<(), UpstreamError>> {
        async { Ok(()) }.boxed()
    }

    fn active_sessions<'a>(
        &'a self,
        _principal: &'a str,
    ) -> BoxFuture<'a, Result<BTreeSet<Box<str>>, UpstreamError>> {
        async {
            *lock(&self.looks) += 1;
            if *lock(&self.is_blind) {
                return Err(UpstreamError::Unavailable {
                    what: "it cannot be seen".into(),
                    retry_after: None,
                });
            }
            let revoked = lock(&self.revoked);
            let hidden = lock(&self.hidden);
            let issued = (1..=self.calls()).map(|number| format!("s-{number}"));
            Ok(issued
                .filter(|id| !revoked.contains(id.as_str()) && !hidden.contains(id))
                .map(Into::into)
                .collect())
        }
        .boxed()
    }

    fn fate<'a>(
        &'a self,
        session_id: &'a str,
    ) -> BoxFuture<'a, Result<IssuedSessionStatus, UpstreamError>> {
        let by = || Some("user/admin@example.test".to_owned());
        let fate = match lock(&self.revoked).contains(session_id) {
            true => IssuedSessionStatus::Revoked {
                at: Some(Timestamp::UNIX_EPOCH),
                by: by(),
                reason: Some("lost laptop".into()),
            },
            false if lock(&self.hidden).contains(session_id) => IssuedSessionStatus::Unknown,
            false => IssuedSessionStatus::Active,
        };
        async { Ok(fate) }.boxed()
    }

    fn withdraw<'a>(
        &'a self,
        id: &'a str,
        _reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), UpstreamError>> {
        async {
            if *lock(&self.is_blind) {
                return Err(UpstreamError::Unavailable {
                    what: "it cannot be told".into(),
                    retry_after: None,
                });
            }
            lock(&self.revoked).insert(id.into());
            Ok(())
        }
        .boxed()
    }
}

impl Scripted {
    pub(crate) fn calls(&self) -> usize {
        lock(&self.calls).len()
    }
}

pub(crate) fn down() -> Result<Duration, UpstreamError> {
    Err(UpstreamError::Unavailable {
        what: "the upstream is down".into(),
        retry_after: None,
    })
}

/// A broker with one profile, its refreshing task, and its upstream.
pub(crate) fn broker(lease: LeaseLimit, upstream: Scripted) -> (Arc<Broker>, Arc<Scripted>) {
    let upstream = Arc::new(upstream);
    let role = RoleRequest {
        role_id: RoleId::parse("r-1").unwrap(),
        duration: HOUR,
    };
    let profile = Profile::new(ProfileName::parse("dev").unwrap(), "bycloud".into(), role);
    broker_for(Profile { lease, ..profile }, upstream)
}

pub(crate) fn broker_for(
    profile: Profile,
    upstream: Arc<Scripted>,
) -> (Arc<Broker>, Arc<Scripted>) {
    let shared = Box::new(Shared(Arc::clone(&upstream)));
    let handle = UpstreamHandle::new("bycloud".into(), UpstreamId::new(0), shared, DEFAULT_CHECK);
    let cache = Cache::new([(profile, Arc::clone(&handle))]);
    let broker = Broker::new(
        Policy::of(UID),
        cache,
        BTreeMap::from([("bycloud".into(), handle)]),
        Stores::in_memory(),
        Clock::virtual_from(Timestamp::UNIX_EPOCH),
    );
    let alarm = Timer::new(&broker.clock).unwrap();
    tokio::spawn(Arc::clone(&broker).keep_fresh(alarm));
    (broker, upstream)
}

pub(crate) fn scripted(
    script: impl IntoIterator<Item = Result<Duration, UpstreamError>>,
) -> Scripted {
    Scripted {
        script: Mutex::new(script.into_iter().collect()),
        ..Scripted::default()
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_request_is_answered_from_the_cache() {
    let (broker, upstream) = broker(LeaseLimit::Full, Scripted::default());
    let first = broker.lease(&me(), "dev").await.unwrap();
    pass(60).await;
    let second = broker.lease(&me(), "dev").await.unwrap();
    assert_eq!(
        first.session.granted.session_id,
        second.session.granted.session_id
    );
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn five_thousand_cold_requests_make_one_call_even_when_the_first_to_ask_leaves() {
    let (broker, upstream) = broker(
        LeaseLimit::Full,
        Scripted {
            delay: Duration::from_secs(10),
            ..scripted([])
        },
    );
    let ask = || {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            broker
                .lease(&me(), "dev")
                .await
                .map(|lease| lease.session.granted.session_id.clone())
        })
    };
    let first = ask();
    pass(1).await;
    let others: Vec<_> = (0..5000).map(|_| ask()).collect();
    pass(1).await;
    first.abort();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), "s-1".into());
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiters_on_a_failing_upstream_share_one_failure_and_the_next_is_told_when_to_try() {
    let (broker, upstream) = broker(
        LeaseLimit::Full,
        Scripted {
            delay: Duration::from_secs(1),
            ..scripted([down()])
        },
    );
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let broker = Arc::clone(&broker);
            tokio::spawn(async move { broker.lease(&me(), "dev").await })
        })
        .collect();
    for waiter in waiters {
        assert!(matches!(
            waiter.await.unwrap(),
            Err(AccessError::BackoffState(..))
        ));
    }
    assert!(
        matches!(
            broker.lease(&me(), "dev").await,
            Err(AccessError::BackoffState(..))
        ),
        "asked again too soon"
    );
    assert_eq!(upstream.calls(), 1);
    pass(10).await;
    assert!(broker.lease(&me(), "dev").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_session_is_refreshed_before_its_end_and_no_read_ever_waits() {
    let (broker, upstream) = broker(LeaseLimit::Full, Scripted::default());
    broker.lease(&me(), "dev").await.unwrap();
    for _ in 0..24 * 60 {
        pass(60).await;
        let lease = broker
            .lease(&me(), "dev")
            .now_or_never()
            .expect("a warm read does not wait")
            .unwrap();
        let left = lease.expires_at.duration_since(broker.clock.now().wall);
        assert!(
            left.as_secs() > 15 * 60,
            "below this botocore asks at every signing: {left}"
        );
    }
    let calls = upstream.calls();
    assert!(
        (24 * 60 / 42..=24 * 60 / 32).contains(&calls),
        "{calls} calls in a day"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_nothing_until_the_margin_before_the_end_and_then_fails_closed() {
    let script = std::iter::once(Ok(HOUR)).chain(std::iter::repeat_with(down).take(500));
    let (broker, upstream) = broker(LeaseLimit::Full, scripted(script));
    let end = broker.lease(&me(), "dev").await.unwrap().session.ends_at();
    loop {
        pass(1).await;
        let now = broker.clock.now().boot;
        let answer = broker.lease(&me(), "dev").await;
        if now.plus(MARGIN) < end {
            assert!(answer.is_ok(), "refused with {:?} left", end.since(now));
        } else {
            assert!(answer.is_err(), "served with {:?} left", end.since(now));
        }
        if now > end.plus(HOUR) {
            break;
        }
    }
    let calls = lock(&upstream.calls).clone();
    for window in calls.windows(13) {
        assert!(
            window[12] - window[0] >= Duration::from_secs(60),
            "more than 12 calls in a minute"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_is_tried_again_by_itself() {
    let (broker, upstream) = broker(LeaseLimit::Full, scripted([Ok(HOUR), down(), down()]));
    broker.lease(&me(), "dev").await.unwrap();
    pass(50 * 60).await;
    assert_eq!(
        upstream.calls(),
        4,
        "nobody asked, and the fourth call succeeded"
    );
    assert!(matches!(
        broker
            .cache
            .find("dev")
            .unwrap()
            .lookup(broker.clock.now().boot),
        Freshness::Fresh(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_repeated_by_itself_and_drops_no_session() {
    let refused = || {
        Err(UpstreamError::Refused {
            what: "trust policy".into(),
            why: RefusalKind::Other,
        })
    };
    let (broker, upstream) = broker(
        LeaseLimit::Full,
        scripted([Ok(HOUR), refused(), refused(), refused()]),
    );
    broker.lease(&me(), "dev").await.unwrap();
    pass(50 * 60).await;
    assert_eq!(upstream.calls(), 2);
    assert!(
        broker.lease(&me(), "dev").await.is_ok(),
        "the session still has its time"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_advertised_for_its_limit_and_never_past_the_true_end() {
    let cases = [
        (LeaseLimit::Full, 3600),
        (LeaseLimit::Balanced, 960),
        (LeaseLimit::Strict, 600),
    ];
    for (limit, want) in cases {
        let (broker, _) = broker(limit, Scripted::default());
        let lease = broker.lease(&me(), "dev").await.unwrap();
        assert_eq!(
            lease
                .expires_at
                .duration_since(broker.clock.now().wall)
                .as_secs(),
            want
        );
    }
    let (broker, _) = broker(
        LeaseLimit::Balanced,
        scripted([Ok(Duration::from_secs(100))]),
    );
    let lease = broker.lease(&me(), "dev").await.unwrap();
    assert_eq!(
        lease
            .expires_at
            .duration_since(broker.clock.now().wall)
            .as_secs(),
        100
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_too_short_to_serve_is_refused_instead_of_fetched_at_every_request() {
    let (broker, upstream) = broker(LeaseLimit::Full, scripted([Ok(Duration::from_secs(29))]));
    for _ in 0..3 {
        let refusal = broker.lease(&me(), "dev").await.unwrap_err();
        assert!(
            refusal.to_string().contains("granted for 29 s only"),
            "{refusal}"
        );
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_is_told_after_20_seconds_and_the_fetch_goes_on() {
    let (broker, upstream) = broker(
        LeaseLimit::Full,
        Scripted {
            delay: Duration::from_secs(25),
            ..scripted([])
        },
    );
    assert!(matches!(
        broker.lease(&me(), "dev").await,
        Err(AccessError::StillWaiting)
    ));
    pass(6).await;
    assert!(
        broker
            .lease(&me(), "dev")
            .now_or_never()
            .expect("it has landed")
            .is_ok()
    );
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobodys_word_is_no_and_nothing_is_fetched_for_it() {
    let role = RoleRequest {
        role_id: RoleId::parse("r-1").unwrap(),
        duration: HOUR,
    };
    let mut profile = Profile::new(ProfileName::parse("dev").unwrap(), "bycloud".into(), role);
    profile.callers.confirm = crate::config::callers::Confirm::First;
    let (broker, upstream) = broker_for(profile, Arc::new(scripted([])));
    let peer = me();
    let mut asking = std::pin::pin!(broker.lease(&peer, "dev"));
    let almost = crate::access::approvals::PATIENCE - Duration::from_secs(1);
    assert!(
        tokio::time::timeout(almost, &mut asking).await.is_err(),
        "a person is waited for"
    );
    let refused = asking.await.unwrap_err();
    assert!(
        matches!(
            refused,
            AccessError::NotConfirmed {
                why: "nobody has answered",
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(upstream.calls(), 0);
    assert!(
        broker.approvals(&me()).unwrap().waiting.is_empty(),
        "it is not asked any longer"
    );
}

#[tokio::test(start_paused = true)]
async fn another_user_gets_nothing_and_an_unknown_profile_names_the_nearest() {
    let (broker, upstream) = broker(LeaseLimit::Full, Scripted::default());
    let stranger = Peer::new(1001, None);
    assert!(matches!(
        broker.lease(&stranger, "dev").await,
        Err(AccessError::Denied(_))
    ));
    let refusal = broker.lease(&me(), "dve").await.unwrap_err();
    assert!(
        matches!(refusal, AccessError::UnknownProfile { nearest: Some(name), .. } if name == "dev")
    );
    let hostile = broker
        .lease(&me(), "\u{1b}[31m\n")
        .await
        .unwrap_err()
        .to_string();
    assert!(!hostile.contains(char::is_control), "{hostile:?}");
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn status_pages_hold_every_profile_once_and_fit_a_frame_at_their_longest() {
    use rolekeeper::protocol::{Reply, ReplyFrame, VERSION};
    let upstream = Box::new(Scripted {
        script: Mutex::new(
            std::iter::repeat_with(|| {
                Err(UpstreamError::Refused {
                    what: "\u{1F600}".repeat(5000),
                    why: RefusalKind::Other,
                })
            })
            .take(1000)
            .collect(),
        ),
        ..Scripted::default()
    });
    let upstream = UpstreamHandle::new(
        "bycloud".into(),
        UpstreamId::new(0),
        upstream,
        DEFAULT_CHECK,
    );
    let profiles = (0..1000).map(|number| {
        let name = ProfileName::parse(&format!("{number:0>64}")).unwrap();
        let role = RoleRequest {
            role_id: RoleId::parse(&"r".repeat(64)).unwrap(),
            duration: HOUR,
        };
        let profile = Profile::new(name, "u".repeat(64).into(), role);
        (profile, Arc::clone(&upstream))
    });
    let broker = Broker::new(
        Policy::of(UID),
        Cache::new(profiles),
        BTreeMap::new(),
        Stores::in_memory(),
        Clock::virtual_from(Timestamp::UNIX_EPOCH),
    );
    let names: Vec<String> = broker.cache.names().map(Into::into).collect();
    for name in &names {
        assert!(broker.lease(&me(), name).await.is_err());
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = broker.status(&me(), after.as_deref(), 8192);
        seen.extend(page.profiles.iter().map(|profile| profile.profile.clone()));
        after.clone_from(&page.next);
        rolekeeper::frame::encode(&ReplyFrame {
            v: VERSION,
            reply: Reply::Status(page),
        })
        .expect("it fits");
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, names);
}
