//! When to refresh, and what is to be done about a profile whose time has come. All of it is pure; jitter comes in as a
//! number from 0 to 1 that is drawn once and never again for the same session.

use std::time::Duration;

use crate::cache::freshness::{Freshness, MARGIN};

/// A session is refreshed at a fraction of its usable life drawn from here. At the default hour that leaves more than
/// the 15 minutes below which botocore asks again at every signing, and spreads sessions of one moment over 9 minutes.
const FRACTION: std::ops::Range<f64> = 0.55..0.70;

/// For how long after the last lease on it has run out a profile counts as used. The time that the machine sleeps does
/// not count.
pub const GRACE: Duration = Duration::from_secs(30 * 60);

/// What falls due while the machine sleeps, or while its upstream is away, is spread over this for each profile.
const SPREAD_EACH: Duration = Duration::from_millis(50);
/// The most that what was slept through is spread over: somebody has just opened the lid.
pub const RESUME_SPREAD: Duration = Duration::from_secs(5);
/// The most that what an upstream's outage put off is spread over.
pub const RECOVERY_SPREAD: Duration = Duration::from_secs(60);

/// How much of a session's life is left when it is to be refreshed.
pub fn refresh_left(life: Duration, jitter: f64) -> Duration {
    let fraction = FRACTION.start + (FRACTION.end - FRACTION.start) * jitter.clamp(0.0, 1.0);
    life.saturating_sub(life.saturating_sub(MARGIN).mul_f64(fraction))
}

/// When one of `many` is to be done that would otherwise all be done now.
pub fn spread(many: usize, most: Duration, jitter: f64) -> Duration {
    SPREAD_EACH
        .saturating_mul(u32::try_from(many).unwrap_or(u32::MAX))
        .min(most)
        .mul_f64(jitter.clamp(0.0, 1.0))
}

/// What is to be done about a profile whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Fetch a new session.
    Refresh,
    /// Look again when this much is left of the session.
    Later { left: Duration },
    /// Forget what there is: the session has expired, and a new one waits for somebody to ask.
    Drop,
}

/// What is not wanted unless somebody asks is left to expire.
pub fn due(state: &Freshness, is_wanted: bool) -> Due {
    match state {
        Freshness::Fresh(session) => Due::Later {
            left: session.refresh_left,
        },
        Freshness::Aging(_) | Freshness::Expired if is_wanted => Due::Refresh,
        Freshness::Aging(_) => Due::Later { left: MARGIN },
        Freshness::Expired => Due::Drop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_hour_is_refreshed_with_more_than_15_minutes_left_and_spread_over_9() {
        let (first, last) = (
            refresh_left(seconds(3600), 0.0),
            refresh_left(seconds(3600), 1.0),
        );
        assert!(last > seconds(15 * 60), "{last:?}");
        assert!(first - last > seconds(530), "{first:?} to {last:?}");
        assert_eq!(
            refresh_left(seconds(10), 0.5),
            seconds(10),
            "a life within the margin is due at once"
        );
    }

    #[test]
    fn few_are_done_at_once_and_many_are_spread() {
        assert_eq!(spread(1, RESUME_SPREAD, 1.0), SPREAD_EACH);
        assert_eq!(spread(1000, RESUME_SPREAD, 1.0), RESUME_SPREAD);
        assert_eq!(
            spread(1000, RECOVERY_SPREAD, 0.5),
            RECOVERY_SPREAD.min(SPREAD_EACH * 1000) / 2
        );
    }
}
