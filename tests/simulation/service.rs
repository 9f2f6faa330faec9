//! A scripted upstream. It records the sessions that it issues and the calls that it gets.

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
    IssuedSession, IssuedSessionStatus, RefusalKind, SessionRegistry, Upstream, UpstreamError,
};

/// The message of a refusal, by which the failure table recognizes one.
pub(crate) const REFUSAL: &str = "no";

/// How the service fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Connections fail at once.
    Unreachable,
    /// A call times out after 30 s.
    Unresponsive,
    /// The service's own error, with or without a `Retry-After`.
    Overloaded(Option<Duration>),
    /// A captive portal responds, with a `Date` of its own.
    CaptivePortal,
    /// The service rejects the token.
    TokenRefused,
    /// The service does not allow the role.
    RoleRefused,
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

/// The state of the service, which a checker may know and the daemon may not.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) fault: Fault,
    /// The latency of a call. Unless the range is empty, a few calls take ten times as long.
    pub(crate) latency: std::ops::Range<Duration>,
    /// Time that this machine did not count, such as the pause of a virtual machine.
    pub(crate) uncounted: Duration,
    /// The error of its `Date`.
    pub(crate) date_error: SignedDuration,
    /// The end of every session, in true time.
    pub(crate) ends: BTreeMap<String, Duration>,
    /// The same, sorted by end.
    by_end: BTreeSet<(Duration, String)>,
    /// The calls of the last minute for each role, in boot time: at most 12.
    recent: BTreeMap<String, VecDeque<BootTime>>,
    /// The roles with a call in progress: at most one call for each.
    in_progress: BTreeSet<String>,
    /// The number of calls for each role.
    pub(crate) by_role: BTreeMap<String, usize>,
    /// Every call, in boot time.
    pub(crate) calls: Vec<BootTime>,
    pub(crate) granted: usize,
    /// The revoked sessions, and when they were revoked, in boot time.
    pub(crate) revoked: BTreeMap<String, BootTime>,
    /// The polls for active sessions, in boot time.
    pub(crate) polls: Vec<BootTime>,
    /// The part of `uncounted` that a `Date` of the service has revealed.
    pub(crate) reported: Duration,
    pub(crate) max_concurrent: usize,
}

impl Truth {
    pub(crate) fn is_in_progress(&self, role: &str) -> bool {
        self.in_progress.contains(role)
    }
}

