//! V1 to V5 in virtual time: sessions are revoked at the service and here, at every moment, and a checker knows the true state of
//! each.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use rolekeeper_tests::harness::short_or_long;
use rolekeeperd::access::OwnerGrant;
use rolekeeperd::clock::{BootTime, Clock};
use rolekeeperd::config::LeaseLimit;
use rolekeeperd::journal::Journal;

use crate::service::Fault;
use crate::with_seeds;
use crate::world::{HOUR, Machine, Outcome, random_up_to, sleep};

const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// The limit from a revocation at the service to the last lease of the session.
const MAX_DELAY: Duration = Duration::from_secs(31);

fn machine(profiles: usize, services: usize) -> Machine {
    let clock = Clock::virtual_from(Timestamp::from_second(1_700_000_000).expect("a time"));
    let machine = Machine::with_clock(
        clock,
        profiles,
        services,
        Journal::in_memory(),
        POLL_INTERVAL,
        |number| {
            let leases = [LeaseLimit::Balanced, LeaseLimit::Full, LeaseLimit::Strict];
            (HOUR, leases[number % leases.len()])
        },
    );
    for service in &machine.services {
        service.truth().latency = Duration::from_millis(10)..Duration::from_millis(40);
    }

    machine
}

/// Revokes the consumer's last session at the service.
fn revoke(machine: &Machine, number: usize) {
    let now = machine.clock.now().boot;

    if let Some(id) = machine.session_id(number) {
        let mut truth = machine.service(number).truth();
        truth.revoked.entry(id).or_insert(now);
    }
}

#[test]
fn revocation_is_in_force_within_interval_plus_a_second() {
    with_seeds(1..60, |_| async {
        let machine = machine(3, 1);
        sleep(random_up_to(HOUR)).await;
        for number in 0..3 {
            assert_eq!(machine.request(number).await, Outcome::Lease);
        }
        sleep(random_up_to(Duration::from_secs(600))).await;

        revoke(&machine, 1);
        sleep(MAX_DELAY).await;

        assert_eq!(machine.request(1).await, Outcome::Refused("held"));
        for number in [0, 2] {
            assert_eq!(machine.request(number).await, Outcome::Lease);
        }
    });
}

/// V2.
#[test]
fn thousand_profiles_need_as_many_polls_as_one() {
    with_seeds(1..3, |_| async {
        for profiles in [1, 1000] {
            let machine = machine(profiles, 1);
            for number in 0..profiles {
                assert_eq!(machine.request(number).await, Outcome::Lease);
            }

            let before = polls(&machine);
            for _ in 0..20 {
                sleep(POLL_INTERVAL).await;
                machine.request(0).await;
            }
            let made = polls(&machine) - before;
            assert!((20..=25).contains(&made), "{made} in ten minutes");

            sleep(HOUR * 3).await;
            let before = polls(&machine);
            sleep(HOUR * 24).await;
            assert_eq!(polls(&machine), before, "all leases have ended");
        }
    });
}

fn polls(machine: &Machine) -> usize {
    machine.services[0].truth().polls.len()
}

/// A day of random events. The checker knows until when each session may be leased.
struct Checker {
    machine: Arc<Machine>,
    /// Since when the first service has had no fault, and this machine has been awake.
    ready_since: Arc<Mutex<BootTime>>,
    /// Since when each service has been polled.
    polled_since: [BootTime; 2],
    /// The sessions of each profile that ended, and that may not be leased again.
    ended: Vec<BTreeSet<String>>,
    leases: usize,
    holds: usize,
}

#[test]
fn revoked_session_is_never_leased_under_random_faults() {
    const PROFILES: usize = 30;

    with_seeds(500..short_or_long(510, 540), |_| async {
        let machine = Arc::new(machine(PROFILES, 2));
        let end = machine.clock.now().boot.plus(HOUR * 24);
        let ready_since = Arc::new(Mutex::new(machine.clock.now().boot));
        let faults = tokio::spawn(fault_schedule(
            Arc::clone(&machine),
            Arc::clone(&ready_since),
        ));
        let mut checker = Checker {
            machine: Arc::clone(&machine),
            ready_since,
            polled_since: [BootTime::ZERO; 2],
            ended: vec![BTreeSet::new(); PROFILES],
            leases: 0,
            holds: 0,
        };

        while machine.clock.now().boot < end {
            sleep(random_up_to(Duration::from_secs(120))).await;
            let number = fastrand::usize(0..PROFILES);
            match fastrand::u8(0..12) {
                0 => revoke(&machine, number),
                1 => checker.log_out(number).await,
                2 => checker.resume(number).await,
                _ => checker.request(number).await,
            }
        }
        faults.abort();

        let Checker { leases, holds, .. } = checker;
        assert!(
            leases > 100 && holds > 20,
            "{leases} leases, {holds} refusals"
        );
    });
}

