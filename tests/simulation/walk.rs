//! Random walks of one machine's clocks: suspends, steps, pauses that nobody counted, an upstream whose `Date` lies.

use std::time::Duration;

use jiff::SignedDuration;
use rolekeeper_tests::harness::short_or_long;
use rolekeeperd::journal::Journal;

use crate::service::Weather;
use crate::with_seeds;
use crate::world::{Got, HOUR, Machine, pass, some};

/// R9, R8.
#[test]
fn random_clocks_expire_sessions_at_their_true_end() {
    let journal = Journal::in_memory();
    with_seeds(1000..short_or_long(1100, 2000), |_| {
        let journal = journal.clone();
        async move {
            let machine = Machine::new(3, 1, journal);
            if fastrand::bool() {
                let wrong = SignedDuration::from_secs(fastrand::i64(-100_000..100_000));
                machine.services[0].truth().date_is_wrong = wrong;
            }
            for _ in 0..100 {
                step(&machine).await;
                machine.ask(fastrand::usize(0..3)).await;
            }
        }
    });
}

async fn step(machine: &Machine) {
    let service = &machine.services[0];
    match fastrand::u8(0..6) {
        0 => machine.time().suspend(some(HOUR * 12)),
        1 => {
            let calls = service.truth().calls.len();
            machine.time().step(SignedDuration::from_hours(
                [-24, -1, 1, 24][fastrand::usize(0..4)],
            ));
            // Whatever the clock on the wall says, no session is fetched because of it.
            for number in 0..3 {
                if machine.left(number) > HOUR / 2 && !machine.is_blind(number) {
                    assert_eq!(machine.ask(number).await, Got::Lease);
                }
            }
            assert_eq!(service.truth().calls.len(), calls);
        }
        2 => machine
            .time()
            .step(SignedDuration::from_secs(fastrand::i64(-100_000..100_000))),
        3 => lose_time(machine, Duration::from_secs(2) + some(HOUR * 6)).await,
        _ => pass(some(HOUR)).await,
    }
}

/// The machine stands still without counting it, and its clock is put right afterwards. Until the upstream has said what
/// time it is nobody can know; after that nothing is served that has expired there.
async fn lose_time(machine: &Machine, span: Duration) {
    let service = &machine.services[0];
    if !service.truth().date_is_wrong.is_zero() {
        return;
    }
    // It must be known whether its dates are right, and it is asked for its time once a minute at the most.
    machine.ask(0).await;
    pass(Duration::from_secs(61)).await;
    machine.ask(0).await;
    service.truth().lost += span;
    machine
        .time()
        .step(SignedDuration::try_from(span).expect("it fits"));
    let is_told = || {
        let truth = service.truth();
        truth.told == truth.lost
    };
    while !is_told() {
        pass(Duration::from_millis(100)).await;
    }
}

/// R8.
#[test]
fn after_a_night_asleep_what_was_in_use_is_fetched_within_a_second_and_not_all_at_once() {
    with_seeds(1..20, |seed| async move {
        let profiles = if seed % 2 == 0 { 1 } else { 60 };
        let machine = Machine::new(profiles, 1, Journal::in_memory());
        for number in 0..profiles {
            machine.ask(number).await;
        }
        pass(Duration::from_secs(120)).await;
        let before = machine.services[0].truth().calls.len();
        machine.time().suspend(HOUR * 13);
        pass(Duration::from_secs(1)).await;
        let first = machine.services[0].truth().calls.len() - before;
        assert!(first > 0, "nothing within a second");
        assert!(profiles == 1 || first < profiles * 2 / 3, "{first} at once");
        pass(Duration::from_secs(20)).await;
        assert_eq!(
            machine.services[0].truth().calls.len() - before,
            profiles,
            "each once"
        );
        for number in 0..profiles {
            assert_eq!(machine.ask(number).await, Got::Lease);
        }
        assert_eq!(
            machine.services[0].truth().calls.len() - before,
            profiles,
            "nobody had to wait"
        );
    });
}

/// R1: an upstream that takes 20 s, and 200 clients for an hour.
#[test]
fn a_slow_upstream_makes_nobody_wait_once_the_profile_is_warm() {
    with_seeds(1..short_or_long(2, 3), |_| async {
        let machine = Machine::new(1, 1, Journal::in_memory());
        machine.ask(0).await;
        machine.services[0].truth().latency = Duration::from_secs(20)..Duration::from_secs(20);
        for _ in 0..3600 {
            for _ in 0..200 {
                // The checker does not let it wait.
                assert_eq!(machine.ask(0).await, Got::Lease);
            }
            pass(Duration::from_secs(1)).await;
        }
        let calls = machine.services[0].truth().calls.len();
        assert!(
            (6..12).contains(&calls),
            "{calls} calls for sessions of 15 minutes"
        );
    });
}

