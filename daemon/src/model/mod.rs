//! The domain: ids, sessions and how they end. No I/O, no runtime, no wire types.

mod ids;
mod session_ended;

pub use ids::{ProfileId, UpstreamId};
pub use session_ended::{EndCause, SessionEnded};
