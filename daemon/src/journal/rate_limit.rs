//! How much is written of what somebody does over and over: some of it, and how often.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use rolekeeper::protocol::CredentialHolder;

use crate::clock::BootTime;

/// How many refusals may be written at once, and how long one more takes: whoever knocks at the door all day is not to fill the
/// record with that.
const REFUSALS: u64 = 20;
const ONE_MORE: Duration = Duration::from_secs(60);
/// How many connections of the same programs are written for one session and minute; more are counted.
const ALIKE: u32 = 20;
/// Of how many kinds of connections are counted at a time; with one more all are counted anew.
const KINDS: usize = 4096;

/// How many refusals were written, and how many not.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// As many as would use up what is allowed, at this time.
    used: u64,
    at: Option<BootTime>,
    left_out: u64,
}

impl Refusals {
    /// How many were left out before this one, if this one may be written.
    pub(super) fn admit(&mut self, now: BootTime) -> Option<u64> {
        let since = self.at.map_or(Duration::MAX, |at| now.since(at));
        let freed = since.as_secs() / ONE_MORE.as_secs();
        if freed > 0 {
            self.used = self.used.saturating_sub(freed);
            self.at = Some(now);
        }
        if self.used >= REFUSALS {
            self.left_out += 1;
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// How many connections were like which one, within a minute of the upstream's.
#[derive(Debug, Default)]
pub(super) struct Deduplicator {
    minute: String,
    /// By a hash of their session, user and programs, so that little is kept of those that are like few others.
    seen: HashMap<u64, Inspection>,
    hash: RandomState,
}

#[derive(Debug, Default)]
struct Inspection {
    written: u32,
    left_out: u64,
    /// The last of those that were left out.
    last: Option<Box<CredentialHolder>>,
}

impl Deduplicator {
    /// What is to be written: this one, unless there were many like it, and how many there were of those whose time is over.
    pub(super) fn admit(&mut self, holder: CredentialHolder) -> Vec<CredentialHolder> {
        let minute = holder.at.get(..16).unwrap_or_default();
        let mut written = Vec::new();
        if minute != self.minute || self.seen.len() == KINDS {
            self.minute = minute.into();
            let over = std::mem::take(&mut self.seen).into_values();
            written.extend(over.filter_map(|seen| {
                Some(CredentialHolder {
                    left_out: Some(seen.left_out),
                    ..*seen.last?
                })
            }));
        }
        let programs: Vec<_> = holder
            .processes
            .iter()
            .map(|process| &process.program)
            .collect();
        let seen = self
            .seen
            .entry(
                self.hash
                    .hash_one((&holder.session_id, holder.uid, programs)),
            )
            .or_default();
        if seen.written < ALIKE {
            seen.written += 1;
            written.push(holder);
        } else {
            seen.left_out += 1;
            seen.last = Some(Box::new(holder));
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_told_of_when_its_minute_is_over_or_there_are_too_many_kinds() {
        let holder = |at: &str, session: usize| CredentialHolder {
            at: at.into(),
            session_id: session.to_string(),
            principal: "user/1".into(),
            profile: "dev".into(),
            uid: 1,
            request_id: None,
            how: None,
            left_out: None,
            processes: Vec::new(),
        };
        let mut alike = Deduplicator::default();
        let told = |written: Vec<CredentialHolder>| {
            written
                .into_iter()
                .map(|one| (one.session_id, one.left_out))
                .collect::<Vec<_>>()
        };
        let written = (0..50).map(|second| {
            alike
                .admit(holder(&format!("2030-01-01T00:00:{second:02}Z"), 0))
                .len()
        });
        assert_eq!(written.sum::<usize>(), 20);
        let next = "2030-01-01T00:01:00Z";
        assert_eq!(
            told(alike.admit(holder(next, 1))),
            [("0".into(), Some(30)), ("1".into(), None)]
        );
        (1..21).for_each(|_| drop(alike.admit(holder(next, 1))));
        let others = (2..KINDS).map(|session| alike.admit(holder(next, session)).len());
        assert_eq!(others.sum::<usize>(), KINDS - 2);
        let last = (KINDS..KINDS + 2).flat_map(|session| told(alike.admit(holder(next, session))));
        let expected = [
            (KINDS.to_string(), None),
            ("1".into(), Some(1)),
            ((KINDS + 1).to_string(), None),
        ];
        assert_eq!(last.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn of_many_refusals_some_are_written_and_how_many_were_not() {
        let mut refusals = Refusals::default();
        let at = |seconds| BootTime::ZERO.plus(Duration::from_secs(seconds));
        let written = (0..1000)
            .filter(|_| refusals.admit(at(100)).is_some())
            .count();
        assert_eq!(written, 20);
        assert_eq!(refusals.admit(at(159)), None);
        assert_eq!(
            refusals.admit(at(160)),
            Some(981),
            "and those before it are counted"
        );
        assert_eq!(refusals.admit(at(160)), None);
        assert_eq!(
            (0..100)
                .filter(|_| refusals.admit(at(10_000)).is_some())
                .count(),
            20
        );
    }
}
