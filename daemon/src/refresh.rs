//! When to refresh, when to try again, and what is planned. The decisions are pure; jitter comes in as a number from 0
//! to 1 that is drawn once and never again for the same session or failure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

use crate::cache::state::MARGIN;
use crate::clock::Boot;
use crate::config::ProfileName;
use crate::lock;
use crate::upstream::UpstreamError;

/// A session is refreshed at a fraction of its usable life drawn from here. At the default hour that leaves more than
/// the 15 minutes below which botocore asks again at every signing, and spreads sessions of one moment over 9 minutes.
const FRACTION: std::ops::Range<f64> = 0.55..0.70;

/// The least time between two attempts for one profile: 12 a minute, whatever fails.
pub const BACK_OFF_FLOOR: Duration = Duration::from_secs(5);
/// The longest ceiling of the back-off, and the most of a `Retry-After` that is believed.
pub const BACK_OFF_CAP: Duration = Duration::from_secs(300);

/// How long after it was obtained a session of this life is to be refreshed.
pub fn refresh_after(life: Duration, jitter: f64) -> Duration {
    let fraction = FRACTION.start + (FRACTION.end - FRACTION.start) * jitter.clamp(0.0, 1.0);
    life.saturating_sub(MARGIN).mul_f64(fraction)
}

/// How long to wait after the `attempts`-th failure in a row (from 1): drawn from the floor up to a ceiling that doubles
/// from 10 s to the cap, and on top of what the upstream asks for.
pub fn back_off(attempts: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let ceiling = BACK_OFF_FLOOR.saturating_mul(1 << attempts.clamp(1, 10)).min(BACK_OFF_CAP);
    let spread = (ceiling - BACK_OFF_FLOOR).mul_f64(jitter.clamp(0.0, 1.0));
    retry_after.unwrap_or_default().clamp(BACK_OFF_FLOOR, BACK_OFF_CAP) + spread
}

/// Whether a profile's fetches have been failing, since when, and when the next may be made.
#[derive(Debug, Default)]
pub struct Health(Option<Failing>);

/// A row of failures that has not ended.
#[derive(Debug, Clone)]
pub struct Failing {
    pub since: Boot,
    pub attempts: u32,
    pub next_try: Boot,
    pub error: UpstreamError,
}

impl Health {
    /// An attempt may be made now, or this is why not.
    pub fn permit(&self, now: Boot) -> Result<(), Failing> {
        match &self.0 {
            Some(failing) if now < failing.next_try => Err(failing.clone()),
            _ => Ok(()),
        }
    }

    pub fn succeeded(&mut self) {
        self.0 = None;
    }

    pub fn failed(&mut self, error: UpstreamError, now: Boot, jitter: f64) -> Failing {
        let attempts = self.0.as_ref().map_or(0, |failing| failing.attempts).saturating_add(1);
        let failing = Failing {
            since: self.0.as_ref().map_or(now, |failing| failing.since),
            attempts,
            next_try: now.plus(back_off(attempts, error.retry_after(), jitter)),
            error,
        };
        self.0 = Some(failing.clone());
        failing
    }

    pub fn failing(&self) -> Option<&Failing> {
        self.0.as_ref()
    }
}

/// The refreshes to come, one at the most for a profile.
#[derive(Debug, Default)]
pub struct Timetable {
    plan: Mutex<Plan>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Plan {
    by_time: BTreeSet<(Boot, ProfileName)>,
    by_name: BTreeMap<ProfileName, Boot>,
}

impl Timetable {
    /// Plans a profile's next refresh, in place of the one planned before.
    pub fn set(&self, name: &ProfileName, at: Boot) {
        let mut plan = lock(&self.plan);
        if let Some(before) = plan.by_name.insert(name.clone(), at) {
            plan.by_time.remove(&(before, name.clone()));
        }
        plan.by_time.insert((at, name.clone()));
        drop(plan);
        self.changed.notify_one();
    }

    pub fn next_of(&self, name: &ProfileName) -> Option<Boot> {
        lock(&self.plan).by_name.get(name).copied()
    }

    /// Waits for the next change of plan; one that came while nobody waited counts.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub fn earliest(&self) -> Option<Boot> {
        lock(&self.plan).by_time.first().map(|(at, _)| *at)
    }

    /// Takes out one profile that is due.
    pub fn take_due(&self, now: Boot) -> Option<ProfileName> {
        let mut plan = lock(&self.plan);
        if plan.by_time.first()?.0 > now {
            return None;
        }
        let (_, name) = plan.by_time.pop_first()?;
        plan.by_name.remove(&name);
        Some(name)
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
        let (first, last) = (refresh_after(seconds(3600), 0.0), refresh_after(seconds(3600), 1.0));
        assert!(seconds(3600) - last > seconds(15 * 60), "{last:?}");
        assert!(last - first > seconds(530), "{first:?} to {last:?}");
        assert_eq!(refresh_after(seconds(10), 0.5), Duration::ZERO, "a life within the margin is due at once");
    }

    #[test]
    fn back_off_keeps_its_floor_and_cap_and_honours_retry_after() {
        for attempts in [0, 1, 2, 5, 12, u32::MAX] {
            for jitter in [0.0, 0.3, 1.0] {
                let wait = back_off(attempts, None, jitter);
                assert!((BACK_OFF_FLOOR..=BACK_OFF_CAP).contains(&wait), "{attempts} {jitter}: {wait:?}");
                assert!(back_off(attempts, Some(seconds(60)), jitter) >= seconds(60));
            }
        }
        assert_eq!(back_off(1, None, 1.0), seconds(10));
        assert_eq!(back_off(3, None, 1.0), seconds(40));
        assert!(back_off(1, Some(seconds(86_400)), 0.0) <= BACK_OFF_CAP, "a day is not believed");
        assert!(back_off(1, Some(seconds(60)), 1.0) > seconds(60), "those told the same time still spread");
    }

    #[test]
    fn a_row_of_failures_counts_on_from_its_first_and_ends_with_a_success() {
        let at = |s| Boot::ZERO.plus(seconds(s));
        let error = || UpstreamError::Unavailable { what: "down".into(), retry_after: None };
        let mut health = Health::default();
        assert!(health.permit(at(0)).is_ok());
        assert_eq!(health.failed(error(), at(0), 0.0).next_try, at(5));
        assert!(health.permit(at(4)).is_err() && health.permit(at(5)).is_ok());
        let second = health.failed(error(), at(9), 1.0);
        assert_eq!((second.since, second.attempts, second.next_try), (at(0), 2, at(29)));
        health.succeeded();
        assert!(health.permit(at(10)).is_ok() && health.failing().is_none());
    }

    #[test]
    fn the_timetable_holds_one_time_for_a_profile_and_gives_them_out_in_order() {
        let at = |s| Boot::ZERO.plus(seconds(s));
        let name = |text: &str| ProfileName::parse(text).unwrap();
        let table = Timetable::default();
        table.set(&name("a"), at(30));
        table.set(&name("b"), at(20));
        table.set(&name("a"), at(10));
        assert_eq!((table.earliest(), table.next_of(&name("a"))), (Some(at(10)), Some(at(10))));
        assert_eq!(table.take_due(at(9)), None);
        assert_eq!(table.take_due(at(50)), Some(name("a")));
        assert_eq!(table.take_due(at(50)), Some(name("b")));
        assert_eq!((table.take_due(at(50)), table.next_of(&name("a"))), (None, None));
    }
}
