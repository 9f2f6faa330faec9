//! The bodies of the fuzz targets. Each takes arbitrary bytes, and panics if a parser breaks a promise. The programs in `targets/`
//! pass them the inputs of libFuzzer. `replay.rs` runs them as ordinary tests.

pub mod configuration;
pub mod crn_patterns;
pub mod frames;
pub mod policy_documents;
pub mod upstream_replies;

/// The longest UTF-8 text at the start of the bytes.
fn text(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}
