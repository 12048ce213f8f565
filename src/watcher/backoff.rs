//! How long to wait before the next attempt. The only place that names the backoff crate, of which
//! it uses nothing but the arithmetic: its clock does not follow ours.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

use super::{Chance, WatchPolicy};

/// Longest wait that a server may ask for: longer than its own longest (32 s), and short enough
/// that a mistaken answer does not silence a stream.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Full jitter: each delay is between zero and a limit that doubles.
#[derive(Debug)]
pub(super) struct Backoff {
    /// Gives the limits.
    limits: ExponentialBackoff,
    chance: Chance,
}

impl Backoff {
    pub(super) fn new(policy: &WatchPolicy) -> Self {
        Self::between(policy.backoff_min, policy.backoff_max, policy)
    }

    /// The same with other limits.
    pub(super) fn between(least: Duration, most: Duration, policy: &WatchPolicy) -> Self {
        let limits = ExponentialBackoffBuilder::new()
            .with_initial_interval(least)
            .with_max_interval(most)
            .with_multiplier(2.0)
            .with_randomization_factor(0.0)
            // The default gives up after 15 minutes.
            .with_max_elapsed_time(None)
            .build();
        Self {
            limits,
            chance: policy.chance.clone(),
        }
    }

    /// Begins with the shortest delay again.
    pub(super) fn reset(&mut self) {
        self.limits.reset();
    }

    /// The next delay, not below what the server asked for.
    pub(super) fn next(&mut self, fresh: bool, retry_after_ms: Option<u64>) -> Duration {
        let limit = self.next_limit(self.limits.max_interval, fresh);
        let own = self.draw(Duration::ZERO, limit);
        let asked = retry_after_ms.map_or(Duration::ZERO, Duration::from_millis);
        // Added, not the greater of both: everyone else was asked to wait for the same time.
        asked.min(RETRY_AFTER_MAX) + own
    }

    /// The next delay, not above this. After the first one it is at least half of its limit,
    /// because a short limit has to keep the rate low.
    pub(super) fn next_within(&mut self, longest: Duration, fresh: bool) -> Duration {
        let limit = self.next_limit(longest, fresh);
        let is_first = limit <= self.limits.initial_interval;
        let least = if is_first { Duration::ZERO } else { limit / 2 };
        self.draw(least, limit)
    }

    /// A pause between attempts of which none has failed.
    pub(super) fn around(&self, middle: Duration, spread: Duration) -> Duration {
        self.draw(middle.saturating_sub(spread), middle + spread)
    }

    fn next_limit(&mut self, longest: Duration, fresh: bool) -> Duration {
        if fresh {
            self.reset();
        }
        let limit = self.limits.next_backoff();
        limit.unwrap_or(longest).min(longest)
    }

    fn draw(&self, least: Duration, limit: Duration) -> Duration {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.chance.within(micros(least)..=micros(limit)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Duration, RETRY_AFTER_MAX, WatchPolicy};

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    fn backoff() -> Backoff {
        Backoff::new(&WatchPolicy {
            backoff_min: MIN,
            backoff_max: MAX,
            ..WatchPolicy::default()
        })
    }

    #[test]
    fn delays_stay_below_a_limit_that_doubles_up_to_the_longest() {
        for _ in 0..50 {
            let mut backoff = backoff();
            for attempt in 0..20 {
                let limit = (MIN * 2_u32.pow(attempt)).min(MAX);
                let delay = backoff.next(false, None);
                assert!(delay <= limit + MIN / 100, "attempt {attempt}: {delay:?}");
            }
            assert!(backoff.next(true, None) <= MIN + MIN / 100);
        }
    }

    #[test]
    fn delays_below_a_short_limit_are_at_least_half_of_it_after_the_first() {
        let mut backoff = backoff();
        let longest = MIN * 3;
        assert!(backoff.next_within(longest, true) <= MIN);
        assert!((MIN..=MIN * 2).contains(&backoff.next_within(longest, false)));
        for _ in 0..20 {
            let delay = backoff.next_within(longest, false);
            assert!((longest / 2..=longest).contains(&delay), "{delay:?}");
        }
    }

    #[test]
    fn what_the_server_asks_for_is_honoured_within_reason() {
        let mut backoff = backoff();
        assert!(backoff.next(true, Some(2_000)) >= Duration::from_secs(2));
        assert!(backoff.next(true, Some(u64::MAX)) <= RETRY_AFTER_MAX + MAX);
    }
}
