//! A week of many profiles at two upstreams: bursts of use, outages of one upstream, suspends, steps of the clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use rolekeeper_tests::harness::short_or_long;
use rolekeeperd::journal::Journal;

use crate::service::Weather;
use crate::with_seeds;
use crate::world::{Got, HOUR, Machine, pass, some};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

#[test]
fn a_week_of_many_profiles_keeps_every_promise() {
    with_seeds(1..2, |_| week(short_or_long(500, 10_000), WEEK));
}

#[test]
fn a_day_of_a_hundred_profiles_keeps_every_promise_for_many_seeds() {
    with_seeds(100..short_or_long(108, 130), |_| week(100, WEEK / 7));
}

async fn week(profiles: usize, length: Duration) {
    let machine = Arc::new(Machine::new(profiles, 2, Journal::in_memory()));
    let end = machine.clock.now().boot.plus(length);
    let consumers: Vec<_> = (0..profiles)
        .map(|number| {
            let machine = Arc::clone(&machine);
            tokio::spawn(async move {
                let (mut leases, mut refusals) = (0_usize, 0_usize);
                while machine.clock.now().boot < end {
                    // Nobody at work, then a burst.
                    pass(some(HOUR * 30)).await;
                    for _ in 0..fastrand::usize(1..12) {
                        match machine.ask(number).await {
                            Got::Lease => leases += 1,
                            Got::Refused(_) => refusals += 1,
                        }
                        pass(some(HOUR / 3)).await;
                    }
                }
                (number, leases, refusals)
            })
        })
        .collect();
    let weather = tokio::spawn(weather(Arc::clone(&machine)));
    let (mut leases, mut refusals) = ([0, 0], [0, 0]);
    for consumer in consumers {
        let (number, got, refused) = consumer.await.expect("every promise is kept");
        leases[number % 2] += got;
        refusals[number % 2] += refused;
    }
    weather.abort();
    let calls = machine
        .services
        .iter()
        .map(|service| service.truth().calls.len())
        .collect::<Vec<_>>();
    println!("{profiles} profiles: {leases:?} leases, {refusals:?} refusals, {calls:?} calls");
    assert_eq!(
        refusals[1], 0,
        "the outages of one upstream cost nothing at the other"
    );
    // A day may be without one.
    assert!(
        length < WEEK || refusals[0] > 0,
        "there were outages that somebody noticed"
    );
}

/// Of the first upstream, and of this machine's clocks.
async fn weather(machine: Arc<Machine>) {
    loop {
        pass(some(HOUR * 12)).await;
        match fastrand::u8(0..6) {
            0 => machine.time().suspend(some(HOUR * 14)),
            1 => machine
                .time()
                .step(SignedDuration::from_secs(fastrand::i64(-90_000..90_000))),
            _ => {
                let retry_after = [None, Some(Duration::from_secs(fastrand::u64(0..600)))];
                let kinds = [
                    Weather::Unreachable,
                    Weather::Silent,
                    Weather::Captive,
                    Weather::LoggedOut,
                    Weather::Overloaded(retry_after[fastrand::usize(0..2)]),
                ];
                machine.services[0].truth().weather = kinds[fastrand::usize(0..kinds.len())];
                pass(some(HOUR * 3)).await;
                machine.services[0].truth().weather = Weather::Fair;
            }
        }
    }
}

/// Without this a failing seed would be of no use.
#[test]
fn the_same_seed_gives_the_same_day() {
    let calls = || {
        let counted = std::sync::Mutex::new(Vec::new());
        let started = Instant::now();
        with_seeds(7..8, |_| async {
            let machine = Arc::new(Machine::new(20, 2, Journal::in_memory()));
            let weather = tokio::spawn(weather(Arc::clone(&machine)));
            for _ in 0..500 {
                machine.ask(fastrand::usize(0..20)).await;
                pass(some(HOUR / 4)).await;
            }
            weather.abort();
            counted
                .lock()
                .expect("unpoisoned")
                .clone_from(&machine.services[0].truth().calls);
        });
        assert!(started.elapsed() < Duration::from_secs(60));
        counted.into_inner().expect("unpoisoned")
    };
    let first = calls();
    assert!(first.len() > 50 && first == calls());
}
