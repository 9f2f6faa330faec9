//! What a decision may need from the peer, and from the adapter that serves it.

use std::time::Duration;

use thiserror::Error;

/// A dialogue with the peer while its request is authorized. Each adapter implements it for its
/// connections.
pub trait Interaction: Send {
    /// Sends a nonce to the peer and returns the peer's answer. Returns `None` where the protocol
    /// has no challenge, which is the default.
    fn challenge(
        &mut self,
        _nonce: &str,
    ) -> impl Future<Output = Result<Option<String>, Interrupted>> + Send {
        std::future::ready(Ok(None))
    }

    /// Tells the peer that a user is asked, for `limit` at most, and waits for the user's decision.
    fn await_user<T: Send>(
        &mut self,
        question: Question<'_>,
        limit: Duration,
        decision: impl Future<Output = T> + Send,
    ) -> impl Future<Output = Result<T, Interrupted>> + Send;
}

/// What a user is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    Approval,
    /// A code of the MFA device of this upstream's principal.
    MfaCode(&'a str),
}

/// The dialogue ended before there was a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Interrupted {
    #[error("the connection failed")]
    Disconnected,
    #[error("rolekeeperd is stopping, and the approval is still pending")]
    Stopping,
    #[error("rolekeeperd reloads its configuration")]
    Reloading,
}

/// For peers that cannot be challenged, and wait without a message.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoInteraction;

impl Interaction for NoInteraction {
    async fn await_user<T: Send>(
        &mut self,
        _question: Question<'_>,
        _limit: Duration,
        decision: impl Future<Output = T> + Send,
    ) -> Result<T, Interrupted> {
        Ok(decision.await)
    }
}
