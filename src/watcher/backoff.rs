//! How long to wait before the next attempt. The only place that names the backoff crate, of which
//! it uses nothing but the arithmetic: its clock does not follow ours.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// Longest wait that a server may ask for: longer than its own longest (32 s), and short enough
/// that a mistaken answer does not silence a stream.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Full jitter: each delay is between zero and a limit that doubles.
#[derive(Debug)]
pub(super) struct Backoff(ExponentialBackoff);

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        // With a factor of 1 the delay lies between zero and twice the interval.
        let inner = ExponentialBackoffBuilder::new()
            .with_initial_interval(min / 2)
            .with_max_interval(max / 2)
            .with_multiplier(2.0)
            .with_randomization_factor(1.0)
            // The default gives up after 15 minutes.
            .with_max_elapsed_time(None)
            .build();
        Self(inner)
    }

    /// The next delay, not below what the server asked for.
    pub(super) fn next(&mut self, fresh: bool, retry_after_ms: Option<u64>) -> Duration {
        if fresh {
            self.0.reset();
        }
        let own = self.0.next_backoff().unwrap_or(self.0.max_interval);
        let asked = retry_after_ms.map_or(Duration::ZERO, Duration::from_millis);
        // Added, not the greater of both: everyone else was asked to wait for the same time.
        asked.min(RETRY_AFTER_MAX) + own
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Duration, RETRY_AFTER_MAX};

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn delays_stay_below_a_limit_that_doubles_up_to_the_longest() {
        for _ in 0..50 {
            let mut backoff = Backoff::new(MIN, MAX);
            for attempt in 0..20 {
                let limit = (MIN * 2_u32.pow(attempt)).min(MAX);
                let delay = backoff.next(false, None);
                assert!(delay <= limit + MIN / 100, "attempt {attempt}: {delay:?}");
            }
            assert!(backoff.next(true, None) <= MIN + MIN / 100);
        }
    }

    #[test]
    fn what_the_server_asks_for_is_honoured_within_reason() {
        let mut backoff = Backoff::new(MIN, MAX);
        assert!(backoff.next(true, Some(2_000)) >= Duration::from_secs(2));
        assert!(backoff.next(true, Some(u64::MAX)) <= RETRY_AFTER_MAX + MAX);
    }
}
