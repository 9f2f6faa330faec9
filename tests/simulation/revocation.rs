//! V1 to V5 in virtual time: sessions revoked at the service and here, at every moment, and a checker that knows the truth
//! about each.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use rolekeeper_tests::harness::short_or_long;
use rolekeeperd::clock::{BootTime, Clock};
use rolekeeperd::config::LeaseLimit;
use rolekeeperd::journal::Journal;

use crate::service::Weather;
use crate::with_seeds;
use crate::world::{Got, HOUR, Machine, pass, some};

const EVERY: Duration = Duration::from_secs(30);
/// From a revocation at the service to the end of its use.
const BOUND: Duration = Duration::from_secs(31);

fn machine(profiles: usize, services: usize) -> Machine {
    let clock = Clock::virtual_from(Timestamp::from_second(1_700_000_000).expect("a time"));
    let machine = Machine::on(
        clock,
        profiles,
        services,
        Journal::in_memory(),
        EVERY,
        |number| {
            (
                HOUR,
                [LeaseLimit::Balanced, LeaseLimit::Full, LeaseLimit::Strict][number % 3],
            )
        },
    );
    for service in &machine.services {
        service.truth().latency = Duration::from_millis(10)..Duration::from_millis(40);
    }
    machine
}

fn revoke(machine: &Machine, number: usize) {
    let now = machine.clock.now().boot;
    if let Some(id) = machine.given(number) {
        machine
            .service(number)
            .truth()
            .revoked
            .entry(id)
            .or_insert(now);
    }
}

#[test]
fn a_revocation_at_the_service_is_in_force_within_the_interval_and_a_second() {
    with_seeds(1..60, |_| async {
        let machine = machine(3, 1);
        pass(some(HOUR)).await;
        for number in 0..3 {
            assert_eq!(machine.ask(number).await, Got::Lease);
        }
        pass(some(Duration::from_secs(600))).await;
        revoke(&machine, 1);
        pass(BOUND).await;
        assert_eq!(machine.ask(1).await, Got::Refused("held"));
        for number in [0, 2] {
            assert_eq!(machine.ask(number).await, Got::Lease);
        }
    });
}

/// V2.
#[test]
fn a_thousand_profiles_cost_as_many_looks_as_one() {
    with_seeds(1..3, |_| async {
        let mut looks = Vec::new();
        for profiles in [1, 1000] {
            let machine = machine(profiles, 1);
            for number in 0..profiles {
                assert_eq!(machine.ask(number).await, Got::Lease);
            }
            let before = machine.services[0].truth().looks.len();
            for _ in 0..20 {
                pass(EVERY).await;
                machine.ask(0).await;
            }
            looks.push(machine.services[0].truth().looks.len() - before);
            pass(HOUR * 3).await;
            let before = machine.services[0].truth().looks.len();
            pass(HOUR * 24).await;
            assert_eq!(
                machine.services[0].truth().looks.len(),
                before,
                "nobody has a lease any more"
            );
        }
        assert!(
            looks.iter().all(|looks| (20..=25).contains(looks)),
            "{looks:?} in ten minutes"
        );
    });
}

