//! How often a role is assumed for one profile, for all callers together. Pure: the time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::BootTime;

const CALLS: usize = 12;
const SPAN: Duration = Duration::from_secs(60);

/// The calls of the last minute, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct CallLimit(VecDeque<BootTime>);

impl CallLimit {
    /// Counts a call that is made now.
    ///
    /// # Errors
    /// When the next call may be made, if there were too many.
    pub(crate) fn take(&mut self, now: BootTime) -> Result<(), BootTime> {
        while let Some(oldest) = self.0.front()
            && now.since(*oldest) >= SPAN
        {
            self.0.pop_front();
        }

        match self.0.front() {
            Some(oldest) if self.0.len() >= CALLS => Err(oldest.plus(SPAN)),
            _ => {
                self.0.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_calls_are_made_in_any_minute() {
        let at = |seconds| BootTime::ZERO.plus(Duration::from_secs(seconds));
        let mut limit = CallLimit::default();
        for seconds in 0..12 {
            assert_eq!(limit.take(at(seconds)), Ok(()));
        }

        assert_eq!(limit.take(at(12)), Err(at(60)));
        assert_eq!(limit.take(at(60)), Ok(()));
        assert_eq!(limit.take(at(60)), Err(at(61)));
        assert_eq!(limit.take(at(1_000)), Ok(()));
    }
}
