//! The domain: ids, profiles, sessions, leases and errors. No I/O, no runtime, no wire types.

mod ids;

pub use ids::{ProfileId, UpstreamId};
