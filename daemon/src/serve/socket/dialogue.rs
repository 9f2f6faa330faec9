//! The exchange with a peer of the local socket before the reply: challenges, and the wait for a user.

use std::time::Duration;

use rolekeeper::frame::FrameError;
use rolekeeper::protocol::{Reply, Request, RequestFrame};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::connection::{FRAME_TIMEOUT, next, write};
use super::credentialed_stream::CredentialedStream;
use super::dispatch::parse;
use crate::access::{Interaction, Interrupted, Question};
use crate::serve::Shutdown;

/// The connection of one peer, for the time of one request.
pub(super) struct Dialogue<'a> {
    pub(super) stream: &'a mut BufReader<CredentialedStream>,
    pub(super) shutdown: &'a Shutdown,
}

impl Dialogue<'_> {
    /// Announces that the reply may wait for a user, `limit` at most: for an approval, or for a keyring's prompt.
    pub(super) async fn announce_wait(
        &mut self,
        question: Question<'_>,
        limit: Duration,
    ) -> Result<(), FrameError> {
        let seconds = limit.as_secs();
        let mfa_of = match question {
            Question::Approval => None,
            Question::MfaCode(upstream) => Some(upstream.into()),
        };
        write(self.stream, Reply::AwaitingUser { seconds, mfa_of }).await
    }

    async fn exchange_nonce(&mut self, nonce: &str) -> Result<Option<String>, FrameError> {
        let challenge = Reply::Challenge {
            nonce: nonce.into(),
        };

        write(self.stream, challenge).await?;

        let text = next(self.stream, FRAME_TIMEOUT, self.shutdown).await?;
        match parse(&text) {
            Ok(RequestFrame {
                request: Request::ChallengeResponse { nonce },
                ..
            }) => Ok(Some(nonce.into_owned())),
            _ => Ok(None),
        }
    }
}

impl Interaction for Dialogue<'_> {
    async fn challenge(&mut self, nonce: &str) -> Result<Option<String>, Interrupted> {
        self.exchange_nonce(nonce)
            .await
            .map_err(|error| disconnected(&error))
    }

    async fn await_user<T: Send>(
        &mut self,
        question: Question<'_>,
        limit: Duration,
        decision: impl Future<Output = T> + Send,
    ) -> Result<T, Interrupted> {
        self.announce_wait(question, limit)
            .await
            .map_err(|error| disconnected(&error))?;
        tokio::select! {
            biased;
            decision = decision => Ok(decision),
            () = disconnect(self.stream) => Err(Interrupted::Disconnected),
            () = self.shutdown.deadline_of_repeatable() => Err(Interrupted::Stopping),
        }
    }
}

/// Returns once the peer has disconnected.
async fn disconnect(stream: &mut BufReader<CredentialedStream>) {
    // A peer that sends its next request early is still there, until it disconnects.
    if stream.fill_buf().await.is_ok_and(|bytes| !bytes.is_empty()) {
        stream.get_ref().closed_by_peer().await;
    }
}

fn disconnected(error: &FrameError) -> Interrupted {
    tracing::debug!(%error, "the connection failed while its request was authorized");

    Interrupted::Disconnected
}
