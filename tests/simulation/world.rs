//! One machine: a daemon, its consumers, and a checker of every lease that they get.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use rolekeeperd::access::NoInteraction;
use rolekeeperd::access::peer::Peer;
use rolekeeperd::access::policy::Policy;
use rolekeeperd::app::daemon::Daemon;
use rolekeeperd::app::stores::Stores;
use rolekeeperd::cache::CacheEntry;
use rolekeeperd::cache::freshness::Freshness;
use rolekeeperd::cache::session::Session;
use rolekeeperd::clock::{Clock, Timer, VirtualTime};
use rolekeeperd::config::{
    DEFAULT_VIEW_AGE, LeaseLimit, Profile, ProfileName, RoleId, RoleRequest,
};
use rolekeeperd::credentials::Lease;
use rolekeeperd::error::{RequestError, WAIT};
use rolekeeperd::journal::Journal;
use rolekeeperd::model::{MARGIN, UpstreamId};
use rolekeeperd::upstream::handle::UpstreamHandle;

use crate::service::{Fault, Service};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// The poll interval of most machines: long, so that simulating a week takes less time.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(150);
/// A poll interval that is longer than any simulation.
pub(crate) const NEVER: Duration = Duration::from_secs(10_000 * 3600);
/// A session with more than this left is not expired by the daemon's estimate: the margin, a second because a `Date` has
/// whole seconds, and a slow round trip. For the session's own round trip, see [`Machine::certainly_left`].
const UNCERTAINTY: Duration = Duration::from_secs(15 + 1 + 4);

pub(crate) struct Machine {
    pub(crate) clock: Clock,
    pub(crate) daemon: Daemon,
    pub(crate) services: Vec<Service>,
    consumers: Vec<Consumer>,
}

/// A tool that uses one profile.
struct Consumer {
    profile: String,
    service: Service,
    peer: Peer,
    /// The session of its last lease.
    session: Mutex<Option<Arc<Session>>>,
}

/// The result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Lease,
    /// With this code.
    Refused(&'static str),
}

/// Lets virtual time pass.
pub(crate) async fn sleep(span: Duration) {
    tokio::time::sleep(span).await;
}

/// From 0 to `max`. Small values are more frequent.
pub(crate) fn random_up_to(max: Duration) -> Duration {
    max.mul_f64(fastrand::f64().powi(2))
}

impl Consumer {
    fn session(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session_id(&self) -> Option<String> {
        let session = self.session();

        session.as_ref().map(|it| it.issued.session_id.to_string())
    }
}

impl Machine {
    /// Spreads the profiles over the services. Their durations and lease limits vary.
    pub(crate) fn new(profiles: usize, services: usize, journal: Journal) -> Self {
        let clock = Clock::virtual_from(Timestamp::from_second(1_700_000_000).expect("a time"));

        Self::with_clock(clock, profiles, services, journal, CHECK_EVERY, |number| {
            let durations = [Duration::from_secs(900), HOUR, HOUR, HOUR, HOUR * 12];
            let leases = [LeaseLimit::Balanced, LeaseLimit::Full, LeaseLimit::Strict];
            let index = number / services;

            (
                durations[index % durations.len()],
                leases[index % leases.len()],
            )
        })
    }

    pub(crate) fn with_clock(
        clock: Clock,
        profiles: usize,
        services: usize,
        journal: Journal,
        check_every: Duration,
        settings: impl Fn(usize) -> (Duration, LeaseLimit),
    ) -> Self {
        let services: Vec<_> = (0..services)
            .map(|number| Service::new(&clock, number))
            .collect();
        let upstreams: Vec<_> = services
            .iter()
            .zip(0..)
            .map(|(service, number)| upstream(service, number, check_every))
            .collect();

        let mut profiles_of_upstreams = Vec::new();
        let mut consumers = Vec::new();
        for number in 0..profiles {
            let upstream = &upstreams[number % upstreams.len()];
            let (duration, lease) = settings(number);
            let profile = profile(number, &upstream.name, duration, lease);
            profiles_of_upstreams.push((profile, Arc::clone(upstream)));

            consumers.push(Consumer {
                profile: format!("p{number}"),
                service: services[number % services.len()].clone(),
                peer: Peer::new(1, None),
                session: Mutex::default(),
            });
        }

        let stores = Stores {
            journal,
            ..Stores::in_memory()
        };
        let daemon = Daemon::new(
            Policy::of(1),
            profiles_of_upstreams,
            upstreams,
            stores,
            clock.clone(),
        );
        daemon.start_scheduler(Timer::new(&clock).expect("a timer"));

        Self {
            clock,
            daemon,
            services,
            consumers,
        }
    }

    pub(crate) fn time(&self) -> &VirtualTime {
        let Clock::Virtual(time) = &self.clock else {
            unreachable!("time is virtual here")
        };
        time
    }

    /// The true remaining lifetime of the consumer's last session.
    pub(crate) fn left(&self, number: usize) -> Duration {
        let consumer = &self.consumers[number];

        match consumer.session_id() {
            Some(id) => consumer.service.left(&id),
            None => Duration::ZERO,
        }
    }

    /// The same if the session was issued at the start of its round trip, which is all that the daemon can know.
    fn certainly_left(&self, number: usize) -> Duration {
        let session = self.consumers[number].session().clone();
        let round_trip = session.map_or(Duration::ZERO, |session| {
            session.received_at.since(session.obtained_at)
        });

        self.left(number).saturating_sub(round_trip)
    }

    pub(crate) fn entry(&self, number: usize) -> &Arc<CacheEntry> {
        self.daemon
            .cache
            .find(&self.consumers[number].profile)
            .expect("it is configured")
    }

