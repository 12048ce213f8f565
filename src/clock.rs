//! The only reader of the wall clock.

use crate::domain::id::UnixMillis;

/// The wall clock, for what people read. No decision depends on it.
pub fn unix_now() -> UnixMillis {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
