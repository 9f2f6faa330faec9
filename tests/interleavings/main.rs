//! V4: the daemon's own source of what a profile stands on, on threads whose every step a scheduler chooses. Refreshes,
//! revocations, readers and subscribers run against each other, differently each time; INTERLEAVINGS says how often.

#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is the daemon's, and all of it is used there"
)]
#[path = "../../daemon/src/cache/session_state.rs"]
mod session_state;
mod sync;

use session_state::{Generation, SessionState};
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

/// A session, and the generation under which its fetch began.
#[derive(Debug)]
struct Session {
    id: u64,
    begun: Generation,
}

type CacheEntry = SessionState<Session, u64, u64>;

/// What must hold for whoever looks, at whatever moment.
struct Truth {
    entry: CacheEntry,
    /// No session of an older generation may be seen from here on.
    least: AtomicU64,
    next: AtomicU64,
}

impl Truth {
    fn refresh(&self) {
        let Ok(begun) = self.entry.begin() else {
            return;
        };
        // The upstream takes its time.
        thread::yield_now();
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let replaced = |earlier: &mut Vec<_>, old: Option<&Session>| {
            earlier.extend(old.map(|old| Arc::new(old.id)))
        };
        let _ = self
            .entry
            .publish(Arc::new(Session { id, begun }), begun, replaced);
    }

    fn revoke(&self, hold: Option<u64>) {
        let current = self.entry.session().map(|session| session.id);
        let is_meant =
            |_: &[_], session: Option<&Session>| session.map(|session| session.id) == current;
        if let Some(view) = self.entry.end(is_meant, hold, |earlier, _| earlier.clear()) {
            self.least
                .fetch_max(view.generation.number(), Ordering::SeqCst);
        }
    }

    fn read(&self) {
        let least = self.least.load(Ordering::SeqCst);
        if let Some(session) = self.entry.session() {
            assert!(
                session.begun.number() >= least,
                "{session:?} is served, and {least} was in force"
            );
        }
    }

    /// Returns the generation, which never goes back.
    fn subscribe(&self, last: u64) -> u64 {
        let least = self.least.load(Ordering::SeqCst);
        let view = self.entry.view();
        let generation = view.generation.number();
        assert!(generation >= last && generation >= least);
        assert!(
            view.session.is_none() || view.hold.is_none(),
            "held, and served"
        );
        assert!(
            view.session
                .is_none_or(|session| session.begun == view.generation),
            "of another generation"
        );
        generation
    }
}

fn world() {
    let truth = Arc::new(Truth {
        entry: CacheEntry::default(),
        least: AtomicU64::new(0),
        next: AtomicU64::new(0),
    });
    let spawn = |act: fn(&Truth)| {
        let truth = Arc::clone(&truth);
        thread::spawn(move || act(&truth))
    };
    let threads = [
        spawn(|truth| (0..2).for_each(|_| truth.refresh())),
        spawn(Truth::refresh),
        spawn(|truth| truth.revoke(None)),
        spawn(|truth| {
            truth.revoke(Some(7));
            truth.read();
            truth.entry.resume();
        }),
        spawn(|truth| (0..2).for_each(|_| truth.read())),
        spawn(|truth| {
            let first = truth.subscribe(0);
            truth.subscribe(first);
        }),
    ];
    for thread in threads {
        thread.join().expect("every promise is kept");
    }
}

#[test]
fn no_interleaving_serves_a_session_whose_fetch_began_before_a_revocation_that_is_in_force() {
    let rounds = std::env::var("INTERLEAVINGS")
        .map_or(1_000_000, |rounds| rounds.parse().expect("a number"));
    shuttle::check_random(world, rounds);
}

#[test]
fn nor_does_one_in_which_a_thread_is_held_up_at_the_worst_moment() {
    shuttle::check_pct(world, 50_000, 4);
}

/// A search that finds nothing is worth something only if it would find something.
#[test]
fn a_fetch_that_would_publish_whatever_happened_is_found_out() {
    let found = std::panic::catch_unwind(|| {
        shuttle::check_random(
            || {
                let truth = Arc::new(Truth {
                    entry: CacheEntry::default(),
                    least: AtomicU64::new(0),
                    next: AtomicU64::new(0),
                });
                let begun = truth.entry.begin().expect("nothing is held");
                let late = Arc::clone(&truth);
                let late = thread::spawn(move || {
                    // As if the generation were looked up at the end.
                    let now = late.entry.begin().expect("nothing is held");
                    let _ = late
                        .entry
                        .publish(Arc::new(Session { id: 0, begun }), now, |_, _| {});
                });
                truth.revoke(None);
                truth.read();
                late.join().expect("it publishes");
                truth.read();
            },
            1000,
        );
    });
    assert!(found.is_err());
}