    pub(crate) fn service(&self, number: usize) -> &Service {
        &self.consumers[number].service
    }

    pub(crate) fn peer(&self, number: usize) -> &Peer {
        &self.consumers[number].peer
    }

    /// The id of the consumer's last session.
    pub(crate) fn session_id(&self, number: usize) -> Option<String> {
        self.consumers[number].session_id()
    }

    /// Forgets the consumer's last session after its end, so that the consumer may wait for another. Returns its id.
    pub(crate) fn take_session_id(&self, number: usize) -> Option<String> {
        let session = self.consumers[number].session().take();

        session.map(|session| session.issued.session_id.to_string())
    }

    /// Whether the profile is strict, and its last poll is too long ago: a request then waits for a poll.
    pub(crate) fn is_view_stale(&self, number: usize) -> bool {
        let entry = self.entry(number);
        let Some(session) = entry.session() else {
            return false;
        };
        let now = self.clock.now().boot;
        let age = self
            .daemon
            .services
            .revocation
            .view_age(entry, &session, now);

        entry.profile.lease == LeaseLimit::Strict
            && age.is_some_and(|age| age > entry.profile.max_view_age)
    }

    /// Whether a fetch for the profile is in progress.
    pub(crate) fn is_fetching(&self, number: usize) -> bool {
        self.services[0]
            .truth()
            .is_in_progress(&format!("r{number}"))
    }

    pub(crate) fn is_fresh(&self, number: usize) -> bool {
        let entry = self.entry(number);

        matches!(entry.lookup(self.clock.now().boot), Freshness::Fresh(_))
    }

    async fn lease(&self, consumer: &Consumer) -> Result<Lease, RequestError> {
        self.daemon
            .services
            .lease(&consumer.peer, &consumer.profile, &mut NoInteraction)
            .await
    }

    /// A consumer requests a lease. Checks everything that the daemon promises about the result.
    pub(crate) async fn request(&self, number: usize) -> Outcome {
        let consumer = &self.consumers[number];
        let left = self.certainly_left(number);

        let mut lease = std::pin::pin!(self.lease(consumer));
        let result = match lease.as_mut().now_or_never() {
            Some(result) => result,
            None => {
                let may_wait = left < UNCERTAINTY || self.is_view_stale(number);
                let profile = &consumer.profile;
                assert!(may_wait, "{profile} waits, and its session has {left:?}");

                let started = self.clock.now().awake;
                let result = lease.await;
                let waited = self.clock.now().awake.saturating_sub(started);
                let limit = WAIT + Duration::from_secs(1);
                assert!(waited <= limit, "{profile} waited for {waited:?}");
                result
            }
        };

        match result {
            Ok(lease) => {
                check_lease(consumer, &lease, self.clock.now().wall);
                *consumer.session() = Some(Arc::clone(&lease.session));
                Outcome::Lease
            }
            Err(refusal) => {
                check_refusal(consumer, &refusal, left);
                Outcome::Refused(refusal.failure().code.as_str())
            }
        }
    }
}

fn upstream(service: &Service, number: u32, check_every: Duration) -> Arc<UpstreamHandle> {
    UpstreamHandle::new(
        format!("u{number}").into(),
        UpstreamId::new(number),
        Box::new(service.clone()),
        check_every,
    )
}

fn profile(number: usize, upstream: &Arc<str>, duration: Duration, lease: LeaseLimit) -> Profile {
    let name = ProfileName::parse(&format!("p{number}")).expect("a name");
    let role = RoleRequest::bycloud(
        RoleId::parse(&format!("r{number}")).expect("an id"),
        duration,
    );

    Profile {
        lease,
        ..Profile::new(name, Arc::clone(upstream), role)
    }
}

/// A session is not leased in its last seconds, and its advertised expiry is not later than the true one.
fn check_lease(consumer: &Consumer, lease: &Lease, now: Timestamp) {
    let id = &lease.session.issued.session_id;
    let left = consumer.service.left(id);
    assert!(
        left >= MARGIN,
        "{} is leased {id}, which has {left:?} left",
        consumer.profile
    );

    let advertised = lease.expires_at.duration_since(now);
    let advertised = Duration::try_from(advertised).expect("it ends in the future");
    assert!(
        advertised <= left,
        "{id} is advertised for {advertised:?} and has {left:?} left"
    );
}

/// A refusal needs a reason. If an upstream fails, the next try is soon.
fn check_refusal(consumer: &Consumer, refusal: &RequestError, left: Duration) {
    let profile = &consumer.profile;
    let is_by_revocation = matches!(
        refusal,
        RequestError::ViewStale { .. } | RequestError::Held { .. }
    );
    assert!(
        left < UNCERTAINTY || is_by_revocation,
        "{profile}: {refusal}, and its session has {left:?}"
    );

    match refusal {
        RequestError::Upstream(failing, now, _) => {
            let wait = failing.next_try.since(now.boot);
            let limit = Duration::from_secs(600);
            assert!(wait <= limit, "{profile}: the next try is in {wait:?}");
            assert!(failing.since <= now.boot && failing.attempts > 0);
        }
        RequestError::Held { .. } => {}
        RequestError::ViewStale { age, .. } => assert!(*age > DEFAULT_VIEW_AGE),
        RequestError::StillWaiting => assert!(matches!(
            consumer.service.truth().fault,
            Fault::Unresponsive | Fault::None | Fault::Overloaded(_) | Fault::CaptivePortal
        )),
        other => panic!("{profile}: {other}"),
    }
}
