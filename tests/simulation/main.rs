//! The daemon's services, cache, scheduler and upstreams in virtual time, against a scripted upstream that knows the true state
//! of every session. All randomness comes from one seed, which a failure prints: `SIMULATION_SEED=7 cargo test --test simulation`
//! repeats that run.

mod fleet;
mod random_walk;
mod revocation;
mod service;
mod soak;
mod state_transfer;
mod table;
mod world;

/// Runs the test with each seed, in a runtime of its own. Its time advances only when all tasks wait.
fn with_seeds<F: Future<Output = ()>>(seeds: std::ops::Range<u64>, test: impl Fn(u64) -> F) {
    let chosen = std::env::var("SIMULATION_SEED")
        .ok()
        .map(|seed| seed.parse().expect("SIMULATION_SEED is a number"));
    let seeds = chosen.map_or(seeds, |seed: u64| seed..seed + 1);

    for seed in seeds {
        let reporter = SeedReporter(seed);
        fastrand::seed(seed);

        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(test(seed));

        drop(reporter);
    }
}

/// Prints the seed of a failed run.
struct SeedReporter(u64);

impl Drop for SeedReporter {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with SIMULATION_SEED={}", self.0);
        }
    }
}
