//! When a server that keeps sending has fallen silent: [`Arrivals`].
//!
//! Silence proves nothing, so it only triggers a probe. A server that sends now and then is never
//! suspected: the connection's keepalive is soon enough for it.

/// The shortest silence that is suspicious, in milliseconds: above what a garbage collection, or a
/// segment that was lost once, takes.
const SILENCE_MIN_MS: u64 = 300;
/// The longest. Keepalive ends a connection soon after it.
const SILENCE_MAX_MS: u64 = 1_500;
/// A suspicious silence is so many times as long as those between arrivals lately.
const TIMES_LONGER: u64 = 2;
/// With each arrival, the longest silence of late counts this part less: it is forgotten after some
/// sixty arrivals, but not within a small burst.
const FADING: u64 = 32;
/// A silence that is longer counts like this one, and so does the time before the first arrival: a
/// server that sends thirty times a second is watched over after less than a second.
const GAP_MAX_MS: u64 = 1_500;
/// What arrives within such a time is one arrival: a burst is soon over.
const BURST_MS: u64 = 10;

/// The arrivals from one server. All times in milliseconds.
#[derive(Clone, Debug)]
pub struct Arrivals {
    last_ms: u64,
    /// The longest silence between two arrivals lately, in microseconds.
    longest_us: u64,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            last_ms: 0,
            longest_us: GAP_MAX_MS * 1_000,
        }
    }
}

impl Arrivals {
    /// Something has arrived.
    pub fn heard(&mut self, now_ms: u64) {
        let gap_ms = now_ms.saturating_sub(self.last_ms).min(GAP_MAX_MS);
        if gap_ms < BURST_MS {
            return;
        }
        self.last_ms = now_ms;
        let faded = self.longest_us - self.longest_us / FADING;
        self.longest_us = faded.max(gap_ms * 1_000);
    }

    /// When to ask whether the server is there, if nothing arrives before; `None` where silence is
    /// usual.
    pub fn suspect_at_ms(&self) -> Option<u64> {
        let silence_ms = (TIMES_LONGER * self.longest_us / 1_000).max(SILENCE_MIN_MS);
        (silence_ms <= SILENCE_MAX_MS).then_some(self.last_ms + silence_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrivals, SILENCE_MAX_MS, SILENCE_MIN_MS};

    /// Arrivals at this distance, up to this time.
    fn regular(arrivals: &mut Arrivals, from_ms: u64, every_ms: usize, to_ms: u64) {
        for now_ms in (from_ms..=to_ms).step_by(every_ms) {
            arrivals.heard(now_ms);
        }
    }

    #[test]
    fn a_busy_server_is_suspected_soon_and_a_quiet_one_never() {
        let silence_ms = |every_ms| {
            let mut arrivals = Arrivals::default();
            regular(&mut arrivals, 0, every_ms, 1_000_000);
            arrivals.suspect_at_ms().map(|at_ms| at_ms - 1_000_000)
        };
        assert_eq!(silence_ms(10), Some(SILENCE_MIN_MS));
        assert_eq!(silence_ms(100), Some(SILENCE_MIN_MS));
        assert_eq!(silence_ms(500), Some(1_000));
        assert_eq!(silence_ms(1_000), None);
        assert_eq!(silence_ms(100_000), None);
    }

    #[test]
    fn what_begins_with_a_burst_is_not_busy_yet() {
        let mut arrivals = Arrivals::default();
        regular(&mut arrivals, 0, 1, 50);
        assert_eq!(arrivals.suspect_at_ms(), None);
        regular(&mut arrivals, 50, 1, 1_000);
        assert_eq!(arrivals.suspect_at_ms(), Some(1_000 + SILENCE_MIN_MS));
    }

    #[test]
    fn a_server_that_has_just_begun_to_send_steadily_is_suspected_within_a_second() {
        let mut arrivals = Arrivals::default();
        regular(&mut arrivals, 33, 33, 600);
        assert_eq!(arrivals.suspect_at_ms(), None);
        regular(&mut arrivals, 627, 33, 990);
        assert!(arrivals.suspect_at_ms().is_some());
    }

    #[test]
    fn bursts_are_not_taken_for_a_steady_flow() {
        let mut arrivals = Arrivals::default();
        for burst in 1..100 {
            let begin_ms = burst * 2_000;
            regular(&mut arrivals, begin_ms, 1, begin_ms + 20);
            assert_eq!(arrivals.suspect_at_ms(), None);
        }
    }

    #[test]
    fn a_silence_that_passed_is_allowed_for_until_it_is_long_ago() {
        let mut arrivals = Arrivals::default();
        regular(&mut arrivals, 0, 10, 10_000);
        regular(&mut arrivals, 10_600, 10, 10_650);
        let silence_ms = arrivals.suspect_at_ms().unwrap() - 10_650;
        assert!(
            (1_000..=SILENCE_MAX_MS).contains(&silence_ms),
            "{silence_ms}"
        );
        regular(&mut arrivals, 10_660, 10, 20_000);
        assert_eq!(arrivals.suspect_at_ms(), Some(20_000 + SILENCE_MIN_MS));
    }
}
