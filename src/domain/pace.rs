//! Rate limiter for repeated log messages: [`Pace`].

use std::{collections::BTreeMap, time::Duration};

/// Interval between the first and the second message of a cause.
const AGAIN_FIRST: Duration = Duration::from_secs(60);

/// The longest interval: the log of the last hour has every cause that persists.
const AGAIN_MAX: Duration = Duration::from_secs(3600);

/// Causes that are remembered. Beyond that, the one that is due last is forgotten and logged again.
const CAUSES_MAX: usize = 64;

/// Logs each cause at once, then at increasing intervals. `now` is the time since an arbitrary
/// start.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    causes: BTreeMap<String, Logged>,
}

#[derive(Clone, Copy, Debug)]
struct Logged {
    next: Duration,
    interval: Duration,
}

impl Pace {
    /// Whether this cause is to be logged now.
    pub fn is_due(&mut self, cause: &str, now: Duration) -> bool {
        // A cause that has not been met for long is news.
        self.causes
            .retain(|_, logged| now < logged.next + AGAIN_MAX);
        if let Some(logged) = self.causes.get_mut(cause) {
            if now < logged.next {
                return false;
            }
            logged.interval = (logged.interval * 2).min(AGAIN_MAX);
            logged.next = now + logged.interval;
            return true;
        }
        if self.causes.len() >= CAUSES_MAX {
            let last = self.causes.iter().max_by_key(|(_, logged)| logged.next);
            if let Some(last) = last.map(|(cause, _)| cause.clone()) {
                self.causes.remove(&last);
            }
        }
        let logged = Logged {
            next: now + AGAIN_FIRST,
            interval: AGAIN_FIRST,
        };
        self.causes.insert(cause.to_owned(), logged);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{AGAIN_MAX, CAUSES_MAX, Duration, Pace};

    #[test]
    fn a_cause_that_stays_is_reported_at_widening_intervals() {
        let mut pace = Pace::default();
        let day = (0..24 * 3600).map(Duration::from_secs);
        let logged: Vec<_> = day.filter(|now| pace.is_due("x", *now)).collect();
        let seconds: Vec<_> = logged.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds[..4], [0, 60, 180, 420]);
        assert!(logged.len() < 24 + 8, "{logged:?}");
        assert!(logged.windows(2).all(|pair| pair[1] - pair[0] <= AGAIN_MAX));
    }

    #[test]
    fn two_causes_in_turn_do_not_wake_each_other_and_memory_is_bounded() {
        let mut pace = Pace::default();
        let minute = (0..60).map(Duration::from_secs);
        let logged = minute.filter(|now| pace.is_due("x", *now) | pace.is_due("y", *now));
        assert_eq!(logged.count(), 1);
        for cause in 0..10 * CAUSES_MAX {
            pace.is_due(&cause.to_string(), Duration::ZERO);
        }
        assert_eq!(pace.causes.len(), CAUSES_MAX);
    }
}
