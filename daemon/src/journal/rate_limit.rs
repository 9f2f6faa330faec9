//! Rate limits against flooding: how many records of each user, and how many similar ones, the journal writes. It counts the
//! others.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::record::SessionUse;
use crate::clock::BootTime;

/// The number of refusals of a user that may be written at once.
const REFUSAL_BURST: u64 = 20;
/// The time after which a user may have one more refusal written.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(60);
/// The number of commands of the owner that may be written at once: a script has to be able to set up an account.
const COMMAND_BURST: u64 = 200;
/// The time after which one more command may be written.
const COMMAND_INTERVAL: Duration = Duration::from_secs(1);
/// The number of users with a limit of their own. All others share one.
const MAX_USERS: usize = 256;

/// The number of similar session uses that are written a minute.
const USES_A_MINUTE: u32 = 20;
/// The number of uses of one session by one user that are written a minute, however many programs the user has.
const USES_OF_USER_A_MINUTE: u32 = 100;
/// The number of sessions and users that are counted at a time. At one more, all counts restart.
const MAX_COUNTED: usize = 4096;

/// Limits the records of each user.
#[derive(Debug)]
pub(super) struct UserLimiter {
    burst: u64,
    interval: Duration,
    users: BTreeMap<u32, Bucket>,
}

/// A leaky bucket.
#[derive(Debug, Default)]
struct Bucket {
    level: u64,
    drained_at: Option<BootTime>,
    suppressed: u64,
}

impl UserLimiter {
    pub(super) fn of_refusals() -> Self {
        Self::new(REFUSAL_BURST, REFUSAL_INTERVAL)
    }

    pub(super) fn of_commands() -> Self {
        Self::new(COMMAND_BURST, COMMAND_INTERVAL)
    }

    fn new(burst: u64, interval: Duration) -> Self {
        Self {
            burst,
            interval,
            users: BTreeMap::new(),
        }
    }

    /// Whether a record may be written: if so, how many were suppressed before it.
    pub(super) fn admit(&mut self, uid: u32, now: BootTime) -> Option<u64> {
        let has_room = self.users.len() < MAX_USERS || self.users.contains_key(&uid);
        let uid = if has_room { uid } else { u32::MAX };
        let bucket = self.users.entry(uid).or_default();
        bucket.admit(self.burst, self.interval, now)
    }
}

