//! A rate limit with a burst: [`RateLimit`].

/// Hands out turns: a burst at once, then one per interval. Turns that nobody takes are saved up to
/// the burst. All times in milliseconds since an arbitrary start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    interval_ms: i64,
    burst: u32,
    /// When the next turn falls due, had everybody always been waiting; far in the past after a
    /// pause.
    next_ms: i64,
}

impl RateLimit {
    /// A limit of `burst` turns at once, and one each `interval_ms`; both at least 1.
    pub fn new(burst: u32, interval_ms: u32) -> Self {
        Self {
            interval_ms: i64::from(interval_ms.max(1)),
            burst: burst.max(1),
            next_ms: i64::MIN,
        }
    }

    /// Takes the next turn; returns when it is due, which is never before `now_ms`. Turns are due in
    /// the order in which they are taken.
    pub fn take(&mut self, now_ms: u64) -> u64 {
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let saved = self.interval_ms * (i64::from(self.burst) - 1);
        let due = self.next_ms.max(now.saturating_sub(saved));
        self.next_ms = due.saturating_add(self.interval_ms);
        u64::try_from(due).unwrap_or(0).max(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::RateLimit;

    #[test]
    fn a_burst_is_due_at_once_and_the_rest_at_the_interval() {
        let mut limit = RateLimit::new(3, 100);
        let due: Vec<_> = (0..5).map(|_| limit.take(0)).collect();
        assert_eq!(due, [0, 0, 0, 100, 200]);
        // Saved again, and no more than the burst.
        let due: Vec<_> = (0..4).map(|_| limit.take(10_000)).collect();
        assert_eq!(due, [10_000, 10_000, 10_000, 10_100]);
    }

    proptest! {
        #[test]
        fn no_span_of_time_has_more_turns_than_the_burst_and_one_per_interval(
            burst in 1_u32..10,
            interval in 1_u32..1_000,
            steps in prop::collection::vec(0_u64..500, 1..200),
        ) {
            let mut limit = RateLimit::new(burst, interval);
            let mut now = 0;
            let mut due = Vec::new();
            for step in steps {
                now += step;
                due.push(limit.take(now));
            }
            prop_assert!(due.is_sorted());
            for (first, from) in due.iter().enumerate() {
                for (count, until) in due[first..].iter().enumerate() {
                    let most = u64::from(burst) + (until - from) / u64::from(interval);
                    prop_assert!((count as u64) < most, "{count} from {from} to {until}");
                }
            }
        }
    }
}
