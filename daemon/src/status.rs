//! What `rolekeeper status` shows: a view of the broker, page by page. It shows ids and times, never a credential.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::{
    ClockStatus, DaemonStatus, Ending, FailingStatus, ProfileState, ProfileStatus, STATUS_PAGE,
    SessionStatus, StatusPage,
};

use crate::broker::Broker;
use crate::cache::Slot;
use crate::cache::state::State;
use crate::clock::{Boot, Now};
use crate::revoke::feed::{is_stale, view_age};
use crate::serve::peer::Peer;
use crate::upstream::gate::Gate;

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
        let is_for = |slot: &&Arc<Slot>| self.policy.is_for(peer, &slot.profile.callers);
        let slots: Vec<_> = self
            .cache
            .slots_after(after)
            .iter()
            .filter(is_for)
            .take(STATUS_PAGE + 1)
            .collect();
        let profiles: Vec<_> = slots
            .iter()
            .take(STATUS_PAGE)
            .map(|slot| profile_status(slot, &now))
            .collect();
        let next = profiles
            .last()
            .filter(|_| slots.len() > STATUS_PAGE)
            .map(|last| last.profile.clone());
        let daemon = DaemonStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: now.boot.since(self.started_at).as_secs(),
            connections,
            endpoints: BTreeMap::new(),
            protection: Some(crate::confine::protection()),
            clocks: self.clocks(&now),
        };
        StatusPage {
            daemon,
            profiles,
            next,
        }
    }

    fn clocks(&self, now: &Now) -> Vec<ClockStatus> {
        let of = |gate: &Gate| {
            let ahead_seconds = gate.upstream.server_clock().wall_ahead(now).as_secs();
            (ahead_seconds.abs() >= SKEW).then(|| ClockStatus {
                upstream: gate.name.to_string(),
                ahead_seconds,
            })
        };
        // A page has to fit a frame.
        self.gates
            .values()
            .filter_map(|gate| of(gate))
            .take(CLOCKS)
            .collect()
    }
}

fn profile_status(slot: &Slot, now: &Now) -> ProfileStatus {
    let (held, hold) = (slot.session(), slot.standing.hold());
    let state = match (slot.lookup(now.boot), &held) {
        (State::Fresh(_), _) => ProfileState::Fresh,
        (State::Aging(_), _) => ProfileState::Aging,
        _ if hold.is_some() => ProfileState::Held,
        (State::Expired, Some(_)) => ProfileState::Expired,
        (State::Expired, None) => ProfileState::Idle,
    };
    let until = |at: Boot| seconds_until(at.since(now.boot));
    let session = held.map(|session| {
        let left = session.left(now.boot, slot.gate.upstream.server_clock());
        // What is planned for a session that nobody wants is to forget it.
        let view_age = view_age(slot, &session, now.boot);
        let refreshed_at = slot.plan.at().filter(|_| slot.is_wanted(now));
        SessionStatus {
            id: session.granted.session_id.to_string(),
            age_seconds: now.boot.since(session.obtained_at).as_secs(),
            left_seconds: left.as_secs(),
            next_refresh_seconds: refreshed_at.map(until),
            is_left_to_expire: slot.use_left(now).is_zero(),
            view_age_seconds: view_age.as_secs(),
            is_view_stale: is_stale(slot, view_age),
            view_failure: slot.gate.feed.failure().map(short),
        }
    });
    // Its own failure, or its upstream's: nothing is tried before both may.
    let own = slot.health(|health| health.failing().cloned());
    let failing = own
        .into_iter()
        .chain(slot.gate.failing())
        .max_by_key(|failing| failing.next_try);
    ProfileStatus {
        profile: slot.profile.name.to_string(),
        upstream: slot.profile.upstream.to_string(),
        role_id: slot.profile.role.role_id.as_str().into(),
        state,
        session,
        failing: failing.map(|failing| FailingStatus {
            since_seconds: now.boot.since(failing.since).as_secs(),
            attempts: failing.attempts,
            next_try_seconds: until(failing.next_try),
            message: short(failing.error.to_string()),
        }),
        held: hold.map(|hold| Ending {
            reason: hold.reason.clone().map(short),
            ..Ending::clone(&hold)
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
