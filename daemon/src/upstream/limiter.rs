//! Limits the calls under way to one upstream. Some slots are reserved for calls that a consumer waits for.

use tokio::sync::{Semaphore, SemaphorePermit};

/// The most calls under way at once.
pub const MAX_CALLS: usize = 32;
/// The most of them that are [`Priority::Background`].
const MAX_BACKGROUND_CALLS: usize = 24;

/// Whether a consumer waits for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    Interactive,
    Background,
}

/// First come, first served.
#[derive(Debug)]
pub(super) struct Limiter {
    all: Semaphore,
    background: Semaphore,
}

/// A slot, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    _any: Option<SemaphorePermit<'a>>,
    _background: Option<SemaphorePermit<'a>>,
}

impl Limiter {
    pub(super) const fn new() -> Self {
        Self {
            all: Semaphore::const_new(MAX_CALLS),
            background: Semaphore::const_new(MAX_BACKGROUND_CALLS),
        }
    }

    pub(super) async fn slot(&self, priority: Priority) -> Slot<'_> {
        // The semaphores are never closed, so there is always a permit.
        let background = match priority {
            Priority::Background => self.background.acquire().await.ok(),
            Priority::Interactive => None,
        };

        let any = self.all.acquire().await.ok();

        Slot {
            _any: any,
            _background: background,
        }
    }
}
