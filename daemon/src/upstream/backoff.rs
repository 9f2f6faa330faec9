//! When to retry after a failure. Pure: time and jitter are arguments, and jitter is a number from 0 to 1 that the caller
//! draws once per failure.

use std::time::Duration;

use super::UpstreamError;
use crate::clock::BootTime;

/// The least time between two attempts: 12 a minute, whatever fails.
pub(crate) const BACKOFF_FLOOR: Duration = Duration::from_secs(5);
/// The largest ceiling of the delay, and the longest `Retry-After` that is honoured.
pub(crate) const BACKOFF_CAP: Duration = Duration::from_secs(300);
/// The ceiling for errors that a person has to fix, so that the fix is noticed soon.
const PERSON_CAP: Duration = Duration::from_secs(30);

/// Counts the failures of one profile, or of one upstream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff(Option<Box<BackoffState>>);

/// A row of failures that has not ended.
#[derive(Debug, Clone)]
pub struct BackoffState {
    /// When the first of them failed.
    pub since: BootTime,
    pub attempts: u32,
    pub next_try: BootTime,
    /// Of the last attempt.
    pub(crate) error: UpstreamError,
}

impl Backoff {
    /// # Errors
    /// The row of failures, if the next attempt is not due yet.
    pub(crate) fn permit(&self, now: BootTime) -> Result<(), BackoffState> {
        match &self.0 {
            Some(failing) if now < failing.next_try => Err(BackoffState::clone(failing)),
            _ => Ok(()),
        }
    }

    pub(crate) fn reset(&mut self) {
        self.0 = None;
    }

    pub(crate) fn record_failure(
        &mut self,
        error: UpstreamError,
        now: BootTime,
        jitter: f64,
    ) -> BackoffState {
        let since = self.0.as_ref().map_or(now, |failing| failing.since);
        let earlier = self.0.as_ref().map_or(0, |failing| failing.attempts);
        let attempts = earlier.saturating_add(1);

        let failing = BackoffState {
            since,
            attempts,
            next_try: now.plus(delay(attempts, &error, jitter)),
            error,
        };

        self.0 = Some(Box::new(failing.clone()));

        failing
    }

    pub(crate) fn state(&self) -> Option<&BackoffState> {
        self.0.as_deref()
    }
}

/// The delay after the `attempts`-th failure in a row (from 1): drawn between the floor and a ceiling that doubles from
/// 10 s to the cap. The upstream's `Retry-After` replaces the floor.
fn delay(attempts: u32, error: &UpstreamError, jitter: f64) -> Duration {
    let cap = if error.is_transient() {
        BACKOFF_CAP
    } else {
        PERSON_CAP
    };

    let ceiling = BACKOFF_FLOOR
        .saturating_mul(1 << attempts.clamp(1, 10))
        .min(cap);
    let spread = (ceiling - BACKOFF_FLOOR).mul_f64(jitter.clamp(0.0, 1.0));

    let least = error.retry_after().unwrap_or_default();

    least.clamp(BACKOFF_FLOOR, BACKOFF_CAP) + spread
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::RefusalKind;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn down(retry_after: Option<Duration>) -> UpstreamError {
        UpstreamError::Unavailable {
            what: "down".into(),
            retry_after,
            hint: None,
        }
    }

    #[test]
    fn delay_respects_floor_cap_and_retry_after() {
        for attempts in [0, 1, 2, 5, 12, u32::MAX] {
            for jitter in [0.0, 0.3, 1.0] {
                let wait = delay(attempts, &down(None), jitter);
                assert!(
                    (BACKOFF_FLOOR..=BACKOFF_CAP).contains(&wait),
                    "{attempts} {jitter}: {wait:?}"
                );
                assert!(delay(attempts, &down(Some(seconds(60))), jitter) >= seconds(60));
            }
        }
        assert_eq!(delay(1, &down(None), 1.0), seconds(10));
        assert_eq!(delay(3, &down(None), 1.0), seconds(40));
        assert!(
            delay(1, &down(Some(seconds(86_400))), 0.0) <= BACKOFF_CAP,
            "a day is too long"
        );
        assert!(
            delay(1, &down(Some(seconds(60))), 1.0) > seconds(60),
            "clients with the same Retry-After still spread"
        );

        let refused = UpstreamError::Refused {
            what: "no".into(),
            kind: RefusalKind::Other,
        };
        assert_eq!(
            delay(100, &refused, 1.0),
            PERSON_CAP,
            "a fix is noticed soon"
        );
    }

    #[test]
    fn failures_in_a_row_add_up_until_a_success() {
        let at = |s| BootTime::ZERO.plus(seconds(s));
        let mut backoff = Backoff::default();
        assert!(backoff.permit(at(0)).is_ok());

        assert_eq!(
            backoff.record_failure(down(None), at(0), 0.0).next_try,
            at(5)
        );
        assert!(backoff.permit(at(4)).is_err() && backoff.permit(at(5)).is_ok());

        let second = backoff.record_failure(down(None), at(9), 1.0);
        assert_eq!(
            (second.since, second.attempts, second.next_try),
            (at(0), 2, at(29))
        );

        backoff.reset();
        assert!(backoff.permit(at(10)).is_ok() && backoff.state().is_none());
    }
}
