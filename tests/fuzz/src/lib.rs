//! The bodies of the fuzz targets. Each takes arbitrary bytes and panics where a parser breaks a promise. The programs in
//! `targets/` pass them what libFuzzer makes up; `replay.rs` runs them as ordinary tests.

pub mod configuration;
pub mod crn_patterns;
pub mod frames;
pub mod policy_documents;
pub mod upstream_replies;

/// The bytes up to the first that is not UTF-8.
fn text(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}
