//! When sessions are refreshed, and the loop that does it.

pub mod policy;
pub mod scheduler;
