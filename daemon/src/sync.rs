//! The cells that threads share, by names under which others can stand in for them (`tests/interleavings`).

pub(crate) use std::sync::{Arc, Mutex};
use std::sync::{MutexGuard, PoisonError};

pub(crate) use arc_swap::ArcSwapOption as Swap;

/// Locks what a panic elsewhere cannot have left half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
