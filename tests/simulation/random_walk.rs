//! Random walks of one machine's clocks: suspends, steps, uncounted pauses, and an upstream with a wrong `Date`.

use std::time::Duration;

use jiff::SignedDuration;
use rolekeeper_tests::harness::short_or_long;
use rolekeeperd::journal::Journal;

use crate::service::Fault;
use crate::with_seeds;
use crate::world::{HOUR, Machine, Outcome, random_up_to, sleep};

/// R9, R8.
#[test]
fn random_clocks_expire_sessions_at_their_true_end() {
    let journal = Journal::in_memory();

    with_seeds(1000..short_or_long(1100, 2000), |_| {
        let journal = journal.clone();
        async move {
            let machine = Machine::new(3, 1, journal);
            if fastrand::bool() {
                let error = SignedDuration::from_secs(fastrand::i64(-100_000..100_000));
                machine.services[0].truth().date_error = error;
            }

            for _ in 0..100 {
                random_event(&machine).await;
                machine.request(fastrand::usize(0..3)).await;
            }
        }
    });
}

async fn random_event(machine: &Machine) {
    match fastrand::u8(0..6) {
        0 => machine.time().suspend(random_up_to(HOUR * 12)),
        1 => step_by_hours(machine).await,
        2 => {
            let step = SignedDuration::from_secs(fastrand::i64(-100_000..100_000));
            machine.time().step(step);
        }
        3 => pause_uncounted(machine, Duration::from_secs(2) + random_up_to(HOUR * 6)).await,
        _ => sleep(random_up_to(HOUR)).await,
    }
}

/// Steps the wall clock. No session is fetched because of that.
async fn step_by_hours(machine: &Machine) {
    let calls_before = calls(machine);
    let hours = [-24, -1, 1, 24][fastrand::usize(0..4)];
    machine.time().step(SignedDuration::from_hours(hours));

    for number in 0..3 {
        if machine.left(number) > HOUR / 2 && !machine.is_view_stale(number) {
            assert_eq!(machine.request(number).await, Outcome::Lease);
        }
    }
    assert_eq!(calls(machine), calls_before);
}

