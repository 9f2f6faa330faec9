//! Many machines at the same time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rolekeeper_tests::harness::short_or_long;
use rolekeeperd::clock::{BootTime, Clock};
use rolekeeperd::config::LeaseLimit;
use rolekeeperd::journal::Journal;

use crate::service::Fault;
use crate::with_seeds;
use crate::world::{HOUR, Machine, NEVER, sleep};

/// Machines with one profile each.
fn fleet(size: usize, clock: &Clock) -> Vec<Arc<Machine>> {
    let journal = Journal::in_memory();
    let mut fleet = Vec::new();
    for _ in 0..size {
        let machine = Machine::with_clock(clock.clone(), 1, 1, journal.clone(), NEVER, |_| {
            (HOUR, LeaseLimit::Balanced)
        });
        fleet.push(Arc::new(machine));
    }

    fleet
}

/// Starts a consumer, which requests a lease again before the last one ends.
fn start_consumer(machine: &Arc<Machine>) {
    let machine = Arc::clone(machine);

    tokio::spawn(async move {
        loop {
            machine.request(0).await;
            sleep(Duration::from_secs(fastrand::u64(60..960))).await;
        }
    });
}

/// The number of calls in each ten seconds.
fn calls_per_ten_seconds(fleet: &[Arc<Machine>], from: BootTime, to: BootTime) -> Vec<usize> {
    let mut counts = vec![0; index_of(to, from) + 1];
    for machine in fleet {
        let truth = machine.services[0].truth();
        let calls = truth.calls.iter();
        for call in calls.filter(|call| **call >= from && **call < to) {
            counts[index_of(*call, from)] += 1;
        }
    }

    counts
}

fn index_of(time: BootTime, from: BootTime) -> usize {
    usize::try_from(time.since(from).as_secs() / 10).expect("a number")
}

fn mean(counts: &[usize]) -> usize {
    counts.iter().sum::<usize>() / counts.len()
}

fn max(counts: &[usize]) -> usize {
    counts.iter().max().copied().unwrap_or(0)
}

fn granted(fleet: &[Arc<Machine>]) -> usize {
    let granted = fleet.iter().map(|it| it.services[0].truth().granted);
    granted.sum()
}

fn set_fault(fleet: &[Arc<Machine>], fault: Fault) {
    for machine in fleet {
        machine.services[0].truth().fault = fault;
    }
}

fn virtual_clock() -> Clock {
    Clock::virtual_from(Timestamp::from_second(1_700_000_000).expect("a time"))
}

/// R3.
#[test]
fn fleet_started_together_spreads_its_refreshes() {
    let size = short_or_long(5_000, 20_000);

    with_seeds(1..2, |_| async move {
        let clock = virtual_clock();
        let fleet = fleet(size, &clock);
        fleet.iter().for_each(start_consumer);
        sleep(Duration::from_secs(60)).await;

        let start = clock.now().boot;
        sleep(HOUR * 3).await;

        let calls = calls_per_ten_seconds(&fleet, start, clock.now().boot);
        let total: usize = calls.iter().sum();
        let worst = max(&calls);
        println!("worst ten seconds: {worst} of {size}, {total} calls");
        assert!(total > 3 * size, "every machine refreshed its session");
        assert!(
            worst * 100 <= size * 4,
            "{worst} of {size} within ten seconds"
        );
    });
}

/// R6: no thundering herd, and one call each. "Under twice the steady rate" means the rate late in the outage. Twice the
/// rate of quiet times is impossible: in half an hour, four of five daemons fall due, and their sessions end within 27 min.
/// Even spread evenly, these calls exceed that rate.
#[test]
fn recovery_after_outage_is_at_the_retry_rate() {
    let size = short_or_long(2_500, 10_000);

    with_seeds(1..2, |_| async move {
        let clock = virtual_clock();
        let fleet = fleet(size, &clock);
        for machine in &fleet {
            start_consumer(machine);
            sleep(HOUR / u32::try_from(size).expect("a number")).await;
        }
        sleep(HOUR * 2).await;

        let steady_from = clock.now().boot;
        sleep(HOUR).await;
        let steady = calls_per_ten_seconds(&fleet, steady_from, clock.now().boot);

        set_fault(&fleet, Fault::Unreachable);
        sleep(HOUR / 3).await;
        let late_from = clock.now().boot;
        sleep(HOUR / 6).await;
        let outage = calls_per_ten_seconds(&fleet, late_from, clock.now().boot);

        let granted_before = granted(&fleet);
        set_fault(&fleet, Fault::None);
        let recovery_from = clock.now().boot;
        sleep(Duration::from_secs(600)).await;
        let recovery = calls_per_ten_seconds(&fleet, recovery_from, clock.now().boot);

        let steady_rate = mean(&steady);
        let outage_rate = mean(&outage);
        let worst = max(&recovery);
        let sessions = granted(&fleet) - granted_before;
        println!(
            "calls in ten seconds: steady {steady_rate}, late in the outage {outage_rate}, worst after it {worst}; \
             {sessions} sessions in 10 min"
        );
        assert!(
            worst <= 2 * outage_rate,
            "{worst} within ten seconds, {outage_rate} before"
        );
        let calls: usize = recovery.iter().sum();
        assert_eq!(calls, sessions, "one call for each session");
        let stale = fleet.iter().filter(|machine| !machine.is_fresh(0)).count();
        assert!(
            stale * 50 < size,
            "{stale} have no session after ten minutes"
        );
    });
}
