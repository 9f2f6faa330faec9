//! One machine: a daemon's broker, its consumers, and a checker of what every one of them is given.

use std::sync::{Arc, Mutex, PoisonError};
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

use crate::service::{Service, Weather};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// How often most machines here ask for revocations: seldom, so that a week does not take too long.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(150);
/// Never, for as long as a simulation takes.
pub(crate) const NEVER: Duration = Duration::from_secs(10_000 * 3600);
/// No session is given up for lost before this is left of it: the margin, a second because a `Date` has whole ones, and a
/// slow round trip. For a session's own round trip, which may have been slept through, see [`Machine::surely_left`].
const SURELY: Duration = Duration::from_secs(15 + 1 + 4);

pub(crate) struct Machine {
    pub(crate) clock: Clock,
    pub(crate) daemon: Daemon,
    pub(crate) services: Vec<Service>,
    consumers: Vec<Consumer>,
}

/// Who asks for one profile.
struct Consumer {
    profile: String,
    service: Service,
    peer: Peer,
    /// The last session that it was given.
    session: Mutex<Option<Arc<Session>>>,
}

/// What somebody got who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Got {
    Lease,
    /// With this code.
    Refused(&'static str),
}

pub(crate) async fn pass(span: Duration) {
    tokio::time::sleep(span).await;
}

/// From 0 to `most`, most of them small.
pub(crate) fn some(most: Duration) -> Duration {
    most.mul_f64(fastrand::f64().powi(2))
}

impl Machine {
    /// Profiles in turn of as many services, with lives and leases of all kinds.
    pub(crate) fn new(profiles: usize, services: usize, journal: Journal) -> Self {
        let clock = Clock::virtual_from(Timestamp::from_second(1_700_000_000).expect("a time"));
        Self::on(clock, profiles, services, journal, CHECK_EVERY, |number| {
            let lives = [Duration::from_secs(900), HOUR, HOUR, HOUR, HOUR * 12];
            let leases = [LeaseLimit::Balanced, LeaseLimit::Full, LeaseLimit::Strict];
            (
                lives[number / services % lives.len()],
                leases[number / services % leases.len()],
            )
        })
    }

    pub(crate) fn on(
        clock: Clock,
        profiles: usize,
        services: usize,
        journal: Journal,
        check_every: Duration,
        kind: impl Fn(usize) -> (Duration, LeaseLimit),
    ) -> Self {
        let services: Vec<_> = (0..services)
            .map(|number| Service::new(&clock, number))
            .collect();
        let upstreams: Vec<_> = services
            .iter()
            .zip(0..)
            .map(|(service, number)| {
                let name = format!("u{number}").into();
                UpstreamHandle::new(
                    name,
                    UpstreamId::new(number),
                    Box::new(service.clone()),
                    check_every,
                )
            })
            .collect();
        let profile = |number: usize| {
            let upstream = &upstreams[number % upstreams.len()];
            let (duration, lease) = kind(number);
            let name = ProfileName::parse(&format!("p{number}")).expect("a name");
            let role = RoleRequest {
                role_id: RoleId::parse(&format!("r{number}")).expect("an id"),
                duration,
            };
            let profile = Profile {
                lease,
                ..Profile::new(name, Arc::clone(&upstream.name), role)
            };
            (profile, Arc::clone(upstream))
        };
        let profiles_of_upstreams = (0..profiles).map(profile).collect();
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

        let consumer = |number: usize| Consumer {
            profile: format!("p{number}"),
            service: services[number % services.len()].clone(),
            peer: Peer::new(1, None),
            session: Mutex::default(),
        };
        Self {
            consumers: (0..profiles).map(consumer).collect(),
            clock,
            daemon,
            services,
        }
    }

    pub(crate) fn time(&self) -> &VirtualTime {
        let Clock::Virtual(time) = &self.clock else {
            unreachable!("time is virtual here")
        };
        time
    }

    /// What is truly left of the last session that this profile's consumer was given.
    pub(crate) fn left(&self, number: usize) -> Duration {
        let Consumer {
            session, service, ..
        } = &self.consumers[number];
        let session = session.lock().unwrap_or_else(PoisonError::into_inner);
        session.as_ref().map_or(Duration::ZERO, |session| {
            service.left(&session.issued.session_id)
        })
    }