impl Checker {
    async fn request(&mut self, number: usize) {
        let was_polled = self.is_polled(number);

        match self.machine.request(number).await {
            Outcome::Lease => {
                self.leases += 1;
                let id = self.machine.session_id(number).expect("it is leased");
                assert!(!self.ended[number].contains(&id), "{id} is leased again");

                // Without leases there are no polls, so the first lease may be of a session that was revoked meanwhile.
                if was_polled {
                    self.check_revocation(number, &id);
                } else {
                    self.polled_since[number % 2] = self.machine.clock.now().boot;
                }
            }
            Outcome::Refused("held") => {
                self.holds += 1;
                self.ended[number].extend(self.machine.take_session_id(number));
            }
            Outcome::Refused(_) => {}
        }
    }

    /// Whether a profile of the same service has a lease, so that the daemon polls the service.
    fn is_polled(&self, number: usize) -> bool {
        let now = self.machine.clock.now();
        let upstream = &self.machine.entry(number).upstream;
        let mut entries = self.machine.daemon.cache.entries_of(upstream);

        entries.any(|entry| entry.session().is_some() && entry.is_leased(&now))
    }

    /// Time counts while the service can be polled. The second service has no faults, but the machine sleeps for both.
    fn check_revocation(&self, number: usize, id: &str) {
        let Some(revoked) = self.revoked_at(number, id) else {
            return;
        };
        let ready_since = *self.ready_since.lock().expect("unpoisoned");
        let from = revoked.max(ready_since).max(self.polled_since[number % 2]);

        let delay = self.machine.clock.now().boot.since(from);
        assert!(
            delay <= MAX_DELAY,
            "{id} is leased {delay:?} after it was revoked"
        );
    }

    fn revoked_at(&self, number: usize, id: &str) -> Option<BootTime> {
        self.machine
            .service(number)
            .truth()
            .revoked
            .get(id)
            .copied()
    }

    /// Logs out, in half of the cases while a session may be fetched.
    async fn log_out(&mut self, number: usize) {
        let machine = Arc::clone(&self.machine);
        let fetch =
            fastrand::bool().then(|| tokio::spawn(async move { machine.request(number).await }));
        sleep(random_up_to(Duration::from_millis(60))).await;

        let grant = self.own(number).await;
        let revocation = &self.machine.daemon.services.revocation;
        revocation
            .logout(self.machine.peer(number), &[grant], false)
            .await
            .expect("it is stored");

        let outcome = self.machine.request(number).await;
        assert_eq!(outcome, Outcome::Refused("held"));
        self.ended[number].extend(self.machine.take_session_id(number));
        if let Some(fetch) = fetch {
            fetch.await.expect("every promise is kept");
        }
        assert!(self.machine.entry(number).session().is_none());
    }

    async fn resume(&mut self, number: usize) {
        if self.machine.entry(number).session().is_none() {
            self.ended[number].extend(self.machine.take_session_id(number));
        }

        let grant = self.own(number).await;
        let revocation = &self.machine.daemon.services.revocation;
        revocation
            .resume(self.machine.peer(number), &grant)
            .await
            .expect("it is stored");
    }

    async fn own(&self, number: usize) -> OwnerGrant {
        let name = self.machine.entry(number).profile.name.as_str();
        let access = &self.machine.daemon.services.access;
        let grant = access
            .authorize_owner(self.machine.peer(number), name)
            .await;

        grant.expect("the peer is the owner")
    }
}

/// Random faults of the first service, and suspends of this machine.
async fn fault_schedule(machine: Arc<Machine>, ready_since: Arc<Mutex<BootTime>>) {
    loop {
        sleep(random_up_to(HOUR * 4)).await;

        if fastrand::bool() {
            machine.time().suspend(random_up_to(HOUR * 3));
        } else {
            let faults = [
                Fault::Unreachable,
                Fault::CaptivePortal,
                Fault::TokenRefused,
                Fault::Overloaded(None),
            ];
            machine.services[0].truth().fault = faults[fastrand::usize(0..faults.len())];

            let until = machine.clock.now().boot.plus(random_up_to(HOUR));
            while machine.clock.now().boot < until {
                *ready_since.lock().expect("unpoisoned") = machine.clock.now().boot;
                sleep(Duration::from_secs(1)).await;
            }
            machine.services[0].truth().fault = Fault::None;
        }

        *ready_since.lock().expect("unpoisoned") = machine.clock.now().boot;
    }
}
