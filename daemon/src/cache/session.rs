//! A session as the daemon holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::session_state::Generation;
use crate::clock::{BootTime, ServerClock};
use crate::upstream::IssuedSession;

/// The most superseded sessions of one profile that are monitored for revocation.
const MAX_SUPERSEDED: usize = 16;

#[derive(Debug)]
pub struct Session {
    /// With its true expiry, by the upstream's clock.
    pub issued: IssuedSession,
    /// When the request for it was sent.
    pub obtained_at: BootTime,
    /// When the reply arrived. The upstream cannot have issued it later.
    pub received_at: BootTime,
    /// It is due for a refresh when this much of its life is left. Drawn once, when it was obtained.
    pub refresh_left: Duration,
    /// The profile's generation when the fetch started.
    pub generation: Generation,
    pub list_presence: ListPresence,
}

/// A session that a newer one has replaced. A consumer may use it until it expires. It holds no secret.
#[derive(Debug)]
pub(crate) struct SupersededSession {
    pub(crate) session_id: Box<str>,
    pub(crate) principal: Arc<str>,
    pub(crate) ends_at: BootTime,
    /// The same by the upstream's clock.
    pub(crate) expires_at: Timestamp,
}

/// Whether the upstream's lists of active sessions contained a session, and whether the last list missed it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ListPresence(AtomicU8);

impl Session {
    pub(crate) fn id(&self) -> &str {
        &self.issued.session_id
    }

    /// The time to its expiry. It is counted from when the request was sent, and by the upstream's clock; the shorter
    /// one is returned, so the expiry is never assumed to be later than it is.
    pub(crate) fn left(&self, now: BootTime, server: &ServerClock) -> Duration {
        let by_life = self.ends_at().since(now);

        let by_server = server.latest(now).map_or(by_life, |latest| {
            let left = self.issued.expires_at.duration_since(latest);
            Duration::try_from(left).unwrap_or_default()
        });

        by_life.min(by_server)
    }

    /// The time by the upstream's clock, whatever this machine's clock shows: never late, and early by the round trip of
    /// the request.
    pub(crate) fn upstream_time(&self, now: BootTime) -> Timestamp {
        let issued_at = self.issued.issued_at;
        issued_at
            .saturating_add(now.since(self.received_at))
            .unwrap_or(issued_at)
    }

    /// In boot time, unless the upstream's clock reveals lost time.
    pub(crate) fn ends_at(&self) -> BootTime {
        self.obtained_at.plus(self.issued.life())
    }
}

impl SupersededSession {
    pub(crate) fn of(session: &Session) -> Self {
        Self {
            session_id: session.issued.session_id.clone(),
            principal: Arc::clone(&session.issued.principal),
            ends_at: session.ends_at(),
            expires_at: session.issued.expires_at,
        }
    }

    /// Appends a replaced session, and drops expired and surplus ones, oldest first.
    pub(super) fn append(list: &mut Vec<Arc<Self>>, session: &Session, now: BootTime) {
        list.push(Arc::new(Self::of(session)));
        list.retain(|superseded| superseded.ends_at > now);

        let surplus = list.len().saturating_sub(MAX_SUPERSEDED);
        list.drain(..surplus);
    }
}

impl ListPresence {
    const SEEN: u8 = 1;
    const MISSED: u8 = 2;

    pub(crate) fn set_seen(&self) {
        self.0.store(Self::SEEN, Ordering::Relaxed);
    }

    /// Records that a list did not contain the session. Returns whether an earlier list did, and the last two did not.
    pub(crate) fn set_missed(&self) -> bool {
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

#[cfg(test)]
impl Session {
    /// An hour from the Unix epoch, obtained at `obtained_at`.
    pub(crate) fn example(obtained_at: BootTime) -> Self {
        Self {
            issued: IssuedSession::example(),
            obtained_at,
            received_at: obtained_at,
            refresh_left: Duration::from_secs(1100),
            generation: Generation::default(),
            list_presence: ListPresence::default(),
        }
    }
}
