//! What one process leaves to the next, in memory that cannot be changed.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use jiff::Timestamp;
use rolekeeperd::app::state_transfer::{HandoffTarget, pack, unpack};
use rolekeeperd::clock::Clock;
use rolekeeperd::config::LeaseLimit;
use rolekeeperd::journal::Journal;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::with_seeds;
use crate::world::{CHECK_EVERY, Got, HOUR, Machine, pass};

/// Two machines that are one, before and after.
fn machine(clock: &Clock, duration: Duration) -> Machine {
    Machine::on(
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

/// The same text in other memory.
fn copy(memory: OwnedFd, change: impl Fn(String) -> String, seals: SealFlags) -> OwnedFd {
    let (mut file, mut text) = (File::from(memory), String::new());
    file.rewind()
        .and_then(|()| file.read_to_string(&mut text))
        .expect("it can be read");
    let mut copy = File::from(memfd_create("copy", MemfdFlags::ALLOW_SEALING).expect("memory"));
    copy.write_all(change(text).as_bytes())
        .expect("it is written");
    fcntl_add_seals(&copy, seals).expect("it is sealed");
    copy.into()
}

#[test]
fn the_next_process_serves_the_same_sessions_for_as_long_and_calls_nobody() {
    with_seeds(1..4, |_| async {
        let clock = clock();
        let (before, after) = (machine(&clock, HOUR), machine(&clock, HOUR));
        for number in 0..2 {
            before.ask(number).await;
        }
        pass(Duration::from_secs(600)).await;
        let ids = |machine: &Machine| {
            let status = machine
                .daemon
                .services
                .status
                .page(machine.peer(0), None, 0)
                .profiles;
            status
                .into_iter()
                .map(|profile| profile.session.expect("a session"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            unpack(
                &after.daemon,
                vec![pack(&before.daemon, HandoffTarget::Successor).expect("it is packed")]
            ),
            2
        );
        for (one, two) in ids(&before).into_iter().zip(ids(&after)) {
            assert_eq!(
                (one.id, one.expires_in_seconds, one.age_seconds),
                (two.id, two.expires_in_seconds, two.age_seconds)
            );
            assert_eq!(
                one.refresh_in_seconds, two.refresh_in_seconds,
                "the jitter is drawn once"
            );
        }
        assert_eq!(after.services[0].truth().calls.len(), 0);
        // Nobody asks any more: the use that there was counts on, and no more than that.
        pass(HOUR * 3 / 4).await;
        assert_eq!(after.services[0].truth().calls.len(), 2);
    });
}

#[test]
fn what_does_not_fit_is_left_out() {
    with_seeds(1..2, |_| async {
        let clock = clock();
        let before = machine(&clock, HOUR);
        pass(Duration::from_secs(100)).await;
        assert_eq!(before.ask(0).await, Got::Lease);
        let packed = || pack(&before.daemon, HandoffTarget::Successor).expect("it is packed");
        let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        let taken = |memory| unpack(&machine(&clock, HOUR).daemon, vec![memory]);
        let same = |text: String| text;
        assert_eq!(
            taken(copy(packed(), same, all)),
            1,
            "this is how it would be taken"
        );
        assert_eq!(
            taken(copy(packed(), same, SealFlags::GROW)),
            0,
            "it can be changed"
        );
        assert_eq!(
            taken(copy(
                packed(),
                |text| text.replace("\"version\":1", "\"version\":2"),
                all
            )),
            0
        );
        assert_eq!(
            taken(copy(
                packed(),
                |text| text.replace("\"boot_id\":\"", "\"boot_id\":\"x"),
                all
            )),
            0
        );
        assert_eq!(
            taken(copy(
                packed(),
                |text| text.replace("\"p0\"", "\"other\""),
                all
            )),
            0
        );
        assert_eq!(taken(copy(packed(), |_| "{".into(), all)), 0);
        let later = |text: String| text.replace("\"obtained_at\":", "\"obtained_at\":9");
        assert_eq!(
            taken(copy(packed(), later, all)),
            0,
            "it is from the future"
        );
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(taken(file.into()), 0, "it is on a disk");
        let other = machine(&clock, HOUR * 2);
        assert_eq!(
            unpack(&other.daemon, vec![packed()]),
            0,
            "the profile has changed"
        );
        let old = packed();
        pass(HOUR).await;
        assert_eq!(taken(old), 0, "it has expired");
    });
}

/// Two profiles, whose names and ages are in the other order: what the younger told of the upstream's time is not forgotten.
#[test]
fn what_is_known_of_the_upstreams_time_goes_with_the_sessions() {
    with_seeds(1..2, |_| async {
        let clock = clock();
        let before = machine(&clock, HOUR);
        assert_eq!(before.ask(1).await, Got::Lease);
        // This machine stands still for more than the session's life.
        before.services[0].truth().lost += HOUR;
        assert_eq!(before.ask(0).await, Got::Lease);
        let after = machine(&clock, HOUR);
        assert_eq!(
            unpack(
                &after.daemon,
                vec![pack(&before.daemon, HandoffTarget::Successor).expect("it is packed")]
            ),
            1,
            "the other is over"
        );
        assert!(after.is_fresh(0) && !after.is_fresh(1));
    });
}

#[test]
fn of_several_the_newest_counts() {
    with_seeds(1..2, |_| async {
        let clock = clock();
        let before = machine(&clock, HOUR);
        before.ask(0).await;
        let older = pack(&before.daemon, HandoffTarget::Successor).expect("it is packed");
        pass(Duration::from_secs(1)).await;
        before.ask(1).await;
        let newer = pack(&before.daemon, HandoffTarget::Successor).expect("it is packed");
        assert_eq!(unpack(&machine(&clock, HOUR).daemon, vec![newer, older]), 2);
    });
}
