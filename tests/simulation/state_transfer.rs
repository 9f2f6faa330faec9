//! The state that one process passes to the next, in sealed memory.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use jiff::Timestamp;
use rolekeeper::protocol::SessionStatus;
use rolekeeperd::app::state_transfer::{HandoffTarget, pack, unpack};
use rolekeeperd::clock::Clock;
use rolekeeperd::config::LeaseLimit;
use rolekeeperd::journal::Journal;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::with_seeds;
use crate::world::{CHECK_EVERY, HOUR, Machine, Outcome, sleep};

const ALL_SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::GROW)
    .union(SealFlags::SHRINK)
    .union(SealFlags::SEAL);

/// A process. Two of them with one clock are a daemon before and after a reload.
fn machine(clock: &Clock, duration: Duration) -> Machine {
    Machine::with_clock(
        clock.clone(),
        2,
        1,
        Journal::in_memory(),
        CHECK_EVERY,
        |_| (duration, LeaseLimit::Full),
    )
}

fn clock() -> Clock {
    Clock::virtual_from(Timestamp::from_second(1_700_000_000).expect("a time"))
}

fn packed(machine: &Machine) -> OwnedFd {
    pack(&machine.daemon, HandoffTarget::Successor).expect("the state is packed")
}

/// The number of sessions that a new process takes from the memory.
fn unpacked(clock: &Clock, memory: OwnedFd) -> usize {
    unpack(&machine(clock, HOUR).daemon, vec![memory])
}

/// The same state with another text in it, and in other memory.
fn edited(memory: OwnedFd, old: &str, new: &str) -> OwnedFd {
    let text = text(memory);
    assert!(text.contains(old), "{old}");

    sealed(&text.replace(old, new), ALL_SEALS)
}

fn text(memory: OwnedFd) -> String {
    let mut file = File::from(memory);
    let mut text = String::new();
    file.rewind().expect("it is a file");
    file.read_to_string(&mut text).expect("it can be read");

    text
}

fn sealed(text: &str, seals: SealFlags) -> OwnedFd {
    let memory = memfd_create("copy", MemfdFlags::ALLOW_SEALING).expect("memory");
    let mut file = File::from(memory);
    file.write_all(text.as_bytes()).expect("it is written");
    fcntl_add_seals(&file, seals).expect("it is sealed");

    file.into()
}

fn sessions(machine: &Machine) -> Vec<SessionStatus> {
    let status = &machine.daemon.services.status;
    let profiles = status.page(machine.peer(0), None, 0).profiles;

    profiles
        .into_iter()
        .map(|profile| profile.session.expect("a session"))
        .collect()
}

#[test]
fn next_process_serves_the_same_sessions_without_calls() {
    with_seeds(1..4, |_| async {
        let clock = clock();
        let before = machine(&clock, HOUR);
        let after = machine(&clock, HOUR);
        for number in 0..2 {
            before.request(number).await;
        }
        sleep(Duration::from_secs(600)).await;

        assert_eq!(unpack(&after.daemon, vec![packed(&before)]), 2);

        for (old, new) in sessions(&before).into_iter().zip(sessions(&after)) {
            assert_eq!(old.id, new.id);
            assert_eq!(old.expires_in_seconds, new.expires_in_seconds);
            assert_eq!(old.age_seconds, new.age_seconds);
            assert_eq!(
                old.refresh_in_seconds, new.refresh_in_seconds,
                "the jitter is drawn once"
            );
        }
        assert_eq!(after.services[0].truth().calls.len(), 0);

        // The earlier use keeps the profiles in use, so each is refreshed once.
        sleep(HOUR * 3 / 4).await;
        assert_eq!(after.services[0].truth().calls.len(), 2);
    });
}

#[test]
fn state_that_does_not_fit_is_ignored() {
    with_seeds(1..2, |_| async {
        let clock = clock();
        let before = machine(&clock, HOUR);
        sleep(Duration::from_secs(100)).await;
        assert_eq!(before.request(0).await, Outcome::Lease);

        let unchanged = sealed(&text(packed(&before)), ALL_SEALS);
        assert_eq!(unpacked(&clock, unchanged), 1, "a valid copy is taken");

        let unsealed = sealed(&text(packed(&before)), SealFlags::GROW);
        assert_eq!(unpacked(&clock, unsealed), 0, "it can be changed");
        assert_eq!(unpacked(&clock, sealed("{", ALL_SEALS)), 0);
        for (old, new) in [
            ("\"version\":1", "\"version\":2"),
            ("\"boot_id\":\"", "\"boot_id\":\"x"),
            ("\"p0\"", "\"other\""),
            // In the future.
            ("\"obtained_at\":", "\"obtained_at\":9"),
        ] {
            let edited = edited(packed(&before), old, new);
            assert_eq!(unpacked(&clock, edited), 0, "{new}");
        }

        let on_disk = tempfile::tempfile().expect("a file");
        assert_eq!(unpacked(&clock, on_disk.into()), 0, "it is on a disk");

        let other = machine(&clock, HOUR * 2);
        let taken = unpack(&other.daemon, vec![packed(&before)]);
        assert_eq!(taken, 0, "the profile has changed");

        let old = packed(&before);
        sleep(HOUR).await;
        assert_eq!(unpacked(&clock, old), 0, "it has expired");
    });
}

/// Two profiles, whose names and ages are in opposite order: the upstream's time from the younger session is transferred.
#[test]
fn upstream_time_is_transferred_with_sessions() {
    with_seeds(1..2, |_| async {
        let clock = clock();
        let before = machine(&clock, HOUR);
        assert_eq!(before.request(1).await, Outcome::Lease);

        // The machine is paused for longer than the session's lifetime.
        before.services[0].truth().uncounted += HOUR;
        assert_eq!(before.request(0).await, Outcome::Lease);

        let after = machine(&clock, HOUR);
        let taken = unpack(&after.daemon, vec![packed(&before)]);
        assert_eq!(taken, 1, "the other has expired");
        assert!(after.is_fresh(0) && !after.is_fresh(1));
    });
}

#[test]
fn newest_of_several_states_is_used() {
    with_seeds(1..2, |_| async {
        let clock = clock();
        let before = machine(&clock, HOUR);
        before.request(0).await;
        let older = packed(&before);

        sleep(Duration::from_secs(1)).await;
        before.request(1).await;
        let newer = packed(&before);

        let after = machine(&clock, HOUR);
        assert_eq!(unpack(&after.daemon, vec![newer, older]), 2);
    });
}