impl Bucket {
    fn admit(&mut self, burst: u64, interval: Duration, now: BootTime) -> Option<u64> {
        let elapsed = self.drained_at.map_or(Duration::MAX, |at| now.since(at));
        let drained = elapsed.as_secs() / interval.as_secs();
        if drained > 0 {
            self.level = self.level.saturating_sub(drained);
            self.drained_at = Some(now);
        }

        if self.level >= burst {
            self.suppressed += 1;
            return None;
        }

        self.level += 1;

        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Limits the uses of one session by one user, and by the same programs, within a minute of the upstream's clock.
#[derive(Debug, Default)]
pub(super) struct SessionUseLimiter {
    /// The latest of all upstreams.
    minute: String,
    /// By session and user.
    counted: HashMap<(String, u32), Uses>,
    hash: RandomState,
}

/// The uses of one session by one user.
#[derive(Debug, Default)]
struct Uses {
    minute: String,
    written: u32,
    /// By a hash of the programs.
    kinds: HashMap<u64, Kind>,
    /// The uses by all programs, once the user has had too many written.
    others: Kind,
}

#[derive(Debug, Default)]
struct Kind {
    written: u32,
    /// The last one that was not written, with the number of others.
    suppressed: Option<Box<SessionUse>>,
}

impl SessionUseLimiter {
    /// The records to write now: this one, unless there were too many, and one for each kind whose minute has ended.
    pub(super) fn admit(&mut self, usage: SessionUse) -> Vec<SessionUse> {
        let key = (usage.session_id.clone(), usage.caller.uid);
        let minute = usage.at.get(..16).unwrap_or_default();
        let mut written = Vec::new();

        let of_user = self.counted.get(&key);
        // The clocks of upstreams differ: a session of another one may be in an earlier minute.
        let has_ended = of_user.map_or(minute > self.minute.as_str(), |uses| uses.minute != minute);
        if has_ended || (of_user.is_none() && self.counted.len() >= MAX_COUNTED) {
            let ended = std::mem::take(&mut self.counted).into_values();
            written.extend(ended.flat_map(Uses::suppressed));
        }
        if minute > self.minute.as_str() {
            self.minute = minute.into();
        }

        let hash = self.hash_of(&usage);
        let uses = self.counted.entry(key).or_default();
        uses.minute = minute.into();
        written.extend(uses.admit(hash, usage));

        written
    }

    fn hash_of(&self, usage: &SessionUse) -> u64 {
        let processes = usage.caller.processes.iter();
        let programs: Vec<_> = processes.map(|process| &process.program).collect();
        let is_call = usage.request_id.is_some();
        self.hash.hash_one((is_call, programs))
    }
}

impl Uses {
    fn admit(&mut self, hash: u64, mut usage: SessionUse) -> Option<SessionUse> {
        let has_room = self.written < USES_OF_USER_A_MINUTE;
        let kind = match has_room {
            true => self.kinds.entry(hash).or_default(),
            false => &mut self.others,
        };

        if has_room && kind.written < USES_A_MINUTE {
            kind.written += 1;
            self.written += 1;
            return Some(usage);
        }

        usage.suppressed = kind.suppressed.take().map_or(0, |last| last.suppressed + 1);
        kind.suppressed = Some(Box::new(usage));
        None
    }

    fn suppressed(self) -> impl Iterator<Item = SessionUse> {
        let kinds = self.kinds.into_values().chain([self.others]);
        kinds.filter_map(|kind| kind.suppressed.map(|usage| *usage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::{CallerRecord, Process};

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
    fn too_many_sessions_restart_all_counts() {
        let mut limiter = SessionUseLimiter::default();
        let at = "2030-01-01T00:01:00Z";
        for _ in 0..21 {
            limiter.admit(usage(at, 0));
        }
        for session in 1..MAX_COUNTED {
            assert_eq!(summary(limiter.admit(usage(at, session))), [(session, 0)]);
        }

        let restarted = limiter.admit(usage(at, MAX_COUNTED));
        assert_eq!(summary(restarted), [(0, 0), (MAX_COUNTED, 0)]);
        assert_eq!(summary(limiter.admit(usage(at, 0))), [(0, 0)]);
    }

    /// The attack: hard links make many programs of one.
    #[test]
    fn many_programs_of_one_user_are_limited_together() {
        let mut limiter = SessionUseLimiter::default();
        let by = |program: usize, minute: usize| {
            let mut usage = usage(&format!("2030-01-01T00:{minute:02}:00Z"), 0);
            usage.caller.processes = vec![Process {
                pid: 7,
                program: program.to_string(),
            }];
            usage
        };

        let written = (0..10_000).map(|program| limiter.admit(by(program, 1)).len());
        assert_eq!(written.sum::<usize>(), 100);

        let mut of_other = usage("2030-01-01T00:01:00Z", 0);
        of_other.caller.uid = 2;
        assert_eq!(summary(limiter.admit(of_other)), [(0, 0)]);

        let next = limiter.admit(by(0, 2));
        assert_eq!(summary(next), [(0, 9_899), (0, 0)]);
    }

    #[test]
    fn upstreams_with_different_clocks_do_not_restart_each_other() {
        let mut limiter = SessionUseLimiter::default();
        let mut written = 0;
        for _ in 0..1_000 {
            written += limiter.admit(usage("2030-01-01T00:01:00Z", 1)).len();
            written += limiter.admit(usage("2030-01-01T00:09:00Z", 2)).len();
        }
        // The second minute is later than the first at its first use.
        assert_eq!(written, 41);
    }

    #[test]
    fn refusals_beyond_the_burst_are_counted() {
        let at = |seconds| BootTime::ZERO.plus(Duration::from_secs(seconds));
        let mut limiter = UserLimiter::of_refusals();
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
        let mut limiter = UserLimiter::of_refusals();
        for uid in 0..1_000 {
            limiter.admit(uid, BootTime::ZERO);
        }
        assert_eq!(limiter.users.len(), MAX_USERS + 1);
        assert_eq!(limiter.admit(1_000, BootTime::ZERO), None);
    }
}
