//! How often a cause that does not go away is told: [`Pace`].

use std::{collections::BTreeMap, time::Duration};

/// How soon the same cause is told for the second time. Who reads the log once a minute has it once
/// on a page.
const AGAIN_FIRST: Duration = Duration::from_secs(60);

/// The longest time between two tellings: a log of the last hour has every cause that holds.
const AGAIN_MAX: Duration = Duration::from_secs(3600);

/// Causes that are remembered. Beyond it the one that is due last is told anew.
const CAUSES_MAX: usize = 64;

/// Tells each cause at once, then at widening intervals. `now` is the time since an arbitrary
/// start.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    causes: BTreeMap<String, Told>,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    next: Duration,
    interval: Duration,
}

impl Pace {
    /// Whether this cause is to be told now.
    pub fn is_due(&mut self, cause: &str, now: Duration) -> bool {
        // A cause that has not been met for long is news.
        self.causes.retain(|_, told| now < told.next + AGAIN_MAX);
        if let Some(told) = self.causes.get_mut(cause) {
            if now < told.next {
                return false;
            }
            told.interval = (told.interval * 2).min(AGAIN_MAX);
            told.next = now + told.interval;
            return true;
        }
        if self.causes.len() >= CAUSES_MAX {
            let last = self.causes.iter().max_by_key(|(_, told)| told.next);
            if let Some(last) = last.map(|(cause, _)| cause.clone()) {
                self.causes.remove(&last);
            }
        }
        let told = Told {
            next: now + AGAIN_FIRST,
            interval: AGAIN_FIRST,
        };
        self.causes.insert(cause.to_owned(), told);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{AGAIN_MAX, CAUSES_MAX, Duration, Pace};

    #[test]
    fn a_cause_that_stays_is_told_at_widening_intervals() {
        let mut pace = Pace::default();
        let day = (0..24 * 3600).map(Duration::from_secs);
        let told: Vec<_> = day.filter(|now| pace.is_due("x", *now)).collect();
        let seconds: Vec<_> = told.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds[..4], [0, 60, 180, 420]);
        assert!(told.len() < 24 + 8, "{told:?}");
        assert!(told.windows(2).all(|pair| pair[1] - pair[0] <= AGAIN_MAX));
    }

    #[test]
    fn two_causes_in_turn_do_not_wake_each_other_and_memory_is_bounded() {
        let mut pace = Pace::default();
        let minute = (0..60).map(Duration::from_secs);
        let told = minute.filter(|now| pace.is_due("x", *now) | pace.is_due("y", *now));
        assert_eq!(told.count(), 1);
        for cause in 0..10 * CAUSES_MAX {
            pace.is_due(&cause.to_string(), Duration::ZERO);
        }
        assert_eq!(pace.causes.len(), CAUSES_MAX);
    }
}
