//! The end of serving, as the connections learn of it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long an open request may continue after the shutdown has started: a little less than the drain, so that its
/// reply is still sent.
const REQUEST_LIMIT: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    started: CancellationToken,
    /// Another process serves next, so a request may as well be repeated there.
    is_reload: CancellationToken,
}

impl Shutdown {
    pub fn start(&self, is_reload: bool) {
        if is_reload {
            self.is_reload.cancel();
        }
        self.started.cancel();
    }

    pub(crate) fn has_started(&self) -> bool {
        self.started.is_cancelled()
    }

    pub(crate) async fn started(&self) {
        self.started.cancelled().await;
    }

    /// The moment from which an open request only gets an error.
    pub(crate) async fn deadline(&self) {
        self.started.cancelled().await;
        tokio::time::sleep(REQUEST_LIMIT).await;
    }

    /// The same for a request that can be repeated.
    pub(crate) async fn deadline_of_repeatable(&self) {
        tokio::select! {
            () = self.is_reload.cancelled() => {}
            () = self.deadline() => {}
        }
    }
}
