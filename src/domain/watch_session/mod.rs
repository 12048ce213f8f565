//! One stream's list/watch session as a state machine: [`WatchSession::step`].

/// When a session suspects, refreshes, closes and gives up. All times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// A watch that is silent for so long after it was opened has delivered everything up to the
    /// resource version of the list before it.
    pub idle_grace_ms: u64,
    /// No frame and no bookmark for so long: probe and open the watch anew (traps T1, T13).
    pub silence_ms: u64,
    /// A clean close without a frame within this time is suspicious (trap T3).
    pub quick_close_ms: u64,
    /// So many suspicious closes in a row mean that the history is gone.
    pub quick_closes_max: u32,
    /// So many internal errors at one resource version mean that it cannot be passed (trap T12).
    pub failures_max: u32,
    /// The time within which they count.
    pub failures_within_ms: u64,
    /// A watch that lived for so long was healthy: back-off begins anew after it.
    pub healthy_ms: u64,
    /// A list younger than this need not be repeated before a watch.
    pub probe_valid_ms: u64,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            idle_grace_ms: 3_000,
            silence_ms: 60_000,
            quick_close_ms: 2_000,
            quick_closes_max: 2,
            failures_max: 3,
            failures_within_ms: 30_000,
            healthy_ms: 10_000,
            probe_valid_ms: 2_000,
        }
    }
}
