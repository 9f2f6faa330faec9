//! Why a request failed, named for what its sender can do about it.

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::Code;
use thiserror::Error;

use crate::access::AccessError;
use crate::clock::Now;
use crate::model::SessionEnded;
use crate::upstream::backoff::BackoffState;

/// How long a consumer waits for the upstream. The call continues without it.
pub const WAIT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Error)]
pub enum RequestError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("profile {profile} is held")]
    Held {
        profile: String,
        ended: Arc<SessionEnded>,
    },
    #[error(
        "the last successful revocation check for profile {profile} was {} s ago: {reason}",
        .age.as_secs()
    )]
    ViewStale {
        profile: String,
        age: Duration,
        /// Why the check failed.
        reason: String,
    },
    /// The upstream failed, and the next attempt is not due yet.
    #[error("{}", .0.error)]
    Upstream(BackoffState, Now),
    /// The fetch continues in the background.
    #[error("no answer from the upstream within {} s", WAIT.as_secs())]
    StillWaiting,
    /// The call was cancelled.
    #[error("the upstream did not complete its answer within {} s", WAIT.as_secs())]
    TooSlow,
    #[error("internal error: the task of this request panicked")]
    Aborted,
    #[error("rolekeeperd is stopping, and the upstream has not answered yet")]
    Stopping,
    #[error("cannot open an HTTP endpoint: {0}")]
    NoEndpoint(String),
    /// A service refused it, and says what to do.
    #[error("{message}")]
    Rejected {
        code: Code,
        message: String,
        hint: String,
    },
}
