//! Is an upstream as a whole away? Then one call at a time finds out, instead of one for each of its profiles. Pure.

use std::collections::BTreeSet;

use crate::clock::BootTime;
use crate::model::ProfileId;
use crate::refresh::policy::{Backoff, BackoffState};
use crate::upstream::UpstreamError;

/// How many profiles in a row must fail, none succeeding in between, until it is taken for the upstream's own failure.
/// One role that always fails is that role's.
const PROFILES: usize = 3;

#[derive(Debug, Default)]
pub struct CircuitBreaker {
    /// Who has failed since the last answer.
    failed: BTreeSet<ProfileId>,
    /// Of the upstream as a whole, once it is open.
    health: Backoff,
}

/// What a breaker says to a call.
#[derive(Debug)]
pub enum Permit {
    Go,
    /// One call may find out whether the upstream is back.
    Probe,
    No(BackoffState),
}

impl CircuitBreaker {
    pub fn permit(&self, now: BootTime) -> Permit {
        match self.health.permit(now) {
            Err(failing) => Permit::No(failing),
            Ok(()) if self.health.failing().is_some() => Permit::Probe,
            Ok(()) => Permit::Go,
        }
    }

    /// Open, if this is something.
    pub fn failing(&self) -> Option<&BackoffState> {
        self.health.failing()
    }

    /// The upstream has answered, if only with a refusal.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// A call for this profile failed in a way that may be the upstream's.
    pub fn failed(
        &mut self,
        place: ProfileId,
        error: &UpstreamError,
        is_probe: bool,
        now: BootTime,
        jitter: f64,
    ) {
        let was_open = self.health.failing().is_some();
        self.failed.insert(place);
        // Calls that were under way when it opened say nothing new.
        if is_probe || (!was_open && self.failed.len() >= PROFILES) {
            self.health.failed(error.clone(), now, jitter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> BootTime {
        BootTime::ZERO.plus(Duration::from_secs(seconds))
    }

    fn down() -> UpstreamError {
        UpstreamError::Unavailable {
            what: "down".into(),
            retry_after: None,
        }
    }

    fn places() -> Vec<ProfileId> {
        (0..10).map(ProfileId::new).collect()
    }

    #[test]
    fn it_opens_when_three_profiles_fail_in_a_row_and_not_for_one_that_always_fails() {
        let (mut breaker, places) = (CircuitBreaker::default(), places());
        for _ in 0..10 {
            breaker.failed(places[0], &down(), false, at(0), 0.0);
        }
        breaker.failed(places[1], &down(), false, at(0), 0.0);
        breaker.answered();
        breaker.failed(places[1], &down(), false, at(0), 0.0);
        breaker.failed(places[2], &down(), false, at(0), 0.0);
        assert!(matches!(breaker.permit(at(0)), Permit::Go));
        breaker.failed(places[3], &down(), false, at(0), 0.0);
        assert!(matches!(breaker.permit(at(4)), Permit::No(_)));
        assert!(matches!(breaker.permit(at(5)), Permit::Probe));
    }

    #[test]
    fn open_it_counts_probes_only_and_any_answer_closes_it() {
        let (mut breaker, places) = (CircuitBreaker::default(), places());
        for place in &places {
            breaker.failed(*place, &down(), false, at(0), 1.0);
        }
        assert_eq!(
            breaker
                .failing()
                .map(|failing| (failing.attempts, failing.next_try)),
            Some((1, at(10)))
        );
        breaker.failed(places[0], &down(), true, at(10), 1.0);
        assert_eq!(
            breaker
                .failing()
                .map(|failing| (failing.since, failing.next_try)),
            Some((at(0), at(30)))
        );
        breaker.answered();
        assert!(matches!(breaker.permit(at(11)), Permit::Go) && breaker.failing().is_none());
    }
}
