//! Many machines at one moment.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rolekeeper_tests::harness::short_or_long;
use rolekeeperd::clock::{BootTime, Clock};
use rolekeeperd::config::LeaseLimit;
use rolekeeperd::journal::Journal;

use crate::service::Weather;
use crate::with_seeds;
use crate::world::{HOUR, Machine, NEVER, pass};

/// Machines with one profile each, whose tool asks when its lease is about to end.
fn fleet(size: usize, clock: &Clock) -> Vec<Arc<Machine>> {
    let journal = Journal::in_memory();
    let machine = || {
        Machine::on(clock.clone(), 1, 1, journal.clone(), NEVER, |_| {
            (HOUR, LeaseLimit::Balanced)
        })
    };
    (0..size).map(|_| Arc::new(machine())).collect()
}

fn use_it(machine: &Arc<Machine>) {
    let machine = Arc::clone(machine);
    tokio::spawn(async move {
        loop {
            machine.ask(0).await;
            pass(Duration::from_secs(fastrand::u64(60..960))).await;
        }
    });
}

/// How many calls there were from then on in each ten seconds.
fn in_tens(fleet: &[Arc<Machine>], from: BootTime, to: BootTime) -> Vec<usize> {
    let mut counts = vec![0; usize::try_from(to.since(from).as_secs() / 10).expect("a number") + 1];
    for machine in fleet {
        for call in machine.services[0]
            .truth()
            .calls
            .iter()
            .filter(|call| **call >= from && **call < to)
        {
            counts[usize::try_from(call.since(from).as_secs() / 10).expect("a number")] += 1;
        }
    }
    counts
}

fn virtual_clock() -> Clock {
    Clock::virtual_from(Timestamp::from_second(1_700_000_000).expect("a time"))
}

/// R3.
#[test]
fn daemons_started_together_do_not_refresh_together() {
    let size = short_or_long(5_000, 20_000);
    with_seeds(1..2, |_| async move {
        let clock = virtual_clock();
        let fleet = fleet(size, &clock);
        fleet.iter().for_each(use_it);
        pass(Duration::from_secs(60)).await;
        let start = clock.now().boot;
        pass(HOUR * 3).await;
        let hours = in_tens(&fleet, start, clock.now().boot);
        let worst = hours.iter().max().copied().unwrap_or(0);
        println!(
            "worst ten seconds: {worst} of {size}, {} calls",
            hours.iter().sum::<usize>()
        );
        assert!(
            hours.iter().sum::<usize>() > 3 * size,
            "they were refreshed"
        );
        assert!(
            worst * 100 <= size * 4,
            "{worst} of {size} within ten seconds"
        );
    });
}

/// R6: no herd, and one call each. "Under twice the steady rate" is read as that of the outage, when it has lasted. Under
/// twice that of quiet times nobody could stay: in half an hour four of five daemons fall due, each for a session that ends
/// 27 min later at the most, and these alone, spread as evenly as can be, are more calls than that.
#[test]
fn daemons_recover_from_an_outage_at_the_rate_of_their_retries() {
    let size = short_or_long(2_500, 10_000);
    with_seeds(1..2, |_| async move {
        let clock = virtual_clock();
        let fleet = fleet(size, &clock);
        for machine in &fleet {
            use_it(machine);
            pass(HOUR / u32::try_from(size).expect("a number")).await;
        }
        pass(HOUR * 2).await;
        let window = |from: BootTime| in_tens(&fleet, from, clock.now().boot);
        let per_ten = |counts: &[usize]| counts.iter().sum::<usize>() / counts.len();
        let steady_from = clock.now().boot;
        pass(HOUR).await;
        let steady = window(steady_from);
        for machine in &fleet {
            machine.services[0].truth().weather = Weather::Unreachable;
        }
        pass(HOUR / 3).await;
        let late = clock.now().boot;
        pass(HOUR / 6).await;
        let outage = window(late);
        let granted = || {
            fleet
                .iter()
                .map(|machine| machine.services[0].truth().granted)
                .sum::<usize>()
        };
        let before = granted();
        for machine in &fleet {
            machine.services[0].truth().weather = Weather::Fair;
        }
        let recovered = clock.now().boot;
        pass(Duration::from_secs(600)).await;
        let recovery = window(recovered);
        let worst = recovery.iter().max().copied().unwrap_or(0);
        println!(
            "calls in ten seconds: steady {}, late in the outage {}, worst after it {worst}; {} sessions in 10 min",
            per_ten(&steady),
            per_ten(&outage),
            granted() - before,
        );
        assert!(
            worst <= 2 * per_ten(&outage),
            "{worst} within ten seconds, {} before",
            per_ten(&outage)
        );
        assert_eq!(
            recovery.iter().sum::<usize>(),
            granted() - before,
            "one call each brings them back"
        );
        let stale = fleet.iter().filter(|machine| !machine.is_fresh(0)).count();
        assert!(stale * 50 < size, "{stale} are not back after ten minutes");
    });
}
