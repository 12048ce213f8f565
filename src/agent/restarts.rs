//! When a shard run that panicked begins again: [`Restarts`].

use std::time::Duration;

use crate::domain::pace::Pace;

/// The first pause: most panics are of one moment, and do not come again.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// The longest pause. A watch is resumed after it: API servers keep a few minutes of the past.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A run that lasts for so long has passed what made the one before it panic.
const PASSED: Duration = Duration::from_secs(300);

/// The panics of one shard's runs.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// How many came one after the other.
    panics: u32,
    /// How long the runs and the pauses lasted so far.
    elapsed: Duration,
    pace: Pace,
}

/// What follows a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Restart {
    /// How many came one after the other.
    pub(super) panics: u32,
    /// How long to wait before the next run.
    pub(super) pause: Duration,
    /// Whether it is due to be logged: it was not logged recently.
    pub(super) is_news: bool,
}

impl Restarts {
    /// A run panicked after so long, for this cause.
    pub(super) fn panicked(&mut self, after: Duration, cause: &str) -> Restart {
        if after >= PASSED {
            self.panics = 0;
        }
        let doublings = self.panics.min(16);
        let pause = PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_MAX);
        self.panics = self.panics.saturating_add(1);
        self.elapsed += after;
        let is_news = self.pace.is_due(cause, self.elapsed);
        self.elapsed += pause;
        Restart {
            panics: self.panics,
            pause,
            is_news,
        }
    }

    /// What is watched was changed: it may not panic any more.
    pub(super) fn reset(&mut self) {
        self.panics = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, PASSED, PAUSE_MAX, Restarts};

    const SOON: Duration = Duration::from_millis(10);

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_anew_after_a_run_that_lasted() {
        let mut restarts = Restarts::default();
        let mut pause = |after| restarts.panicked(after, "cause").pause;
        assert_eq!([1, 2, 4].map(|_| pause(SOON).as_secs()), [1, 2, 4]);
        for _ in 0..100 {
            assert!(pause(SOON) <= PAUSE_MAX);
        }
        assert_eq!(pause(SOON), PAUSE_MAX);
        assert_eq!(pause(PASSED).as_secs(), 1);
        restarts.reset();
        let restart = restarts.panicked(SOON, "cause");
        assert_eq!((restart.panics, restart.pause.as_secs()), (1, 1));
    }

    #[test]
    fn each_cause_is_told_once_and_seldom_again() {
        let mut restarts = Restarts::default();
        let told = |restarts: &mut Restarts, cause| {
            let first = restarts.panicked(SOON, cause).is_news;
            (first, restarts.panicked(SOON, cause).is_news)
        };
        assert_eq!(told(&mut restarts, "one"), (true, false));
        assert_eq!(told(&mut restarts, "other"), (true, false));
        let told = (0..100).filter(|_| restarts.panicked(SOON, "one").is_news);
        assert!((2..10).contains(&told.count()));
    }
}