/// Pauses the machine without counting the time, and corrects its wall clock afterwards. Only a `Date` of the upstream can
/// reveal the pause. After it, no expired session is served.
async fn pause_uncounted(machine: &Machine, span: Duration) {
    let service = &machine.services[0];
    if !service.truth().date_error.is_zero() {
        return;
    }

    // The daemon first learns that the dates are right. It asks the upstream for its time once a minute at most.
    machine.request(0).await;
    sleep(Duration::from_secs(61)).await;
    machine.request(0).await;

    service.truth().uncounted += span;
    let step = SignedDuration::try_from(span).expect("it fits");
    machine.time().step(step);

    loop {
        {
            let truth = service.truth();
            if truth.reported == truth.uncounted {
                return;
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn calls(machine: &Machine) -> usize {
    machine.services[0].truth().calls.len()
}

/// R8.
#[test]
fn sessions_in_use_are_refetched_within_a_second_of_wakeup() {
    with_seeds(1..20, |seed| async move {
        let profiles = if seed % 2 == 0 { 1 } else { 60 };
        let machine = Machine::new(profiles, 1, Journal::in_memory());
        for number in 0..profiles {
            machine.request(number).await;
        }
        sleep(Duration::from_secs(120)).await;

        let before = calls(&machine);
        machine.time().suspend(HOUR * 13);
        sleep(Duration::from_secs(1)).await;
        let first = calls(&machine) - before;
        assert!(first > 0, "no call within a second");
        assert!(profiles == 1 || first < profiles * 2 / 3, "{first} at once");

        sleep(Duration::from_secs(20)).await;
        assert_eq!(calls(&machine) - before, profiles, "one call for each");
        for number in 0..profiles {
            assert_eq!(machine.request(number).await, Outcome::Lease);
        }
        assert_eq!(calls(&machine) - before, profiles, "no request had to wait");
    });
}

/// R1: an upstream with a latency of 20 s, and 200 clients for an hour.
#[test]
fn slow_upstream_does_not_delay_a_warm_profile() {
    with_seeds(1..short_or_long(2, 3), |_| async {
        let machine = Machine::new(1, 1, Journal::in_memory());
        machine.request(0).await;
        machine.services[0].truth().latency = Duration::from_secs(20)..Duration::from_secs(20);

        for _ in 0..3600 {
            for _ in 0..200 {
                // The machine asserts that it does not wait.
                assert_eq!(machine.request(0).await, Outcome::Lease);
            }
            sleep(Duration::from_secs(1)).await;
        }

        let calls = calls(&machine);
        assert!(
            (6..12).contains(&calls),
            "{calls} calls for sessions of 15 minutes"
        );
    });
}

/// R4 and R5, for each fault.
#[test]
fn outage_has_no_effect_before_the_true_end() {
    let faults = [
        Fault::Unreachable,
        Fault::Unresponsive,
        Fault::CaptivePortal,
        Fault::TokenRefused,
        Fault::Overloaded(None),
        Fault::Overloaded(Some(Duration::from_secs(120))),
    ];

    // Each fault has at least one seed.
    with_seeds(1..short_or_long(7, 13), |seed| {
        let fault = faults[usize::try_from(seed).expect("small") % faults.len()];
        async move {
            let machine = Machine::new(5, 1, Journal::in_memory());
            for number in 0..5 {
                machine.request(number).await;
            }
            machine.services[0].truth().fault = fault;

            refuse_after_the_end(&machine).await;

            machine.services[0].truth().fault = Fault::None;
            sleep(Duration::from_secs(660)).await;
            for number in 0..5 {
                assert_eq!(machine.request(number).await, Outcome::Lease);
            }
        }
    });
}

/// The machine asserts that there is no refusal before a session's end. Here, each session is refused after it.
async fn refuse_after_the_end(machine: &Machine) {
    let left = [0, 1, 2, 3, 4].map(|number| machine.left(number));
    let start = machine.clock.now().boot;

    for _ in 0..14 * 3600 {
        sleep(Duration::from_secs(1)).await;
        let number = fastrand::usize(0..5);
        let elapsed = machine.clock.now().boot.since(start);
        let outcome = machine.request(number).await;

        if elapsed + Duration::from_secs(14) > left[number] {
            let left = left[number].saturating_sub(elapsed);
            assert_ne!(outcome, Outcome::Lease, "{left:?} before its end");
        }
    }
}

/// Half an hour after the last lease, no session is refreshed, and all expire.
#[test]
fn unused_profile_expires_and_is_evicted() {
    with_seeds(1..6, |_| async {
        let machine = Machine::new(6, 1, Journal::in_memory());
        for number in 0..6 {
            machine.request(number).await;
        }
        sleep(HOUR * 26).await;

        let calls_before = calls(&machine);
        let status = &machine.daemon.services.status;
        let page = status.page(machine.peer(0), None, 0);
        let mut profiles = page.profiles.iter();
        assert!(
            profiles.all(|profile| profile.session.is_none()),
            "{page:?}"
        );
        // Sessions of a quarter of an hour, an hour (three of them) and twelve hours: one or two refreshes each.
        assert!((8..=6 * 5).contains(&calls_before), "{calls_before}");

        sleep(HOUR * 24).await;
        assert_eq!(calls(&machine), calls_before);
        assert_eq!(
            machine.daemon.timers.earliest(),
            None,
            "no timer wakes the daemon"
        );
        assert_eq!(machine.request(0).await, Outcome::Lease);
    });
}

#[test]
fn breaker_allows_one_call_at_a_time_and_isolates_upstreams() {
    with_seeds(1..6, |_| async {
        let machine = Machine::new(200, 2, Journal::in_memory());
        machine.services[0].truth().fault = Fault::Unresponsive;
        for number in (0..200).step_by(2).take(3) {
            assert_ne!(machine.request(number).await, Outcome::Lease);
        }
        sleep(Duration::from_secs(15)).await;

        let before = calls(&machine);
        for _ in 0..60 {
            for number in (0..200).step_by(2) {
                // The request that makes the call is refused within 20 s, the others at once.
                machine.request(number).await;
            }
            sleep(Duration::from_secs(10)).await;
        }
        let made = calls(&machine) - before;
        assert!(made < 60, "{made} calls in more than ten minutes");

        for number in (1..200).step_by(2) {
            assert_eq!(machine.request(number).await, Outcome::Lease);
        }
        machine.services[0].truth().fault = Fault::None;
        sleep(Duration::from_secs(400)).await;
        for number in (0..200).step_by(2) {
            assert_eq!(machine.request(number).await, Outcome::Lease);
        }
    });
}

/// Calls are limited, in order of arrival. A request that a consumer waits for has priority over refreshes.
#[test]
fn cold_request_overtakes_a_thousand_refreshes() {
    const WARM: usize = 1000;

    with_seeds(1..4, |_| async {
        let machine = Machine::new(WARM + 1, 1, Journal::in_memory());
        for number in 0..WARM {
            machine.request(number).await;
        }
        machine.services[0].truth().latency = Duration::from_secs(2)..Duration::from_secs(2);
        let before = calls(&machine);
        machine.time().suspend(HOUR * 13);
        sleep(Duration::from_secs(6)).await;

        let started = machine.clock.now().awake;
        assert_eq!(machine.request(WARM).await, Outcome::Lease);
        let waited = machine.clock.now().awake.saturating_sub(started);
        assert!(waited < Duration::from_secs(5), "{waited:?}");

        let made = calls(&machine) - before;
        assert!(made < WARM / 4, "{made} were made before it");
        // The service asserts the upper limit.
        let concurrent = machine.services[0].truth().max_concurrent;
        assert!(concurrent > 20, "{concurrent} at a time");

        sleep(Duration::from_secs(120)).await;
        assert_eq!(calls(&machine) - before, WARM + 1, "one call for each");
    });
}
