//! Prints measurements, and computes percentiles.

use std::time::Duration;

pub(crate) fn row(what: &str, measured: impl std::fmt::Display, bound: &str) {
    println!("{what:58} {measured:>12} {bound:>12}");
}

/// The voluntary context switches of all threads in a folder such as `/proc/self/task`.
#[allow(
    dead_code,
    reason = "each benchmark includes this file, and some do not need it"
)]
pub(crate) fn context_switches(threads: &str) -> u64 {
    let mut total = 0;
    for thread in std::fs::read_dir(threads)
        .expect("it can be read")
        .flatten()
    {
        let Ok(status) = std::fs::read_to_string(thread.path().join("status")) else {
            continue;
        };
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count = line.and_then(|count| count.trim().parse::<u64>().ok());
        total += count.expect("a number");
    }

    total
}

#[allow(
    dead_code,
    reason = "each benchmark includes this file, and some do not need it"
)]
pub(crate) fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    times
        .get(times.len() * percent / 100)
        .copied()
        .unwrap_or_default()
}

#[allow(
    dead_code,
    reason = "each benchmark includes this file, and some do not need it"
)]
pub(crate) fn micros(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros >= 1000.0 {
        format!("{:.2} ms", micros / 1000.0)
    } else {
        format!("{micros:.0} us")
    }
}