    /// What is left of it if it was issued as soon as it was asked for, which is all that can be known here.
    fn surely_left(&self, number: usize) -> Duration {
        let session = self.consumers[number]
            .session
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
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

    /// The last session that this profile's consumer was given.
    pub(crate) fn given(&self, number: usize) -> Option<String> {
        let session = self.consumers[number]
            .session
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        session
            .as_ref()
            .map(|session| session.issued.session_id.to_string())
    }

    /// It is over, and its consumer knows that another one has to be waited for. Returns which it was.
    pub(crate) fn forget(&self, number: usize) -> Option<String> {
        let session = self.consumers[number]
            .session
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        session.map(|session| session.issued.session_id.to_string())
    }

    /// A strict profile, and it has not been known for a while whether its session was revoked: it is looked at first.
    pub(crate) fn is_blind(&self, number: usize) -> bool {
        let entry = self.entry(number);
        let age = |session: Arc<Session>| {
            self.daemon
                .services
                .revocation
                .view_age(entry, &session, self.clock.now().boot)
        };
        entry.profile.lease == LeaseLimit::Strict
            && entry.session().map(age) > Some(entry.profile.max_view_age)
    }

    /// Somebody waits for its first session.
    pub(crate) fn is_fetching(&self, number: usize) -> bool {
        self.services[0].truth().is_under_way(&format!("r{number}"))
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

    /// A consumer asks for a profile, and everything that was promised is checked.
    pub(crate) async fn ask(&self, number: usize) -> Got {
        let consumer = &self.consumers[number];
        let held = self.surely_left(number);
        let mut asking = std::pin::pin!(self.lease(consumer));
        let answer = match asking.as_mut().now_or_never() {
            Some(answer) => answer,
            None => {
                let may_wait = held < SURELY || self.is_blind(number);
                assert!(
                    may_wait,
                    "{} waits with {held:?} left of what it was given",
                    consumer.profile
                );
                let asked = self.clock.now().awake;
                let answer = asking.await;
                let waited = self.clock.now().awake.saturating_sub(asked);
                assert!(
                    waited <= WAIT + Duration::from_secs(1),
                    "it waited for {waited:?}"
                );
                answer
            }
        };
        match answer {
            Ok(lease) => {
                self.check(consumer, &lease);
                Got::Lease
            }
            Err(refusal) => {
                let may_refuse = held < SURELY
                    || matches!(
                        refusal,
                        RequestError::ViewStale { .. } | RequestError::Held { .. }
                    );
                assert!(
                    may_refuse,
                    "{}: {refusal} with {held:?} left",
                    consumer.profile
                );
                self.check_refusal(consumer, &refusal);
                Got::Refused(refusal.failure().code.as_str())
            }
        }
    }

    /// Neither served in its last seconds, nor advertised for longer than it lives.
    fn check(&self, consumer: &Consumer, lease: &Lease) {
        let id = &lease.session.issued.session_id;
        let left = consumer.service.left(id);
        assert!(
            left >= MARGIN,
            "{} is given {id}, of which {left:?} is left",
            consumer.profile
        );
        let advertised = lease.expires_at.duration_since(self.clock.now().wall);
        let advertised = Duration::try_from(advertised).expect("it ends in the future");
        assert!(
            advertised <= left,
            "{id} is advertised for {advertised:?} and lives for {left:?}"
        );
        *consumer
            .session
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&lease.session));
    }

    /// It says when there will be another try, and that is soon enough.
    fn check_refusal(&self, consumer: &Consumer, refusal: &RequestError) {
        match refusal {
            RequestError::Upstream(failing, now) => {
                let wait = failing.next_try.since(now.boot);
                assert!(
                    wait <= Duration::from_secs(600),
                    "{}: the next try is in {wait:?}",
                    consumer.profile
                );
                assert!(failing.since <= now.boot && failing.attempts > 0);
            }
            RequestError::Held { .. } => {}
            RequestError::ViewStale { age, .. } => assert!(*age > DEFAULT_VIEW_AGE),
            RequestError::StillWaiting => assert!(matches!(
                consumer.service.truth().weather,
                Weather::Silent | Weather::Fair | Weather::Overloaded(_) | Weather::Captive
            )),
            other => panic!("{}: {other}", consumer.profile),
        }
    }
}
