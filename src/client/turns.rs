//! Which replica is tried next, and after what pause. It decides; [`super::failover`] acts.

use std::time::Duration;

use tokio::time::Instant;

/// The pause after every replica has been tried once, at first and at most: short at first, because
/// a takeover is short; never long, because the API servers' history does not wait.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long a replica may ask to be left alone.
const DELAY_MAX: Duration = Duration::from_secs(30);

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    /// By replica: not to be tried before.
    not_before: Vec<Option<Instant>>,
    /// The replica after the one that was tried last.
    next: usize,
    /// How many attempts have failed since the last that succeeded.
    failed: usize,
    /// No replica is to be tried before.
    all_not_before: Option<Instant>,
}

/// A replica to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Which replica.
    pub(super) index: usize,
    /// How long to wait before.
    pub(super) pause: Duration,
}

impl Turns {
    /// For so many replicas; at least one.
    pub(super) fn new(replicas: usize) -> Self {
        Self {
            not_before: vec![None; replicas],
            next: 0,
            failed: 0,
            all_not_before: None,
        }
    }

    /// The next replica: in order, one that may be tried at once before one that may not.
    ///
    /// `jitter`, from 0 to 1, spreads the clients of a replica that has gone away.
    pub(super) fn take(&mut self, now: Instant, jitter: f64) -> Turn {
        let replicas = self.not_before.len();
        let wait = |index: usize| {
            let at = self.not_before[index];
            at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
        };
        let in_order = (0..replicas).map(|step| (self.next + step) % replicas);
        let index = in_order.min_by_key(|index| wait(*index)).unwrap_or(0);
        let all = self.all_not_before.take();
        let all = all.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let pause = self.back_off(jitter).max(wait(index)).max(all);
        self.next = (index + 1) % replicas;
        Turn { index, pause }
    }

    /// The replica of a turn failed, or the stream from it ended at once. `delay` is how long it
    /// asked to be left alone.
    pub(super) fn failed(&mut self, index: usize, delay: Option<Duration>, now: Instant) {
        self.failed += 1;
        self.not_before[index] = delay.map(|delay| now + delay.min(DELAY_MAX));
    }

    /// A stream has lasted long enough for the attempt to count as a success.
    pub(super) fn succeeded(&mut self) {
        self.failed = 0;
    }

    /// No replica is to be tried before a delay has passed.
    pub(super) fn wait(&mut self, delay: Duration, now: Instant) {
        self.all_not_before = Some(now + delay.min(DELAY_MAX));
    }

    /// Every replica is tried at once; then comes a pause that doubles round by round.
    fn back_off(&self, jitter: f64) -> Duration {
        let Some(rounds) = (self.failed / self.not_before.len()).checked_sub(1) else {
            return Duration::ZERO;
        };
        // At 2^6 the pause has reached its most.
        let doubled = u32::try_from(rounds.min(6)).map_or(1, |n| 1 << n);
        let pause = (PAUSE_MIN * doubled).min(PAUSE_MAX);
        pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{DELAY_MAX, Duration, Instant, Turns};

    const MOST: f64 = 1.0;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn every_replica_is_tried_once_without_a_pause_and_then_the_pause_doubles_to_its_most() {
        let now = Instant::now();
        let mut turns = Turns::new(3);
        let mut seen = Vec::new();
        for _ in 0..30 {
            let turn = turns.take(now, MOST);
            turns.failed(turn.index, None, now);
            seen.push((turn.index, turn.pause));
        }
        assert_eq!(seen[..4], [(0, ms(0)), (1, ms(0)), (2, ms(0)), (0, ms(50))]);
        assert_eq!(seen[5..7], [(2, ms(50)), (0, ms(100))]);
        assert_eq!(seen[29], (2, ms(2000)));
    }

    #[test]
    fn jitter_takes_up_to_a_half_of_the_pause() {
        let now = Instant::now();
        let mut turns = Turns::new(1);
        turns.failed(0, None, now);
        assert_eq!(turns.take(now, 0.0).pause, ms(25));
        assert_eq!(
            turns.take(now, 0.5).pause,
            ms(37) + Duration::from_micros(500)
        );
    }

    #[test]
    fn a_success_begins_a_new_count_and_the_next_replica_is_tried_first() {
        let now = Instant::now();
        let mut turns = Turns::new(2);
        for _ in 0..9 {
            let turn = turns.take(now, MOST);
            turns.failed(turn.index, None, now);
        }
        turns.succeeded();
        turns.failed(0, None, now);
        let turn = turns.take(now, MOST);
        assert_eq!((turn.index, turn.pause), (1, ms(0)));
    }

    #[test]
    fn a_replica_that_asks_to_be_left_alone_comes_after_the_others() {
        let now = Instant::now();
        let mut turns = Turns::new(2);
        turns.take(now, MOST);
        turns.failed(0, Some(ms(5000)), now);
        for _ in 0..2 {
            let turn = turns.take(now, MOST);
            assert_eq!(turn.index, 1);
            turns.failed(1, None, now);
        }
        turns.failed(1, Some(ms(7000)), now);
        let turn = turns.take(now, MOST);
        assert_eq!((turn.index, turn.pause), (0, ms(5000)));
        turns.failed(0, Some(Duration::from_secs(3600)), now);
        turns.failed(1, Some(Duration::from_secs(3600)), now);
        assert_eq!(turns.take(now, MOST).pause, DELAY_MAX);
    }

    #[test]
    fn a_delay_for_all_replicas_counts_once() {
        let now = Instant::now();
        let mut turns = Turns::new(2);
        turns.wait(ms(700), now);
        assert_eq!(turns.take(now, MOST).pause, ms(700));
        assert_eq!(turns.take(now, MOST).pause, ms(0));
    }
}
