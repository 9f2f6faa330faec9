//! The domain: ids, sessions and how they end. No I/O, no runtime, no wire types.

mod ids;
mod session;
mod session_ended;
pub(crate) mod time;

pub use ids::{ProfileId, UpstreamId};
pub use session::MARGIN;
pub(crate) use session_ended::{EndCause, SessionEnded};
pub(crate) use time::{to_rfc3339, to_rfc3339_millis};
