//! When to refresh, when to try again, and what is to be done about a profile whose time has come. All of it is pure;
//! jitter comes in as a number from 0 to 1 that is drawn once and never again for the same session or failure.

use std::time::Duration;

use crate::cache::freshness::{Freshness, MARGIN};
use crate::clock::BootTime;
use crate::upstream::UpstreamError;

/// A session is refreshed at a fraction of its usable life drawn from here. At the default hour that leaves more than
/// the 15 minutes below which botocore asks again at every signing, and spreads sessions of one moment over 9 minutes.
const FRACTION: std::ops::Range<f64> = 0.55..0.70;

/// The least time between two attempts for one profile: 12 a minute, whatever fails.
pub const BACK_OFF_FLOOR: Duration = Duration::from_secs(5);
/// The longest ceiling of the back-off, and the most of a `Retry-After` that is believed.
pub const BACK_OFF_CAP: Duration = Duration::from_secs(300);
/// The same for an answer that somebody has to mend, and then wants to see mended.
const MENDED_CAP: Duration = Duration::from_secs(30);

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

/// How long to wait after the `attempts`-th failure in a row (from 1): drawn from the floor up to a ceiling that doubles
/// from 10 s to the cap, and on top of what the upstream asks for.
pub fn back_off(attempts: u32, error: &UpstreamError, jitter: f64) -> Duration {
    let cap = if error.may_pass() {
        BACK_OFF_CAP
    } else {
        MENDED_CAP
    };
    let ceiling = BACK_OFF_FLOOR
        .saturating_mul(1 << attempts.clamp(1, 10))
        .min(cap);
    let spread = (ceiling - BACK_OFF_FLOOR).mul_f64(jitter.clamp(0.0, 1.0));
    error
        .retry_after()
        .unwrap_or_default()
        .clamp(BACK_OFF_FLOOR, BACK_OFF_CAP)
        + spread
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

/// Whether the last calls failed, since when, and when the next may be made.
#[derive(Debug, Clone, Default)]
pub struct Backoff(Option<Box<BackoffState>>);

/// A row of failures that has not ended.
#[derive(Debug, Clone)]
pub struct BackoffState {
    pub since: BootTime,
    pub attempts: u32,
    pub next_try: BootTime,
    pub error: UpstreamError,
}

impl Backoff {
    /// An attempt may be made now, or this is why not.
    pub fn permit(&self, now: BootTime) -> Result<(), BackoffState> {
        match &self.0 {
            Some(failing) if now < failing.next_try => Err(BackoffState::clone(failing)),
            _ => Ok(()),
        }
    }

    pub fn succeeded(&mut self) {
        self.0 = None;
    }

    pub fn failed(&mut self, error: UpstreamError, now: BootTime, jitter: f64) -> BackoffState {
        let attempts = self
            .0
            .as_ref()
            .map_or(0, |failing| failing.attempts)
            .saturating_add(1);
        let failing = BackoffState {
            since: self.0.as_ref().map_or(now, |failing| failing.since),
            attempts,
            next_try: now.plus(back_off(attempts, &error, jitter)),
            error,
        };
        self.0 = Some(Box::new(failing.clone()));
        failing
    }

    pub fn failing(&self) -> Option<&BackoffState> {
        self.0.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn down(retry_after: Option<Duration>) -> UpstreamError {
        UpstreamError::Unavailable {
            what: "down".into(),
            retry_after,
        }
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
    fn back_off_keeps_its_floor_and_cap_and_honours_retry_after() {
        for attempts in [0, 1, 2, 5, 12, u32::MAX] {
            for jitter in [0.0, 0.3, 1.0] {
                let wait = back_off(attempts, &down(None), jitter);
                assert!(
                    (BACK_OFF_FLOOR..=BACK_OFF_CAP).contains(&wait),
                    "{attempts} {jitter}: {wait:?}"
                );
                assert!(back_off(attempts, &down(Some(seconds(60))), jitter) >= seconds(60));
            }
        }
        assert_eq!(back_off(1, &down(None), 1.0), seconds(10));
        assert_eq!(back_off(3, &down(None), 1.0), seconds(40));
        assert!(
            back_off(1, &down(Some(seconds(86_400))), 0.0) <= BACK_OFF_CAP,
            "a day is not believed"
        );
        assert!(
            back_off(1, &down(Some(seconds(60))), 1.0) > seconds(60),
            "those told the same time still spread"
        );
        let refused = UpstreamError::Refused {
            what: "no".into(),
            why: crate::upstream::RefusalKind::Other,
        };
        assert_eq!(
            back_off(100, &refused, 1.0),
            MENDED_CAP,
            "who mends it need not wait long"
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

    #[test]
    fn a_row_of_failures_counts_on_from_its_first_and_ends_with_a_success() {
        let at = |s| BootTime::ZERO.plus(seconds(s));
        let mut health = Backoff::default();
        assert!(health.permit(at(0)).is_ok());
        assert_eq!(health.failed(down(None), at(0), 0.0).next_try, at(5));
        assert!(health.permit(at(4)).is_err() && health.permit(at(5)).is_ok());
        let second = health.failed(down(None), at(9), 1.0);
        assert_eq!(
            (second.since, second.attempts, second.next_try),
            (at(0), 2, at(29))
        );
        health.succeeded();
        assert!(health.permit(at(10)).is_ok() && health.failing().is_none());
    }
}
