//! A configuration: every error has a place in the text, and what is in force keeps within its limits.

use std::path::Path;

use rolekeeper::protocol::is_name;
use rolekeeperd::config::file::{InvalidConfig, check};
use rolekeeperd::config::{CHECK_INTERVALS, LONGEST_SESSION, SHORTEST_SESSION, UpstreamConfig};

pub fn run(bytes: &[u8]) {
    let text = super::text(bytes);
    match check(text, Path::new("/conf/config.toml")) {
        Ok(config) => {
            assert!(
                config
                    .upstreams
                    .is_sorted_by(|one, next| one.name < next.name)
            );
            assert!(config.endpoint_port.is_none_or(|port| port >= 1024));
            config.upstreams.iter().for_each(keeps_within_limits);
        }
        Err(faults) => {
            assert!(
                !faults.is_empty() && faults.is_sorted_by_key(|fault| (fault.line, fault.column)),
                "{faults:?}"
            );
            faults
                .iter()
                .for_each(|fault| assert!(is_in(text, fault), "{fault:?}"));
        }
    }
}

fn keeps_within_limits(upstream: &UpstreamConfig) {
    assert!(is_name(&upstream.name) && CHECK_INTERVALS.contains(&upstream.check_every));
    assert!(
        upstream.endpoint.join("").starts_with("https://") || upstream.endpoint.is_loopback_http()
    );
    for profile in &upstream.profiles {
        assert!(is_name(profile.name.as_str()) && profile.upstream == upstream.name);
        assert!((SHORTEST_SESSION..=LONGEST_SESSION).contains(&profile.role.duration));
        assert!(profile.max_view_age >= upstream.check_every * 2);
    }
}

/// One place behind the end of a line, and one line behind the last, is where something is missing.
fn is_in(text: &str, fault: &InvalidConfig) -> bool {
    let line = text.split('\n').nth(fault.line - 1);
    line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&fault.column))
        && !fault.message.is_empty()
}
