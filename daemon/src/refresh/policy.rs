//! When to refresh, and what to do about a profile that is due. All of it is pure. Jitter is a number from 0 to 1 that the
//! caller draws once per session.

use std::time::Duration;

use crate::cache::freshness::Freshness;
use crate::model::MARGIN;

/// A session is refreshed at a fraction of its usable life drawn from here. At the default of an hour that leaves more
/// than the 15 minutes below which botocore asks again at every signing, and spreads sessions of one moment over 9 min.
const FRACTION: std::ops::Range<f64> = 0.55..0.70;

/// What is due at the same moment is spread over this time per profile.
const SPREAD_PER_PROFILE: Duration = Duration::from_millis(50);
/// The most that what was due during a sleep is spread over: the user has just opened the lid.
pub(crate) const RESUME_SPREAD: Duration = Duration::from_secs(5);
/// The most that what was due during an outage is spread over.
pub(crate) const RECOVERY_SPREAD: Duration = Duration::from_secs(60);

/// How much of a session's life is left when it is due for a refresh.
pub(crate) fn refresh_left(life: Duration, jitter: f64) -> Duration {
    let fraction = FRACTION.start + (FRACTION.end - FRACTION.start) * jitter.clamp(0.0, 1.0);
    let usable = life.saturating_sub(MARGIN);

    life.saturating_sub(usable.mul_f64(fraction))
}

/// The delay of one of `count` profiles that are due at the same moment.
pub(crate) fn spread(count: usize, limit: Duration, jitter: f64) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX);

    SPREAD_PER_PROFILE
        .saturating_mul(count)
        .min(limit)
        .mul_f64(jitter.clamp(0.0, 1.0))
}

/// What to do about a profile that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Fetch a new session.
    Refresh,
    /// Look again when this much is left of the session.
    Later { left: Duration },
    /// Drop the expired session. A new one is fetched when a consumer asks.
    Evict,
}

/// A session that is not wanted is left to expire.
pub(crate) fn due(freshness: &Freshness, is_wanted: bool) -> Due {
    match freshness {
        Freshness::Fresh(session) => Due::Later {
            left: session.refresh_left,
        },
        Freshness::Aging(_) | Freshness::Expired if is_wanted => Due::Refresh,
        Freshness::Aging(_) => Due::Later { left: MARGIN },
        Freshness::Expired => Due::Evict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn hour_is_refreshed_with_15_min_left_and_spread_over_9_min() {
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
    fn one_profile_is_due_at_once_and_many_are_spread() {
        assert_eq!(spread(1, RESUME_SPREAD, 1.0), SPREAD_PER_PROFILE);
        assert_eq!(spread(1000, RESUME_SPREAD, 1.0), RESUME_SPREAD);
        assert_eq!(
            spread(1000, RECOVERY_SPREAD, 0.5),
            RECOVERY_SPREAD.min(SPREAD_PER_PROFILE * 1000) / 2
        );
    }
}
