//! V4: the daemon's own source of a profile's session state, on threads whose every step a scheduler chooses. Refreshes,
//! revocations, readers and subscribers run against each other, differently each time.

#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is the daemon's, and all of it is used there"
)]
#[path = "../../daemon/src/cache/session_state.rs"]
mod session_state;
mod stand_ins;
mod sync;

/// The paths by which the daemon's source imports its types.
mod clock {
    pub(crate) use crate::stand_ins::BootTime;
}
mod model {
    pub(crate) use crate::stand_ins::SessionEnded;
}
mod session {
    pub(crate) use crate::stand_ins::{Session, SupersededSession};
}

use rolekeeper_tests::harness::short_or_long;
use session_state::{Reaction, SessionSelector, SessionState};
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;
use stand_ins::{BootTime, Session, SessionEnded};

/// What must hold for every reader, at every moment.
#[derive(Default)]
struct Profile {
    state: SessionState,
    /// No session of an older generation may be seen from here on.
    least_generation: AtomicU64,
    next_id: AtomicU64,
}

impl Profile {
    fn refresh(&self) {
        let Ok(generation) = self.state.start_fetch() else {
            return;
        };

        // The upstream takes its time.
        thread::yield_now();

        let id = self.next_id.fetch_add(1, Ordering::SeqCst);
        let session = Session {
            id: format!("s-{id}").into(),
            fetched_under: generation,
        };
        let _ = self.state.install(Arc::new(session), generation, BootTime);
    }

    fn revoke(&self, reaction: Reaction) {
        let Some(current) = self.state.session() else {
            return;
        };
        let ids = [current.id().into()];

        let ended = self.state.end(
            SessionSelector::Ids(&ids),
            &Arc::new(SessionEnded),
            reaction,
            BootTime,
        );

        if ended.is_some() {
            let in_force = self.state.snapshot().generation.number();
            self.least_generation.fetch_max(in_force, Ordering::SeqCst);
        }
    }

    fn read(&self) {
        let least = self.least_generation.load(Ordering::SeqCst);

        if let Some(session) = self.state.session() {
            assert!(
                session.fetched_under.number() >= least,
                "{session:?} is served, and {least} was in force"
            );
        }
    }

    /// Returns the generation, which never decreases.
    fn subscribe(&self, last: u64) -> u64 {
        let least = self.least_generation.load(Ordering::SeqCst);
        let snapshot = self.state.snapshot();
        let generation = snapshot.generation.number();

        assert!(generation >= last && generation >= least);
        assert!(
            snapshot.session.is_none() || snapshot.hold.is_none(),
            "held, and served"
        );
        assert!(
            snapshot
                .session
                .is_none_or(|session| session.fetched_under == snapshot.generation),
            "of another generation"
        );

        generation
    }
}

fn run_threads() {
    let profile = Arc::new(Profile::default());
    let spawn = |act: fn(&Profile)| {
        let profile = Arc::clone(&profile);
        thread::spawn(move || act(&profile))
    };

    let threads = [
        spawn(|profile| (0..2).for_each(|_| profile.refresh())),
        spawn(Profile::refresh),
        spawn(|profile| profile.revoke(Reaction::Drop)),
        spawn(|profile| profile.revoke(Reaction::Reassume)),
        spawn(|profile| {
            profile.revoke(Reaction::Hold);
            profile.read();
            profile.state.resume();
        }),
        spawn(|profile| (0..2).for_each(|_| profile.read())),
        spawn(|profile| {
            let first = profile.subscribe(0);
            profile.subscribe(first);
        }),
    ];

    for thread in threads {
        thread.join().expect("every promise is kept");
    }
}

#[test]
fn random_interleavings_never_serve_a_revoked_session() {
    shuttle::check_random(run_threads, short_or_long(50_000, 1_000_000));
}

#[test]
fn worst_case_delays_never_serve_a_revoked_session() {
    shuttle::check_pct(run_threads, short_or_long(5_000, 50_000), 4);
}

/// A search that finds nothing is worth something only if it can find something.
#[test]
fn search_finds_a_fetch_that_ignores_its_generation() {
    let found = std::panic::catch_unwind(|| {
        shuttle::check_random(
            || {
                let profile = Arc::new(Profile::default());
                profile.refresh();
                let fetched_under = profile.state.start_fetch().expect("it is not held");

                let late = Arc::clone(&profile);
                let late = thread::spawn(move || {
                    // As if the generation were looked up at the end.
                    let now = late.state.start_fetch().expect("it is not held");
                    let session = Session {
                        id: "late".into(),
                        fetched_under,
                    };
                    let _ = late.state.install(Arc::new(session), now, BootTime);
                });
                profile.revoke(Reaction::Drop);
                profile.read();
                late.join().expect("it installs the session");
                profile.read();
            },
            1000,
        );
    });

    assert!(found.is_err());
}
