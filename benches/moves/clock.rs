//! One clock for commits, arrivals and log lines.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The start of this clock, as an instant and as wall-clock time.
static START: LazyLock<(Instant, u64)> = LazyLock::new(|| {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    (Instant::now(), micros(unix.unwrap_or_default()))
});

/// Microseconds since the start.
pub(crate) fn now() -> u64 {
    micros(START.0.elapsed())
}

/// Converts a wall-clock time, in microseconds since the Unix epoch, to this clock; 0 for times
/// before the start.
pub(crate) fn of_unix(unix: u64) -> u64 {
    unix.saturating_sub(START.1)
}

pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
