//! How much is written of what somebody does over and over: some of it, and how often.

use std::collections::BTreeMap;
use std::time::Duration;

use rolekeeper::protocol::Holder;

use crate::clock::Boot;

/// How many refusals may be written at once, and how long one more takes: whoever knocks at the door all day is not to fill the
/// record with that.
const REFUSALS: u64 = 20;
const ONE_MORE: Duration = Duration::from_secs(60);
/// How many connections of the same programs are written for one session and minute; more are counted.
const ALIKE: u64 = 20;

/// How many refusals were written, and how many not.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// As many as would use up what is allowed, at this time.
    used: u64,
    at: Option<Boot>,
    left_out: u64,
}

impl Refusals {
    /// How many were left out before this one, if this one may be written.
    pub(super) fn admit(&mut self, now: Boot) -> Option<u64> {
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
pub(super) struct Alike {
    minute: String,
    seen: BTreeMap<(String, u32, Vec<String>), (u64, Holder)>,
}

impl Alike {
    /// What is to be written: this one, unless there were many like it, and how many there were of those whose minute is over.
    pub(super) fn admit(&mut self, holder: Holder) -> Vec<Holder> {
        let minute = holder.at.get(..16).unwrap_or_default();
        let mut written = Vec::new();
        if minute != self.minute {
            self.minute = minute.into();
            let over = std::mem::take(&mut self.seen).into_values().filter(|(count, _)| *count > ALIKE);
            written.extend(over.map(|(count, last)| Holder { left_out: Some(count - ALIKE), ..last }));
        }
        let programs = holder.processes.iter().map(|process| process.program.clone()).collect();
        let key = (holder.session_id.clone(), holder.uid, programs);
        let (count, last) = self.seen.entry(key).or_insert_with(|| (0, holder.clone()));
        *count += 1;
        if *count <= ALIKE {
            written.push(holder);
        } else {
            *last = holder;
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_refusals_some_are_written_and_how_many_were_not() {
        let mut refusals = Refusals::default();
        let at = |seconds| Boot::ZERO.plus(Duration::from_secs(seconds));
        let written = (0..1000).filter(|_| refusals.admit(at(100)).is_some()).count();
        assert_eq!(written, 20);
        assert_eq!(refusals.admit(at(159)), None);
        assert_eq!(refusals.admit(at(160)), Some(981), "and those before it are counted");
        assert_eq!(refusals.admit(at(160)), None);
        assert_eq!((0..100).filter(|_| refusals.admit(at(10_000)).is_some()).count(), 20);
    }
}
