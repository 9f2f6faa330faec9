//! What a session is worth now: a pure function of the session and the time.

use std::sync::Arc;

use super::session::Session;
use crate::clock::{BootTime, ServerClock};
use crate::model::MARGIN;

#[derive(Debug, Clone)]
pub enum Freshness {
    Fresh(Arc<Session>),
    /// Served, and due for a refresh.
    Aging(Arc<Session>),
    /// Not served: past its expiry less [`MARGIN`], or never obtained.
    Expired,
}

impl Freshness {
    pub(crate) fn of(session: Option<Arc<Session>>, now: BootTime, server: &ServerClock) -> Self {
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
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::ZERO.plus(Duration::from_secs(seconds))
    }

    fn name(session: &Arc<Session>, seconds: u64, server: &ServerClock) -> &'static str {
        match Freshness::of(Some(Arc::clone(session)), at(seconds), server) {
            Freshness::Fresh(_) => "fresh",
            Freshness::Aging(_) => "aging",
            Freshness::Expired => "expired",
        }
    }

    #[test]
    fn session_is_fresh_then_aging_then_expired_15_s_early() {
        let session = Arc::new(Session::example(at(100)));
        let server = ServerClock::default();
        let table = [
            (100, "fresh"),
            (2599, "fresh"),
            (2600, "aging"),
            (3684, "aging"),
            (3685, "expired"),
            (9999, "expired"),
        ];

        for (seconds, want) in table {
            assert_eq!(name(&session, seconds, &server), want, "at {seconds}");
        }

        assert!(matches!(
            Freshness::of(None, at(0), &server),
            Freshness::Expired
        ));
    }

    #[test]
    fn server_time_expires_a_session_earlier_but_never_later() {
        let session = Arc::new(Session::example(at(100)));
        let server = ServerClock::default();
        server.issued(session.issued.issued_at, at(100), at(100));
        assert_eq!(name(&session, 2599, &server), "fresh");
        assert_eq!(name(&session, 3685, &server), "expired");

        let hour_later = session.issued.issued_at + Duration::from_secs(3590);
        server.issued(hour_later, at(200), at(200));
        assert_eq!(name(&session, 200, &server), "expired");

        server.issued(session.issued.issued_at, at(300), at(300));
        assert_eq!(name(&session, 300, &server), "fresh");
        assert_eq!(name(&session, 3685, &server), "expired");
    }
}