impl Service {
    pub(crate) fn new(clock: &Clock, number: usize) -> Self {
        let truth = Truth {
            fault: Fault::None,
            latency: Duration::from_millis(20)..Duration::from_millis(400),
            uncounted: Duration::ZERO,
            date_error: SignedDuration::ZERO,
            ends: BTreeMap::new(),
            by_end: BTreeSet::new(),
            recent: BTreeMap::new(),
            in_progress: BTreeSet::new(),
            by_role: BTreeMap::new(),
            calls: Vec::new(),
            granted: 0,
            revoked: BTreeMap::new(),
            polls: Vec::new(),
            reported: Duration::ZERO,
            max_concurrent: 0,
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
        self.0.clock.now().boot.since_start() + self.truth().uncounted
    }

    /// The true remaining lifetime of a session.
    pub(crate) fn left(&self, session: &str) -> Duration {
        let end = self.truth().ends.get(session).copied();
        let end = end.expect("the service issued this session");

        end.saturating_sub(self.true_now())
    }

    fn boot(&self) -> BootTime {
        self.0.clock.now().boot
    }

    /// The service's own time. It differs from this machine's by years.
    fn service_time(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time") + self.true_now()
    }

    /// The `Date` of a reply, in whole seconds.
    fn date(&self) -> Timestamp {
        let date = self.service_time() + self.truth().date_error;

        Timestamp::from_second(date.as_second()).expect("a time")
    }

    fn latency(&self) -> Duration {
        let range = self.truth().latency.clone();
        let is_slow = !range.is_empty() && fastrand::u8(..) < 5;
        let factor = if is_slow { 10 } else { 1 };
        let latency = range.start + (range.end - range.start).mul_f64(fastrand::f64());

        latency * factor
    }

    /// A reply of the service itself, with its `Date`. The service acts after half of the round trip.
    async fn reply<T>(&self, sent: BootTime, act: impl FnOnce() -> T) -> T {
        let half = self.latency() / 2;
        tokio::time::sleep(half).await;

        let reply = act();
        let date = self.date();
        let uncounted = self.truth().uncounted;
        tokio::time::sleep(half).await;

        self.0.server_clock.dated(date, sent, self.boot());
        self.truth().reported = uncounted;
        reply
    }

    async fn fail<T>(&self, fault: Fault, sent: BootTime) -> Result<T, UpstreamError> {
        match fault {
            Fault::None => unreachable!("the service has no fault"),
            Fault::Unreachable => Err(unavailable(None)),
            Fault::Unresponsive => {
                tokio::time::sleep(Duration::from_secs(30)).await;
                Err(unavailable(None))
            }
            Fault::CaptivePortal => {
                tokio::time::sleep(self.latency()).await;
                Err(unavailable(None))
            }
            Fault::Overloaded(retry_after) => {
                self.reply(sent, || Err(unavailable(retry_after))).await
            }
            Fault::RoleRefused => {
                let error = UpstreamError::Refused {
                    what: REFUSAL.into(),
                    kind: RefusalKind::Other,
                };
                self.reply(sent, || Err(error)).await
            }
            Fault::TokenRefused => {
                let error = UpstreamError::LoginNeeded {
                    what: REFUSAL.into(),
                    hint: "use a new token".into(),
                };
                self.reply(sent, || Err(error)).await
            }
        }
    }

    /// Records a call, and checks the limits on calls.
    fn record_call(&self, role: &str, sent: BootTime) {
        let mut truth = self.truth();
        truth.calls.push(sent);
        *truth.by_role.entry(role.into()).or_default() += 1;

        let is_only = truth.in_progress.insert(role.into());
        assert!(is_only, "{role} has two calls at a time");

        truth.max_concurrent = truth.max_concurrent.max(truth.in_progress.len());
        let concurrent = truth.max_concurrent;
        assert!(concurrent <= MAX_CALLS, "{concurrent} calls at a time");

        let recent = truth.recent.entry(role.into()).or_default();
        recent.push_back(sent);
        if recent.len() > 12 {
            let first = recent.pop_front().expect("there are 13");
            let span = sent.since(first);
            assert!(
                span >= Duration::from_secs(60),
                "{role}: 13 calls within {span:?}"
            );
        }
    }

    async fn issue(&self, role: &RoleRequest) -> Result<IssuedSession, UpstreamError> {
        let sent = self.boot();
        let fault = self.truth().fault;
        if fault != Fault::None {
            return self.fail(fault, sent).await;
        }

        self.reply(sent, || Ok(self.new_session(role))).await
    }

    fn new_session(&self, role: &RoleRequest) -> IssuedSession {
        let issued_at = self.service_time();
        let end = self.true_now() + role.duration;

        let mut truth = self.truth();
        truth.granted += 1;
        let session_id = format!("s-{}", truth.granted);
        truth.ends.insert(session_id.clone(), end);
        truth.by_end.insert((end, session_id.clone()));

        IssuedSession {
            session_id: session_id.into(),
            principal: "user/u-1".into(),
            access_key_id: "K".into(),
            secret_access_key: "S".into(),
            session_token: "T".into(),
            issued_at,
            expires_at: issued_at + role.duration,
        }
    }

    fn active_ids(&self) -> BTreeSet<Box<str>> {
        let now = self.true_now();
        let truth = self.truth();
        let unexpired = truth
            .by_end
            .range((now, String::new())..)
            .filter(|(end, _)| *end > now);
        let active = unexpired.filter(|(_, id)| !truth.revoked.contains_key(id));

        active.map(|(_, id)| id.as_str().into()).collect()
    }

    fn status(&self, session_id: &str) -> IssuedSessionStatus {
        let left = self.left(session_id);

        if self.truth().revoked.contains_key(session_id) {
            IssuedSessionStatus::Revoked {
                at: None,
                by: Some("user/admin".into()),
                reason: None,
            }
        } else if left.is_zero() {
            IssuedSessionStatus::Expired
        } else {
            IssuedSessionStatus::Active
        }
    }

    /// A call about sessions. A refused role does not affect it.
    async fn manage<T>(&self, sent: BootTime, act: impl FnOnce() -> T) -> Result<T, UpstreamError> {
        let fault = self.truth().fault;

        match fault {
            Fault::None | Fault::RoleRefused => Ok(self.reply(sent, act).await),
            fault => self.fail(fault, sent).await,
        }
    }
}

fn unavailable(retry_after: Option<Duration>) -> UpstreamError {
    UpstreamError::Unavailable {
        what: "it is unavailable".into(),
        retry_after,
        hint: None,
    }
}

impl Upstream for Service {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn assume<'a>(
        &'a self,
        role: &'a RoleRequest,
        _base: Option<&'a IssuedSession>,
    ) -> BoxFuture<'a, Result<IssuedSession, UpstreamError>> {
        async {
            let name = role.role.id();
            self.record_call(name, self.boot());

            let issued = self.issue(role).await;
            self.truth().in_progress.remove(name);
            issued
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
            let sent = self.boot();
            let fault = self.truth().fault;

            if fault == Fault::None {
                self.reply(sent, || Ok(())).await
            } else {
                self.fail(fault, sent).await
            }
        }
        .boxed()
    }

    fn session_registry(&self) -> Option<&dyn SessionRegistry> {
        Some(self)
    }
}

impl SessionRegistry for Service {
    fn active_sessions<'a>(
        &'a self,
        _principal: &'a str,
    ) -> BoxFuture<'a, Result<BTreeSet<Box<str>>, UpstreamError>> {
        async {
            let sent = self.boot();
            self.truth().polls.push(sent);

            self.manage(sent, || self.active_ids()).await
        }
        .boxed()
    }

    fn session_status<'a>(
        &'a self,
        session_id: &'a str,
    ) -> BoxFuture<'a, Result<IssuedSessionStatus, UpstreamError>> {
        async { self.manage(self.boot(), || self.status(session_id)).await }.boxed()
    }

    fn revoke<'a>(
        &'a self,
        id: &'a str,
        _reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), UpstreamError>> {
        async {
            self.manage(self.boot(), || {
                let now = self.boot();
                self.truth().revoked.entry(id.into()).or_insert(now);
            })
            .await
        }
        .boxed()
    }
}
