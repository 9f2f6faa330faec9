//! Rate limits against flooding: how many similar records the journal writes. It counts the others.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::record::SessionUse;
use crate::clock::BootTime;

/// The number of refusals of a user that may be written at once.
const REFUSAL_BURST: u64 = 20;
/// The time after which a user may have one more refusal written.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(60);
/// The number of users with a limit of their own. All others share one.
const MAX_USERS: usize = 256;

/// The number of similar session uses that are written a minute.
const USES_A_MINUTE: u32 = 20;
/// The number of kinds of session uses that are counted at a time. At one more, all counts restart.
const MAX_KINDS: usize = 4096;

/// Limits the refusals of each user.
#[derive(Debug, Default)]
pub(super) struct RefusalLimiter {
    users: BTreeMap<u32, UserRefusals>,
}

/// A leaky bucket.
#[derive(Debug, Default)]
struct UserRefusals {
    level: u64,
    drained_at: Option<BootTime>,
    suppressed: u64,
}

impl RefusalLimiter {
    /// Whether a refusal may be written: if so, how many were suppressed before it.
    pub(super) fn admit(&mut self, uid: u32, now: BootTime) -> Option<u64> {
        let has_room = self.users.len() < MAX_USERS || self.users.contains_key(&uid);
        let uid = if has_room { uid } else { u32::MAX };
        self.users.entry(uid).or_default().admit(now)
    }
}

impl UserRefusals {
    fn admit(&mut self, now: BootTime) -> Option<u64> {
        let elapsed = self.drained_at.map_or(Duration::MAX, |at| now.since(at));
        let drained = elapsed.as_secs() / REFUSAL_INTERVAL.as_secs();
        if drained > 0 {
            self.level = self.level.saturating_sub(drained);
            self.drained_at = Some(now);
        }

        if self.level >= REFUSAL_BURST {
            self.suppressed += 1;
            return None;
        }

        self.level += 1;

        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Limits the uses of one session by the same programs, within a minute of the upstream's clock.
#[derive(Debug, Default)]
pub(super) struct SessionUseLimiter {
    minute: String,
    /// By a hash of session, user and programs.
    kinds: HashMap<u64, Kind>,
    hash: RandomState,
}

#[derive(Debug, Default)]
struct Kind {
    written: u32,
    /// The last one that was not written, with the number of others.
    suppressed: Option<Box<SessionUse>>,
}

impl SessionUseLimiter {
    /// The records to write now: this one, unless too many were similar, and one for each kind whose minute has ended.
    pub(super) fn admit(&mut self, mut usage: SessionUse) -> Vec<SessionUse> {
        let minute = usage.at.get(..16).unwrap_or_default();
        let mut written = Vec::new();
        if minute != self.minute || self.kinds.len() == MAX_KINDS {
            self.minute = minute.into();
            let ended = std::mem::take(&mut self.kinds).into_values();
            written.extend(ended.filter_map(|kind| kind.suppressed.map(|usage| *usage)));
        }

        let kind = self.kinds.entry(self.hash_of(&usage)).or_default();
        if kind.written < USES_A_MINUTE {
            kind.written += 1;
            written.push(usage);
        } else {
            usage.suppressed = kind.suppressed.take().map_or(0, |last| last.suppressed + 1);
            kind.suppressed = Some(Box::new(usage));
        }

        written
    }

    fn hash_of(&self, usage: &SessionUse) -> u64 {
        let processes = usage.caller.processes.iter();
        let programs: Vec<_> = processes.map(|process| &process.program).collect();
        let is_call = usage.request_id.is_some();
        self.hash
            .hash_one((&usage.session_id, usage.caller.uid, is_call, programs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::CallerRecord;

    fn usage(at: &str, session: usize) -> SessionUse {
        SessionUse {
            at: at.into(),
            session_id: session.to_string(),
            principal: "user/1".into(),
            profile: "dev".into(),
            request_id: None,
            suppressed: 0,
            caller: CallerRecord {
                uid: 1,
                via: None,
                processes: Vec::new(),
            },
        }
    }

    /// The session and the number of suppressed uses of each record.
    fn summary(written: Vec<SessionUse>) -> Vec<(usize, u64)> {
        written
            .into_iter()
            .map(|usage| (usage.session_id.parse().unwrap(), usage.suppressed))
            .collect()
    }

    #[test]
    fn suppressed_uses_are_counted_when_their_minute_ends() {
        let mut limiter = SessionUseLimiter::default();
        let mut written = 0;
        for second in 0..50 {
            let at = format!("2030-01-01T00:00:{second:02}Z");
            written += limiter.admit(usage(&at, 0)).len();
        }
        assert_eq!(written, 20);

        // 29 others like the last one, which is written.
        let next = limiter.admit(usage("2030-01-01T00:01:00Z", 1));
        assert_eq!(summary(next), [(0, 29), (1, 0)]);
    }

    #[test]
    fn too_many_kinds_restart_all_counts() {
        let mut limiter = SessionUseLimiter::default();
        let at = "2030-01-01T00:01:00Z";
        for _ in 0..21 {
            limiter.admit(usage(at, 0));
        }
        for session in 1..MAX_KINDS {
            assert_eq!(summary(limiter.admit(usage(at, session))), [(session, 0)]);
        }

        let restarted = limiter.admit(usage(at, MAX_KINDS));
        assert_eq!(summary(restarted), [(0, 0), (MAX_KINDS, 0)]);
        assert_eq!(summary(limiter.admit(usage(at, 0))), [(0, 0)]);
    }

    #[test]
    fn refusals_beyond_the_burst_are_counted() {
        let at = |seconds| BootTime::ZERO.plus(Duration::from_secs(seconds));
        let mut limiter = RefusalLimiter::default();
        let mut admitted = |uid, seconds, count: usize| {
            let admitted = (0..count).filter(|_| limiter.admit(uid, at(seconds)).is_some());
            admitted.count()
        };
        assert_eq!(admitted(1, 100, 1_000), 20);
        assert_eq!(admitted(2, 100, 1_000), 20, "each user has a limit");

        assert_eq!(limiter.admit(1, at(159)), None);
        assert_eq!(limiter.admit(1, at(160)), Some(981));
        assert_eq!(limiter.admit(1, at(160)), None);

        let much_later = (0..100).filter(|_| limiter.admit(1, at(10_000)).is_some());
        assert_eq!(much_later.count(), 20);
    }

    #[test]
    fn users_beyond_the_limit_share_a_bucket() {
        let mut limiter = RefusalLimiter::default();
        for uid in 0..1_000 {
            limiter.admit(uid, BootTime::ZERO);
        }
        assert_eq!(limiter.users.len(), MAX_USERS + 1);
        assert_eq!(limiter.admit(1_000, BootTime::ZERO), None);
    }
}
