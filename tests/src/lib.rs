//! What the tests, the demo and the benchmarks stand on: the sandbox and the harness.

pub mod demo;
pub mod harness;
pub mod sandbox;
