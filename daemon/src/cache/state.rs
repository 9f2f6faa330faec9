//! What a session is worth now: a pure function of the session and the time.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Boot;
use crate::upstream::Granted;

/// A session is served no longer than this before its true end, so that what is signed with it still arrives in time.
pub const MARGIN: Duration = Duration::from_secs(15);

/// A session as the daemon keeps it. It never leaves the daemon as such.
#[derive(Debug)]
pub struct Session {
    pub granted: Granted,
    /// When the request for it was sent: its life is counted from here, so its end is never taken for later than it is.
    pub obtained_at: Boot,
    /// When the answer was there: it cannot have been issued later.
    pub received_at: Boot,
    /// Drawn once, when the session was obtained.
    pub refresh_at: Boot,
    pub expires_at: Boot,
}

/// The three states of the cache.
#[derive(Debug, Clone)]
pub enum State {
    Fresh(Arc<Session>),
    /// Served, and due for a refresh.
    Aging(Arc<Session>),
    /// Not to be served: past its end less [`MARGIN`], or never obtained.
    Expired,
}

impl State {
    pub fn of(session: Option<Arc<Session>>, now: Boot) -> Self {
        match session {
            Some(session) if now.plus(MARGIN) >= session.expires_at => Self::Expired,
            Some(session) if now >= session.refresh_at => Self::Aging(session),
            Some(session) => Self::Fresh(session),
            None => Self::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_fresh_then_aging_then_expired_and_never_served_in_its_last_15_seconds() {
        let at = |seconds| Boot::ZERO.plus(Duration::from_secs(seconds));
        let session = Arc::new(Session {
            granted: Granted::example(),
            obtained_at: at(100),
            received_at: at(101),
            refresh_at: at(2600),
            expires_at: at(3700),
        });
        let name = |now| match State::of(Some(Arc::clone(&session)), now) {
            State::Fresh(_) => "fresh",
            State::Aging(_) => "aging",
            State::Expired => "expired",
        };
        let table =
            [(100, "fresh"), (2599, "fresh"), (2600, "aging"), (3684, "aging"), (3685, "expired"), (9999, "expired")];
        for (seconds, want) in table {
            assert_eq!(name(at(seconds)), want, "at {seconds}");
        }
        assert!(matches!(State::of(None, at(0)), State::Expired));
    }
}
