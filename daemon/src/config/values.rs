//! Parsers of single values. An error is a predicate: the value is its subject.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use rolekeeper::places;

/// The rule for the names of profiles, upstreams and keyring entries.
pub(super) const NAME_RULE: &str =
    "1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit";

/// A duration in whole seconds with units: `90s`, `15m`, `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok();
    parsed
        .and_then(|span| Duration::try_from(span).ok())
        .filter(|span| span.subsec_nanos() == 0)
        .ok_or_else(|| {
            "is not a duration; use a number and a unit, such as \"15m\" or \"1h30m\"".into()
        })
}

/// A duration within limits, which `limits` describes.
pub(super) fn duration_within(
    text: &str,
    range: RangeInclusive<Duration>,
    limits: &str,
) -> Result<Duration, String> {
    let duration = duration(text)?;
    if range.contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("is out of range; use {limits}"))
    }
}

/// `~/` is the home folder. A relative path starts at the folder of the configuration.
pub(super) fn path(text: &str, folder: &Path) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("is not a path".into());
    }

    let Some(rest) = text.strip_prefix("~/") else {
        return Ok(folder.join(text));
    };

    match places::home() {
        Some(home) => Ok(home.join(rest)),
        None => Err("starts with `~/`, but this user has no home".into()),
    }
}
