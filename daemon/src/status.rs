//! What `rolekeeper status` shows: a view of the broker, page by page. It shows ids and times, never a credential.

use std::time::Duration;

use rolekeeper::protocol::{
    DaemonStatus, FailingStatus, ProfileState, ProfileStatus, STATUS_PAGE, SessionStatus, StatusPage,
};

use crate::broker::Broker;
use crate::cache::Slot;
use crate::cache::state::State;
use crate::clock::Boot;

/// The most of a failure's message, in characters: it also keeps a page within a frame.
const MESSAGE_CAP: usize = 300;

impl Broker {
    /// The profiles behind `after`, in order of name.
    pub fn status(&self, after: Option<&str>, connections: usize) -> StatusPage {
        let now = self.clock.now().boot;
        let mut slots = self.cache.slots_after(after);
        let profiles: Vec<_> = slots.by_ref().take(STATUS_PAGE).map(|slot| self.profile_status(slot, now)).collect();
        let next = slots.next().and(profiles.last()).map(|last| last.profile.clone());
        let daemon = DaemonStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: now.since(self.started_at).as_secs(),
            connections,
        };
        StatusPage { daemon, profiles, next }
    }

    fn profile_status(&self, slot: &Slot, now: Boot) -> ProfileStatus {
        let session = slot.session();
        let state = match (State::of(session.clone(), now), &session) {
            (State::Fresh(_), _) => ProfileState::Fresh,
            (State::Aging(_), _) => ProfileState::Aging,
            (State::Expired, Some(_)) => ProfileState::Expired,
            (State::Expired, None) => ProfileState::Idle,
        };
        let next_refresh = self.timetable.next_of(&slot.profile.name);
        let session = session.map(|session| SessionStatus {
            id: session.granted.session_id.clone(),
            age_seconds: now.since(session.obtained_at).as_secs(),
            left_seconds: session.expires_at.since(now).as_secs(),
            next_refresh_seconds: next_refresh.map(|at| seconds_until(at.since(now))),
        });
        let failing = slot.health(|health| {
            health.failing().map(|failing| FailingStatus {
                since_seconds: now.since(failing.since).as_secs(),
                attempts: failing.attempts,
                next_try_seconds: seconds_until(failing.next_try.since(now)),
                message: failing.error.to_string().chars().take(MESSAGE_CAP).collect(),
            })
        });
        ProfileStatus {
            profile: slot.profile.name.to_string(),
            upstream: slot.profile.upstream.clone(),
            role_id: slot.profile.role.role_id.as_str().into(),
            state,
            session,
            failing,
        }
    }
}

/// Rounded up: what is said to happen in 5 s has not happened before.
fn seconds_until(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}
