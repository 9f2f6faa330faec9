//! The cells of `daemon/src/sync.rs`, with a scheduler behind them.

use std::sync::PoisonError;

use shuttle::sync::MutexGuard;
pub(crate) use shuttle::sync::{Arc, Mutex};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each of its operations happens at one moment, as those of the real one do.
#[derive(Debug)]
pub(crate) struct Swap<T>(Mutex<Option<Arc<T>>>);

impl<T> Default for Swap<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Swap<T> {
    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        lock(&self.0).clone()
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        *lock(&self.0) = value;
    }
}
