//! `--log`: a text that names no level and no known target would log nothing, so it is rejected.

use tracing_subscriber::filter::{LevelFilter, Targets};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The crates that log.
const CRATES: [&str; 10] = [
    "rolekeeperd",
    "rolekeeper",
    "hyper",
    "hyper_util",
    "reqwest",
    "rustls",
    "secret_service",
    "tokio",
    "tower",
    "zbus",
];

/// Levels, and targets with levels, separated by commas.
pub(super) fn parse(text: &str) -> Result<Targets, String> {
    let mut targets = Targets::new();
    for part in text.split(',').map(str::trim) {
        targets = match part.split_once('=') {
            None => targets.with_default(level(part)?),
            Some((target, text)) => targets.with_target(known(target.trim())?, level(text.trim())?),
        };
    }

    Ok(targets)
}

fn level(text: &str) -> Result<LevelFilter, String> {
    let text = text.to_ascii_lowercase();
    let is_known = LEVELS.contains(&text.as_str());
    let level = text.parse().ok().filter(|_| is_known);
    level.ok_or_else(|| format!("`{text}` is not a level; use {}", LEVELS.join(", ")))
}

fn known(target: &str) -> Result<String, String> {
    let name = target.split("::").next().unwrap_or_default();
    if CRATES.contains(&name) {
        Ok(target.to_owned())
    } else {
        let known = CRATES.join(", ");
        Err(format!(
            "`{target}` is not a target; use {known}, or a module of one of them"
        ))
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;

    #[test]
    fn filter_has_known_levels_and_targets_only() {
        let filter = parse("warn, rolekeeperd::refresh=DEBUG").unwrap();
        assert_eq!(filter.default_level(), Some(LevelFilter::WARN));
        assert!(filter.would_enable("rolekeeperd::refresh::policy", &tracing::Level::DEBUG));
        assert!(!filter.would_enable("rolekeeperd::cache", &tracing::Level::INFO));
        // A reload passes it on as text.
        assert_eq!(parse(&filter.to_string()), Ok(filter));

        for (text, reason) in [
            (
                "loud",
                "`loud` is not a level; use off, error, warn, info, debug, trace",
            ),
            ("rolekeeperd=loud", "`loud` is not a level"),
            ("", "`` is not a level"),
            ("info,", "`` is not a level"),
            (
                "rolekeperd=debug",
                "`rolekeperd` is not a target; use rolekeeperd, rolekeeper,",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(reason), "{text}: {error}");
        }
    }
}
