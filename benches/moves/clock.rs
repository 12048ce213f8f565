//! One clock for what is committed, received and logged.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The beginning of this clock, as instant and as wall clock.
static START: LazyLock<(Instant, u64)> = LazyLock::new(|| {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    (Instant::now(), micros(unix.unwrap_or_default()))
});

/// Microseconds since the beginning.
pub(crate) fn now() -> u64 {
    micros(START.0.elapsed())
}

/// A time of the wall clock, in microseconds since the Unix epoch, by this clock; 0 for what was
/// before the beginning.
pub(crate) fn of_unix(unix: u64) -> u64 {
    unix.saturating_sub(START.1)
}

pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
