//! What `rolekeeper status` prints, page by page: ids and times, never a credential.

use std::collections::BTreeMap;
use std::sync::Arc;

use rolekeeper::protocol::{
    ClockStatus, DaemonStatus, FailureStatus, ProfileState, ProfileStatus, STATUS_PAGE,
    SessionStatus, StatusPage,
};

use crate::access::Access;
use crate::access::peer::Peer;
use crate::cache::freshness::Freshness;
use crate::cache::session::Session;
use crate::cache::{Cache, CacheEntry};
use crate::clock::{BootTime, Clock, Now};
use crate::report;
use crate::revocation::RevocationService;
use crate::revocation::poller::is_stale;
use crate::upstream::Upstreams;
use crate::upstream::handle::UpstreamHandle;

/// The most of a failure's message, in characters. It keeps a page within a frame.
const MAX_MESSAGE: usize = 300;
/// Clocks that differ by at least this much are reported, in seconds.
const MIN_SKEW: i64 = 60;
/// The most clocks in a page, so that it fits a frame.
const MAX_CLOCKS: usize = 20;

#[derive(Debug)]
pub struct StatusService {
    access: Arc<Access>,
    cache: Arc<Cache>,
    upstreams: Arc<Upstreams>,
    clock: Clock,
    revocation: Arc<RevocationService>,
    started_at: BootTime,
}

impl StatusService {
    pub(crate) fn new(
        access: Arc<Access>,
        cache: Arc<Cache>,
        upstreams: Arc<Upstreams>,
        clock: Clock,
        revocation: Arc<RevocationService>,
    ) -> Arc<Self> {
        Arc::new(Self {
            started_at: clock.now().boot,
            access,
            cache,
            upstreams,
            clock,
            revocation,
        })
    }

    /// The profiles behind `after` that the peer's user may see, in order of name.
    pub fn page(&self, peer: &Peer, after: Option<&str>, connections: usize) -> StatusPage {
        let now = self.clock.now();
        let mut visible = self
            .cache
            .entries_after(after)
            .iter()
            .filter(|entry| self.access.can_view(peer, entry));

        let profiles: Vec<_> = visible
            .by_ref()
            .take(STATUS_PAGE)
            .map(|entry| self.profile(entry, &now))
            .collect();
        let last = profiles.last().map(|last| last.profile.clone());

        StatusPage {
            daemon: self.daemon(connections, &now),
            profiles,
            next: last.filter(|_| visible.next().is_some()),
        }
    }

    fn daemon(&self, connections: usize, now: &Now) -> DaemonStatus {
        DaemonStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: now.boot.since(self.started_at).as_secs(),
            connections,
            endpoints: BTreeMap::new(),
            protection: Some(crate::sandbox::protection()),
            clocks: self
                .upstreams
                .iter()
                .filter_map(|upstream| clock_status(upstream, now))
                .take(MAX_CLOCKS)
                .collect(),
        }
    }

    fn profile(&self, entry: &CacheEntry, now: &Now) -> ProfileStatus {
        ProfileStatus {
            profile: entry.profile.name.to_string(),
            upstream: entry.profile.upstream.to_string(),
            role_id: entry.profile.role.role_id.as_str().into(),
            region: entry
                .profile
                .region
                .as_ref()
                .map(|region| region.as_str().to_owned()),
            state: profile_state(entry, now),
            session: entry
                .session()
                .map(|session| self.session(entry, &session, now)),
            failure: failure_status(entry, now),
            held: entry.state.hold().map(|ended| {
                let mut ended = report::session_ended(&ended);
                ended.reason = ended.reason.map(shorten);
                ended
            }),
        }
    }

    fn session(&self, entry: &CacheEntry, session: &Session, now: &Now) -> SessionStatus {
        let left = session.left(now.boot, entry.upstream.client.server_clock());
        let view_age = self.revocation.view_age(entry, session, now.boot);
        // The timer of a session that is not wanted evicts it.
        let refresh_at = entry.timer.at().filter(|_| entry.is_wanted(now));

        SessionStatus {
            id: session.id().to_owned(),
            age_seconds: now.boot.since(session.obtained_at).as_secs(),
            expires_in_seconds: left.as_secs(),
            refresh_in_seconds: refresh_at.map(|at| seconds_until(at, now)),
            is_unused: entry.use_left(now).is_zero(),
            view_age_seconds: view_age.as_secs(),
            is_view_stale: is_stale(entry, view_age),
            view_failure: self.revocation.poll_failure(&entry.upstream).map(shorten),
        }
    }
}

fn clock_status(upstream: &UpstreamHandle, now: &Now) -> Option<ClockStatus> {
    let ahead_seconds = upstream.client.server_clock().wall_ahead(now).as_secs();

    (ahead_seconds.abs() >= MIN_SKEW).then(|| ClockStatus {
        upstream: upstream.name.to_string(),
        ahead_seconds,
    })
}

fn profile_state(entry: &CacheEntry, now: &Now) -> ProfileState {
    match entry.lookup(now.boot) {
        Freshness::Fresh(_) => ProfileState::Fresh,
        Freshness::Aging(_) => ProfileState::Aging,
        Freshness::Expired if entry.state.hold().is_some() => ProfileState::Held,
        Freshness::Expired if entry.session().is_some() => ProfileState::Expired,
        Freshness::Expired => ProfileState::Idle,
    }
}

/// The profile's own failure or its upstream's, whichever is retried later: nothing is tried before both may be.
fn failure_status(entry: &CacheEntry, now: &Now) -> Option<FailureStatus> {
    let own = entry.backoff(|backoff| backoff.state().cloned());
    let failure = own
        .into_iter()
        .chain(entry.upstream.outage())
        .max_by_key(|failure| failure.next_try)?;

    Some(FailureStatus {
        since_seconds: now.boot.since(failure.since).as_secs(),
        attempts: failure.attempts,
        retry_in_seconds: seconds_until(failure.next_try, now),
        message: shorten(failure.error.to_string()),
    })
}

fn shorten(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
    }

    message
}

/// Rounded up: what is announced for 5 s has not happened before.
fn seconds_until(at: BootTime, now: &Now) -> u64 {
    let span = at.since(now.boot);
    let part = if span.subsec_nanos() > 0 { 1 } else { 0 };

    span.as_secs() + part
}
