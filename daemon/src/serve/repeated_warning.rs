//! Warnings about what any process can cause thousands of times a second. The service manager drops lines of a daemon that
//! logs too many, and among them those that matter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The first one is logged at once. The others of the next minute are counted, and the count is logged after it.
const PERIOD: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Warnings {
    pub(super) not_accepted: RepeatedWarning,
    pub(super) user_not_served: RepeatedWarning,
    pub(super) too_many_connections: RepeatedWarning,
    pub(super) bad_frame: RepeatedWarning,
}

impl Default for Warnings {
    fn default() -> Self {
        Self {
            not_accepted: RepeatedWarning::new("cannot accept a connection"),
            user_not_served: RepeatedWarning::new("refused: another user's process"),
            too_many_connections: RepeatedWarning::new("refused: too many connections"),
            bad_frame: RepeatedWarning::new("refused: an invalid frame"),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct RepeatedWarning {
    what: &'static str,
    seen: Arc<AtomicU64>,
}

impl RepeatedWarning {
    /// `what` continues "123 more times in the last minute: ".
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            seen: Arc::default(),
        }
    }

    /// Whether the caller logs this one. Must be called within the runtime.
    pub(super) fn is_first(&self) -> bool {
        if self.seen.fetch_add(1, Ordering::Relaxed) > 0 {
            return false;
        }

        let Self { what, seen } = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PERIOD).await;
            let more = seen.swap(0, Ordering::Relaxed) - 1;
            if more > 0 {
                tracing::warn!("{more} more times in the last minute: {what}");
            }
        });

        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_of_a_minute_is_logged_by_the_caller() {
        let warning = RepeatedWarning::new("refused: test");
        for _ in 0..3 {
            let logged = (0..10_000).filter(|_| warning.is_first()).count();
            assert_eq!(logged, 1);
            tokio::time::sleep(PERIOD + Duration::from_secs(1)).await;
        }
    }
}
