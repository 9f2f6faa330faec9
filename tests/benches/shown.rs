//! How a number is shown, and taken from many.

use std::time::Duration;

pub(crate) fn row(what: &str, measured: impl std::fmt::Display, bound: &str) {
    println!("{what:58} {measured:>12} {bound:>12}");
}

pub(crate) fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    times
        .get(times.len() * percent / 100)
        .copied()
        .unwrap_or_default()
}

pub(crate) fn micros(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros >= 1000.0 {
        format!("{:.2} ms", micros / 1000.0)
    } else {
        format!("{micros:.0} us")
    }
}
