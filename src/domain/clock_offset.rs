//! How far a replica's wall clock is from the leader's: [`ClockOffset`].
//!
//! No decision depends on a wall clock: leases, elections and timeouts count on monotonic clocks.
//! What people read does, and so does the validity of certificates and tokens.

use std::collections::VecDeque;

/// Beyond this a clock is off: NTP keeps clocks within some milliseconds, and a reader who orders
/// lines of two replicas' logs is misled from here on.
pub const OFF_MS: u64 = 500;

/// Samples that are remembered: three seconds of heartbeats. More than may be under way at once, so
/// that a replica that was frozen is judged by what it sent after it woke as well.
const SAMPLES_MAX: usize = 30;

/// Estimates the offset from samples, one for each heartbeat.
///
/// A heartbeat that was held up makes its sender's clock seem to be behind, never ahead. So the
/// greatest of the last samples is the best.
#[derive(Clone, Debug, Default)]
pub struct ClockOffset {
    samples: VecDeque<i64>,
}

impl ClockOffset {
    /// Takes a sample in: the sender's clock when it sent, and half the round trip, less the
    /// receiver's clock when it received; in milliseconds.
    pub fn push(&mut self, sample_ms: i64) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample_ms);
    }

    /// By how much the sender's clock is ahead, in milliseconds; `None` before there are enough
    /// samples to decide.
    pub fn ms(&self) -> Option<i64> {
        let enough = self.samples.len() == SAMPLES_MAX;
        enough.then(|| self.samples.iter().copied().max()).flatten()
    }

    /// Whether the clock is off by more than can be ignored.
    pub fn is_off(&self) -> bool {
        self.ms().is_some_and(|ms| ms.unsigned_abs() > OFF_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::{ClockOffset, SAMPLES_MAX};

    #[test]
    fn late_heartbeats_do_not_make_a_clock_look_slow() {
        let mut offset = ClockOffset::default();
        for _ in 0..SAMPLES_MAX {
            assert_eq!(offset.ms(), None);
            offset.push(2);
        }
        // A freeze: twenty heartbeats come five seconds late.
        for late in 0..20 {
            offset.push(-5_000 + late);
            assert!(!offset.is_off());
        }
        for _ in 0..10 {
            offset.push(1);
        }
        assert_eq!(offset.ms(), Some(1));
    }

    #[test]
    fn a_clock_that_stays_behind_or_ahead_is_off() {
        for wrong in [-700, 3_600_000] {
            let mut offset = ClockOffset::default();
            for _ in 0..SAMPLES_MAX {
                offset.push(wrong);
            }
            assert_eq!(offset.ms(), Some(wrong));
            assert!(offset.is_off());
        }
    }
}
