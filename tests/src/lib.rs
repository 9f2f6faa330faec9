//! What the tests, the demo and the benchmarks share: the sandbox and the harness.

pub mod demo;
pub mod harness;
mod hex;
pub mod sandbox;
