//! A configuration: every error has a position in the text, and every valid value is within its limits.

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
            config.upstreams.iter().for_each(check_limits);
        }
        Err(errors) => {
            assert!(
                !errors.is_empty() && errors.is_sorted_by_key(|error| (error.line, error.column)),
                "{errors:?}"
            );
            for error in &errors {
                assert!(has_valid_position(text, error), "{error:?}");
                assert!(!error.message.is_empty(), "{error:?}");
            }
        }
    }
}

fn check_limits(upstream: &UpstreamConfig) {
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

/// The column after the end of a line, and the line after the last, are positions of something missing.
fn has_valid_position(text: &str, error: &InvalidConfig) -> bool {
    let Some(line) = text.split('\n').nth(error.line - 1) else {
        return false;
    };

    (1..=line.chars().count() + 1).contains(&error.column)
}