/// R4 and R5, for each kind of failure.
#[test]
fn an_outage_is_noticed_by_nobody_before_the_true_end() {
    let kinds = [
        Weather::Unreachable,
        Weather::Silent,
        Weather::Captive,
        Weather::LoggedOut,
        Weather::Overloaded(None),
        Weather::Overloaded(Some(Duration::from_secs(120))),
    ];
    // At least once with each kind.
    with_seeds(1..short_or_long(7, 13), |seed| {
        let weather = kinds[usize::try_from(seed).expect("small") % kinds.len()];
        async move {
            let machine = Machine::new(5, 1, Journal::in_memory());
            for number in 0..5 {
                machine.ask(number).await;
            }
            machine.services[0].truth().weather = weather;
            // The checker sees to it that refusals come at the end, and not before; here it is seen that they come.
            let ends = [0, 1, 2, 3, 4].map(|number| machine.left(number));
            let started = machine.clock.now().boot;
            for _ in 0..14 * 3600 {
                pass(Duration::from_secs(1)).await;
                let number = fastrand::usize(0..5);
                let gone = machine.clock.now().boot.since(started);
                let got = machine.ask(number).await;
                if gone + Duration::from_secs(14) > ends[number] {
                    assert_ne!(
                        got,
                        Got::Lease,
                        "{:?} before its end",
                        ends[number].saturating_sub(gone)
                    );
                }
            }
            machine.services[0].truth().weather = Weather::Fair;
            pass(Duration::from_secs(660)).await;
            for number in 0..5 {
                assert_eq!(machine.ask(number).await, Got::Lease);
            }
        }
    });
}

/// Nobody asks any more: one lease and half an hour later nothing is refreshed, and in the end nothing is held.
#[test]
fn a_profile_that_nobody_uses_is_left_to_expire_and_forgotten() {
    with_seeds(1..6, |_| async {
        let machine = Machine::new(6, 1, Journal::in_memory());
        for number in 0..6 {
            machine.ask(number).await;
        }
        pass(HOUR * 26).await;
        let calls = machine.services[0].truth().calls.len();
        let status = machine
            .daemon
            .services
            .status
            .page(machine.peer(0), None, 0);
        assert!(
            status
                .profiles
                .iter()
                .all(|profile| profile.session.is_none()),
            "{status:?}"
        );
        // A quarter of an hour, an hour (three of them), twelve: at most a refresh or two within the lease and the grace.
        assert!((8..=6 * 5).contains(&calls), "{calls}");
        pass(HOUR * 24).await;
        assert_eq!(machine.services[0].truth().calls.len(), calls);
        assert_eq!(
            machine.daemon.timers.earliest(),
            None,
            "nothing is planned, so nothing wakes the daemon"
        );
        assert_eq!(machine.ask(0).await, Got::Lease);
    });
}

/// A breaker for each upstream.
#[test]
fn an_upstream_that_is_away_costs_one_call_at_a_time_and_nothing_at_another() {
    with_seeds(1..6, |_| async {
        let machine = Machine::new(200, 2, Journal::in_memory());
        machine.services[0].truth().weather = Weather::Silent;
        let asked = || (0..200).filter(|number| number % 2 == 0);
        for number in asked().take(3) {
            assert_ne!(machine.ask(number).await, Got::Lease);
        }
        pass(Duration::from_secs(15)).await;
        let before = machine.services[0].truth().calls.len();
        for _ in 0..60 {
            for number in asked() {
                // Who waits is told within 20 s; the others at once.
                machine.ask(number).await;
            }
            pass(Duration::from_secs(10)).await;
        }
        let spent = machine.services[0].truth().calls.len() - before;
        assert!(spent < 60, "{spent} calls in ten minutes and more");
        for number in (0..200).filter(|number| number % 2 == 1) {
            assert_eq!(machine.ask(number).await, Got::Lease);
        }
        machine.services[0].truth().weather = Weather::Fair;
        pass(Duration::from_secs(400)).await;
        for number in asked() {
            assert_eq!(machine.ask(number).await, Got::Lease);
        }
    });
}

/// Bounded, and first come, first served; whoever waits does not stand behind refreshes that nobody waits for.
#[test]
fn a_cold_request_is_answered_in_time_while_a_thousand_profiles_are_refreshed() {
    with_seeds(1..4, |_| async {
        const MANY: usize = 1000;
        let machine = Machine::new(MANY + 1, 1, Journal::in_memory());
        for number in 0..MANY {
            machine.ask(number).await;
        }
        machine.services[0].truth().latency = Duration::from_secs(2)..Duration::from_secs(2);
        let before = machine.services[0].truth().calls.len();
        machine.time().suspend(HOUR * 13);
        pass(Duration::from_secs(6)).await;
        let asked = machine.clock.now().awake;
        assert_eq!(machine.ask(MANY).await, Got::Lease);
        let waited = machine.clock.now().awake.saturating_sub(asked);
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        let (made, most) = {
            let truth = machine.services[0].truth();
            (truth.calls.len() - before, truth.most_at_once)
        };
        assert!(made < MANY / 4, "{made} were made before it");
        // The service itself sees to it that there are never more at a time than there are places.
        assert!(most > 20, "{most} at a time");
        pass(Duration::from_secs(120)).await;
        assert_eq!(
            machine.services[0].truth().calls.len() - before,
            MANY + 1,
            "each once"
        );
    });
}
