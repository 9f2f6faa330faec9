//! A week of many profiles at two upstreams: bursts of use, outages of one upstream, suspends, steps of the clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use rolekeeper_tests::harness::short_or_long;
use rolekeeperd::clock::BootTime;
use rolekeeperd::journal::Journal;

use crate::service::Fault;
use crate::with_seeds;
use crate::world::{HOUR, Machine, Outcome, random_up_to, sleep};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

#[test]
fn week_of_many_profiles_keeps_every_promise() {
    with_seeds(1..2, |_| soak(short_or_long(500, 10_000), WEEK));
}

#[test]
fn day_of_hundred_profiles_keeps_promises_for_many_seeds() {
    with_seeds(100..short_or_long(108, 130), |_| soak(100, WEEK / 7));
}

async fn soak(profiles: usize, length: Duration) {
    let machine = Arc::new(Machine::new(profiles, 2, Journal::in_memory()));
    let end = machine.clock.now().boot.plus(length);
    let consumers: Vec<_> = (0..profiles)
        .map(|number| tokio::spawn(use_in_bursts(Arc::clone(&machine), number, end)))
        .collect();
    let faults = tokio::spawn(fault_schedule(Arc::clone(&machine)));

    let mut leases = [0, 0];
    let mut refusals = [0, 0];
    for (number, consumer) in consumers.into_iter().enumerate() {
        let (leased, refused) = consumer.await.expect("every promise is kept");
        leases[number % 2] += leased;
        refusals[number % 2] += refused;
    }
    faults.abort();

    let services = machine.services.iter();
    let calls: Vec<_> = services
        .map(|service| service.truth().calls.len())
        .collect();
    println!("{profiles} profiles: {leases:?} leases, {refusals:?} refusals, {calls:?} calls");
    assert_eq!(
        refusals[1], 0,
        "outages of one upstream have no effect on the other"
    );
    // A day may have no outage that a consumer notices.
    assert!(length < WEEK || refusals[0] > 0);
}

/// Returns the number of leases and of refusals.
async fn use_in_bursts(machine: Arc<Machine>, number: usize, end: BootTime) -> (usize, usize) {
    let mut leases = 0;
    let mut refusals = 0;

    while machine.clock.now().boot < end {
        sleep(random_up_to(HOUR * 30)).await;
        for _ in 0..fastrand::usize(1..12) {
            match machine.request(number).await {
                Outcome::Lease => leases += 1,
                Outcome::Refused(_) => refusals += 1,
            }
            sleep(random_up_to(HOUR / 3)).await;
        }
    }

    (leases, refusals)
}

/// Random faults of the first upstream and of this machine's clocks.
async fn fault_schedule(machine: Arc<Machine>) {
    loop {
        sleep(random_up_to(HOUR * 12)).await;

        match fastrand::u8(0..6) {
            0 => machine.time().suspend(random_up_to(HOUR * 14)),
            1 => {
                let step = SignedDuration::from_secs(fastrand::i64(-90_000..90_000));
                machine.time().step(step);
            }
            _ => {
                let retry_after = [None, Some(Duration::from_secs(fastrand::u64(0..600)))];
                let faults = [
                    Fault::Unreachable,
                    Fault::Unresponsive,
                    Fault::CaptivePortal,
                    Fault::TokenRefused,
                    Fault::Overloaded(retry_after[fastrand::usize(0..2)]),
                ];
                machine.services[0].truth().fault = faults[fastrand::usize(0..faults.len())];
                sleep(random_up_to(HOUR * 3)).await;
                machine.services[0].truth().fault = Fault::None;
            }
        }
    }
}

/// The calls of a day with one seed.
fn calls_of_one_seed() -> Vec<BootTime> {
    let calls = std::sync::Mutex::new(Vec::new());
    let started = Instant::now();

    with_seeds(7..8, |_| async {
        let machine = Arc::new(Machine::new(20, 2, Journal::in_memory()));
        let faults = tokio::spawn(fault_schedule(Arc::clone(&machine)));
        for _ in 0..500 {
            machine.request(fastrand::usize(0..20)).await;
            sleep(random_up_to(HOUR / 4)).await;
        }
        faults.abort();

        let truth = machine.services[0].truth();
        calls.lock().expect("unpoisoned").clone_from(&truth.calls);
    });

    assert!(started.elapsed() < Duration::from_secs(60));
    calls.into_inner().expect("unpoisoned")
}

/// Otherwise the seed of a failure could not repeat it.
#[test]
fn same_seed_gives_the_same_day() {
    let first = calls_of_one_seed();

    assert!(first.len() > 50);
    assert!(first == calls_of_one_seed());
}
