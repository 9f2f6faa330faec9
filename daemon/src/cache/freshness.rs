//! What a session is worth now: a pure function of the session and the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::session_state::Generation;
use crate::clock::{BootTime, ServerClock};
use crate::upstream::IssuedSession;

/// A session is served no longer than this before its true end, so that what is signed with it still arrives in time.
pub const MARGIN: Duration = Duration::from_secs(15);

/// A session as the daemon keeps it. It never leaves the daemon as such.
#[derive(Debug)]
pub struct Session {
    /// With its true end, in the upstream's time.
    pub granted: IssuedSession,
    /// When the request for it was sent.
    pub obtained_at: BootTime,
    /// When the answer was there: it cannot have been issued later.
    pub received_at: BootTime,
    /// It is due for a refresh when no more than this is left. Drawn once, when it was obtained.
    pub refresh_left: Duration,
    /// Of the profile, when it was asked for.
    pub generation: Generation,
    pub sightings: ListPresence,
}

/// A session that another one has replaced: somebody may use it until its end. Its secrets are gone.
#[derive(Debug)]
pub struct SupersededSession {
    pub session_id: Box<str>,
    pub principal: Arc<str>,
    pub ends_at: BootTime,
    /// The same by the upstream's clock.
    pub expires_at: Timestamp,
}

impl SupersededSession {
    pub fn of(session: &Session) -> Self {
        Self {
            session_id: session.granted.session_id.clone(),
            principal: Arc::clone(&session.granted.principal),
            ends_at: session.ends_at(),
            expires_at: session.granted.expires_at,
        }
    }
}

/// Whether the upstream's lists of active sessions have had a session, and whether the last one has missed it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ListPresence(AtomicU8);

impl ListPresence {
    const SEEN: u8 = 1;
    const MISSED: u8 = 2;

    pub fn seen(&self) {
        self.0.store(Self::SEEN, Ordering::Relaxed);
    }

    /// Returns whether it has been seen once, and then missed by two lists in a row.
    pub fn missed(&self) -> bool {
        self.0.compare_exchange(
            Self::SEEN,
            Self::MISSED,
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) == Err(Self::MISSED)
    }
}

impl Clone for ListPresence {
    fn clone(&self) -> Self {
        Self(AtomicU8::new(self.0.load(Ordering::Relaxed)))
    }
}

impl Session {
    /// What is left of it: by its life, counted from when the request for it was sent, and by what time it is at the
    /// upstream, whichever is less. Neither takes the end for later than it is.
    pub fn left(&self, now: BootTime, server: &ServerClock) -> Duration {
        let by_life = self.ends_at().since(now);
        let by_server = server.latest(now).map_or(by_life, |latest| {
            Duration::try_from(self.granted.expires_at.duration_since(latest)).unwrap_or_default()
        });
        by_life.min(by_server)
    }

    /// In boot time, unless the upstream's clock says that some was lost.
    pub fn ends_at(&self) -> BootTime {
        self.obtained_at.plus(self.granted.life())
    }
}

/// The three states of the cache.
#[derive(Debug, Clone)]
pub enum Freshness {
    Fresh(Arc<Session>),
    /// Served, and due for a refresh.
    Aging(Arc<Session>),
    /// Not to be served: past its end less [`MARGIN`], or never obtained.
    Expired,
}

impl Freshness {
    pub fn of(session: Option<Arc<Session>>, now: BootTime, server: &ServerClock) -> Self {
        let Some(session) = session else {
            return Self::Expired;
        };
        let left = session.left(now, server);
        if left <= MARGIN {
            Self::Expired
        } else if left <= session.refresh_left {
            Self::Aging(session)
        } else {
            Self::Fresh(session)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_fresh_then_aging_then_expired_and_never_served_in_its_last_15_seconds() {
        let at = |seconds| BootTime::ZERO.plus(Duration::from_secs(seconds));
        let session = Arc::new(Session {
            granted: IssuedSession::example(),
            obtained_at: at(100),
            received_at: at(101),
            refresh_left: Duration::from_secs(1100),
            generation: Generation::default(),
            sightings: ListPresence::default(),
        });
        let name = |now, server: &ServerClock| match Freshness::of(
            Some(Arc::clone(&session)),
            now,
            server,
        ) {
            Freshness::Fresh(_) => "fresh",
            Freshness::Aging(_) => "aging",
            Freshness::Expired => "expired",
        };
        let table = [
            (100, "fresh"),
            (2599, "fresh"),
            (2600, "aging"),
            (3684, "aging"),
            (3685, "expired"),
            (9999, "expired"),
        ];
        let server = ServerClock::default();
        for (seconds, want) in table {
            assert_eq!(name(at(seconds), &server), want, "at {seconds}");
        }
        assert!(matches!(
            Freshness::of(None, at(0), &server),
            Freshness::Expired
        ));
        // The upstream's time may end it sooner, never later.
        server.issued(session.granted.issued_at, at(100), at(100));
        assert_eq!(
            (name(at(2599), &server), name(at(3685), &server)),
            ("fresh", "expired")
        );
        let hour_later = session.granted.issued_at + Duration::from_secs(3590);
        server.issued(hour_later, at(200), at(200));
        assert_eq!(name(at(200), &server), "expired");
        server.issued(session.granted.issued_at, at(300), at(300));
        assert_eq!(
            (name(at(300), &server), name(at(3685), &server)),
            ("fresh", "expired")
        );
    }
}
