//! Locks that are held for a moment, never across an await.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock. Nothing in this module that holds one can panic half-way through a change, so a
/// poisoned lock guards sound data.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