/// A day of everything, and of each session it is known until when it may be given to anybody.
#[test]
fn whatever_happens_nobody_is_given_what_was_revoked() {
    const PROFILES: usize = 30;
    with_seeds(500..short_or_long(510, 540), |_| async {
        let machine = Arc::new(machine(PROFILES, 2));
        let end = machine.clock.now().boot.plus(HOUR * 24);
        // Since when the first service has answered and this machine has been awake.
        let fair = Arc::new(Mutex::new(machine.clock.now().boot));
        let trouble = tokio::spawn(trouble(Arc::clone(&machine), Arc::clone(&fair)));
        let mut refused: Vec<BTreeSet<String>> = vec![BTreeSet::new(); PROFILES];
        let mut watched_since = [BootTime::ZERO; 2];
        let (mut leases, mut holds) = (0, 0);
        while machine.clock.now().boot < end {
            pass(some(Duration::from_secs(120))).await;
            let number = fastrand::usize(0..PROFILES);
            match fastrand::u8(0..12) {
                0 => revoke(&machine, number),
                1 => log_out(&machine, number, &mut refused[number]).await,
                2 => resume(&machine, number, &mut refused[number]).await,
                _ => match (is_watched(&machine, number), machine.ask(number).await) {
                    (was_watched, Got::Lease) => {
                        leases += 1;
                        let id = machine.given(number).expect("it was just given");
                        assert!(!refused[number].contains(&id), "{id} is given again");
                        // The first lease after nobody had one may be of a session that was revoked meanwhile.
                        if was_watched {
                            let since = *fair.lock().expect("unpoisoned");
                            served_in_time(
                                &machine,
                                number,
                                &id,
                                since.max(watched_since[number % 2]),
                            );
                        } else {
                            watched_since[number % 2] = machine.clock.now().boot;
                        }
                    }
                    (_, Got::Refused("held")) => {
                        holds += 1;
                        refused[number].extend(machine.forget(number));
                    }
                    (_, Got::Refused(_)) => {}
                },
            }
        }
        trouble.abort();
        assert!(
            leases > 100 && holds > 20,
            "{leases} leases, {holds} refusals"
        );
    });
}

/// Whether somebody holds a lease on a session of the same service, which is then looked at.
fn is_watched(machine: &Machine, number: usize) -> bool {
    let now = machine.clock.now();
    let upstream = &machine.entry(number).upstream;
    machine
        .daemon
        .cache
        .entries_of(upstream)
        .any(|entry| entry.session().is_some() && entry.is_leased(&now))
}

/// Whoever logs out while a session is being fetched, too.
async fn log_out(machine: &Arc<Machine>, number: usize, refused: &mut BTreeSet<String>) {
    let asking = Arc::clone(machine);
    let asking = fastrand::bool().then(|| tokio::spawn(async move { asking.ask(number).await }));
    pass(some(Duration::from_millis(60))).await;
    let name = machine.entry(number).profile.name.as_str();
    let services = &machine.daemon.services;
    let grant = services
        .access
        .authorize_owner(machine.peer(number), name)
        .await
        .expect("the peer is the owner");
    services
        .revocation
        .logout(machine.peer(number), &[grant], false)
        .await;
    assert_eq!(machine.ask(number).await, Got::Refused("held"));
    refused.extend(machine.forget(number));
    if let Some(asking) = asking {
        asking.await.expect("every promise is kept");
    }
    assert!(machine.entry(number).session().is_none());
}

async fn resume(machine: &Machine, number: usize, refused: &mut BTreeSet<String>) {
    if machine.entry(number).session().is_none() {
        refused.extend(machine.forget(number));
    }
    let name = machine.entry(number).profile.name.as_str();
    let services = &machine.daemon.services;
    let grant = services
        .access
        .authorize_owner(machine.peer(number), name)
        .await
        .expect("the peer is the owner");
    services
        .revocation
        .resume(machine.peer(number), &grant)
        .await;
}

fn served_in_time(machine: &Machine, number: usize, id: &str, fair: BootTime) {
    let revoked = machine.service(number).truth().revoked.get(id).copied();
    if let Some(revoked) = revoked {
        // The second service is never away, and this machine sleeps for both.
        let late = machine.clock.now().boot.since(revoked.max(fair));
        assert!(late <= BOUND, "{id} is given {late:?} after it was revoked");
    }
}

async fn trouble(machine: Arc<Machine>, fair: Arc<Mutex<BootTime>>) {
    loop {
        pass(some(HOUR * 4)).await;
        if fastrand::bool() {
            machine.time().suspend(some(HOUR * 3));
        } else {
            let away = [
                Weather::Unreachable,
                Weather::Captive,
                Weather::LoggedOut,
                Weather::Overloaded(None),
            ];
            machine.services[0].truth().weather = away[fastrand::usize(0..away.len())];
            let until = machine.clock.now().boot.plus(some(HOUR));
            while machine.clock.now().boot < until {
                *fair.lock().expect("unpoisoned") = machine.clock.now().boot;
                pass(Duration::from_secs(1)).await;
            }
            machine.services[0].truth().weather = Weather::Fair;
        }
        *fair.lock().expect("unpoisoned") = machine.clock.now().boot;
    }
}
