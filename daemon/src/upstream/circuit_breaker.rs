//! The circuit breaker of an upstream: during an outage one call at a time probes it, instead of one per profile. Pure.

use std::collections::BTreeSet;

use super::backoff::{Backoff, BackoffState};
use crate::clock::BootTime;
use crate::model::ProfileId;
use crate::upstream::UpstreamError;

/// How many different profiles must fail, without a reply in between, for the failure to be the upstream's. One role that
/// always fails does not open the breaker.
const FAILED_PROFILES: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct CircuitBreaker {
    /// The profiles whose calls failed since the last reply.
    failed: BTreeSet<ProfileId>,
    /// The outage, while the breaker is open.
    outage: Backoff,
}

/// Whether a call may be made.
#[derive(Debug)]
pub(crate) enum Permit {
    Go,
    /// One call may be made, as a probe.
    Probe,
    No(BackoffState),
}

impl CircuitBreaker {
    pub(crate) fn permit(&self, now: BootTime) -> Permit {
        match self.outage.permit(now) {
            Err(failing) => Permit::No(failing),
            Ok(()) if self.outage.state().is_some() => Permit::Probe,
            Ok(()) => Permit::Go,
        }
    }

    /// The outage, while the breaker is open.
    pub(crate) fn outage(&self) -> Option<&BackoffState> {
        self.outage.state()
    }

    /// The upstream has replied, if only with a refusal.
    pub(crate) fn replied(&mut self) {
        *self = Self::default();
    }

    /// A call for a profile failed in a way that may be the upstream's.
    pub(crate) fn failed(
        &mut self,
        profile: ProfileId,
        error: &UpstreamError,
        is_probe: bool,
        now: BootTime,
        jitter: f64,
    ) {
        let was_open = self.outage.state().is_some();
        self.failed.insert(profile);
        // Calls that were under way when it opened are no news.
        if is_probe || (!was_open && self.failed.len() >= FAILED_PROFILES) {
            self.outage.record_failure(error.clone(), now, jitter);
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
            hint: None,
        }
    }

    fn profiles() -> Vec<ProfileId> {
        (0..10).map(ProfileId::new).collect()
    }

    #[test]
    fn opens_when_three_profiles_fail_but_not_for_one() {
        let mut breaker = CircuitBreaker::default();
        let profiles = profiles();
        for _ in 0..10 {
            breaker.failed(profiles[0], &down(), false, at(0), 0.0);
        }
        breaker.failed(profiles[1], &down(), false, at(0), 0.0);
        breaker.replied();
        breaker.failed(profiles[1], &down(), false, at(0), 0.0);
        breaker.failed(profiles[2], &down(), false, at(0), 0.0);
        assert!(matches!(breaker.permit(at(0)), Permit::Go));
        breaker.failed(profiles[3], &down(), false, at(0), 0.0);
        assert!(matches!(breaker.permit(at(4)), Permit::No(_)));
        assert!(matches!(breaker.permit(at(5)), Permit::Probe));
    }

    #[test]
    fn only_probes_count_while_open_and_a_reply_closes() {
        let mut breaker = CircuitBreaker::default();
        let profiles = profiles();
        for profile in &profiles {
            breaker.failed(*profile, &down(), false, at(0), 1.0);
        }
        assert_eq!(
            breaker
                .outage()
                .map(|failing| (failing.attempts, failing.next_try)),
            Some((1, at(10)))
        );
        breaker.failed(profiles[0], &down(), true, at(10), 1.0);
        assert_eq!(
            breaker
                .outage()
                .map(|failing| (failing.since, failing.next_try)),
            Some((at(0), at(30)))
        );
        breaker.replied();
        assert!(matches!(breaker.permit(at(11)), Permit::Go) && breaker.outage().is_none());
    }
}
