//! What `rolekeeper status` shows: a view of the broker, page by page. It shows ids and times, never a credential.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::{
    ClockStatus, DaemonStatus, FailureStatus, ProfileState, ProfileStatus, STATUS_PAGE,
    SessionEnded, SessionStatus, StatusPage,
};

use crate::access::peer::Peer;
use crate::cache::CacheEntry;
use crate::cache::freshness::Freshness;
use crate::clock::{BootTime, Now};
use crate::credentials::Broker;
use crate::revocation::poller::{is_stale, view_age};
use crate::upstream::handle::UpstreamHandle;

/// The most of a failure's message, in characters: it also keeps a page within a frame.
const MESSAGE_CAP: usize = 300;
/// Clocks that are further apart than this are told of, in seconds.
const SKEW: i64 = 60;
/// The most of them.
const CLOCKS: usize = 20;

impl Broker {
    /// The profiles behind `after` that are for this peer's user, in order of name.
    pub fn status(&self, peer: &Peer, after: Option<&str>, connections: usize) -> StatusPage {
        let now = self.clock.now();
        let is_for = |entry: &&Arc<CacheEntry>| self.policy.is_for(peer, &entry.profile.callers);
        let entries: Vec<_> = self
            .cache
            .entries_after(after)
            .iter()
            .filter(is_for)
            .take(STATUS_PAGE + 1)
            .collect();
        let profiles: Vec<_> = entries
            .iter()
            .take(STATUS_PAGE)
            .map(|entry| profile_status(entry, &now))
            .collect();
        let next = profiles
            .last()
            .filter(|_| entries.len() > STATUS_PAGE)
            .map(|last| last.profile.clone());
        let daemon = DaemonStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: now.boot.since(self.started_at).as_secs(),
            connections,
            endpoints: BTreeMap::new(),
            protection: Some(crate::sandbox::protection()),
            clocks: self.clocks(&now),
        };
        StatusPage {
            daemon,
            profiles,
            next,
        }
    }

    fn clocks(&self, now: &Now) -> Vec<ClockStatus> {
        let of = |upstream: &UpstreamHandle| {
            let ahead_seconds = upstream.client.server_clock().wall_ahead(now).as_secs();
            (ahead_seconds.abs() >= SKEW).then(|| ClockStatus {
                upstream: upstream.name.to_string(),
                ahead_seconds,
            })
        };
        // A page has to fit a frame.
        self.upstreams
            .values()
            .filter_map(|upstream| of(upstream))
            .take(CLOCKS)
            .collect()
    }
}

fn profile_status(entry: &CacheEntry, now: &Now) -> ProfileStatus {
    let (held, hold) = (entry.session(), entry.state.hold());
    let state = match (entry.lookup(now.boot), &held) {
        (Freshness::Fresh(_), _) => ProfileState::Fresh,
        (Freshness::Aging(_), _) => ProfileState::Aging,
        _ if hold.is_some() => ProfileState::Held,
        (Freshness::Expired, Some(_)) => ProfileState::Expired,
        (Freshness::Expired, None) => ProfileState::Idle,
    };
    let until = |at: BootTime| seconds_until(at.since(now.boot));
    let session = held.map(|session| {
        let left = session.left(now.boot, entry.upstream.client.server_clock());
        // What is planned for a session that nobody wants is to forget it.
        let view_age = view_age(entry, &session, now.boot);
        let refreshed_at = entry.plan.at().filter(|_| entry.is_wanted(now));
        SessionStatus {
            id: session.granted.session_id.to_string(),
            age_seconds: now.boot.since(session.obtained_at).as_secs(),
            left_seconds: left.as_secs(),
            next_refresh_seconds: refreshed_at.map(until),
            is_left_to_expire: entry.use_left(now).is_zero(),
            view_age_seconds: view_age.as_secs(),
            is_view_stale: is_stale(entry, view_age),
            view_failure: entry.upstream.feed.failure().map(short),
        }
    });
    // Its own failure, or its upstream's: nothing is tried before both may.
    let own = entry.health(|health| health.failing().cloned());
    let failing = own
        .into_iter()
        .chain(entry.upstream.failing())
        .max_by_key(|failing| failing.next_try);
    ProfileStatus {
        profile: entry.profile.name.to_string(),
        upstream: entry.profile.upstream.to_string(),
        role_id: entry.profile.role.role_id.as_str().into(),
        state,
        session,
        failing: failing.map(|failing| FailureStatus {
            since_seconds: now.boot.since(failing.since).as_secs(),
            attempts: failing.attempts,
            next_try_seconds: until(failing.next_try),
            message: short(failing.error.to_string()),
        }),
        held: hold.map(|hold| SessionEnded {
            reason: hold.reason.clone().map(short),
            ..SessionEnded::clone(&hold)
        }),
    }
}

fn short(message: String) -> String {
    match message.char_indices().nth(MESSAGE_CAP) {
        Some((end, _)) => message[..end].into(),
        None => message,
    }
}

/// Rounded up: what is said to happen in 5 s has not happened before.
fn seconds_until(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}
