//! The daemon's broker, cache, schedule and upstreams in virtual time, against a service that knows the truth about every
//! session. Everything random comes from one seed, which a failure names: `SIMULATION_SEED=7 cargo test --test simulation`
//! runs that one again.

mod fleet;
mod handover;
mod revocation;
mod service;
mod table;
mod walk;
mod week;
mod world;

/// The seeds of this run, each in a runtime of its own whose time stands still unless all wait.
fn with_seeds<F: Future<Output = ()>>(seeds: std::ops::Range<u64>, test: impl Fn(u64) -> F) {
    let chosen = std::env::var("SIMULATION_SEED")
        .ok()
        .map(|seed| seed.parse().expect("SIMULATION_SEED is a number"));
    let seeds = chosen.map_or(seeds, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let named = Named(seed);
        fastrand::seed(seed);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
            .block_on(test(seed));
        drop(named);
    }
}

/// Says which seed failed.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was seed {0}: SIMULATION_SEED={0}", self.0);
        }
    }
}
