//! The shutdown of the server, which connections await.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The time for an open request after the shutdown has started. It is shorter than the drain, so that the reply is sent.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown {
    started: CancellationToken,
    /// The next process serves clients at once, so they can repeat a request there.
    is_reload: CancellationToken,
}

impl Shutdown {
    pub(crate) fn start(&self, is_reload: bool) {
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

    /// Waits until open requests get an error.
    pub(crate) async fn deadline(&self) {
        self.started.cancelled().await;
        tokio::time::sleep(REQUEST_TIMEOUT).await;
    }

    /// Waits until open requests that can be repeated get an error.
    pub(crate) async fn deadline_of_repeatable(&self) {
        tokio::select! {
            () = self.is_reload.cancelled() => {}
            () = self.deadline() => {}
        }
    }
}
