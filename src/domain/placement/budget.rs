//! How many voluntary moves may be under way. Takeovers and first placements are never limited:
//! a shard without an owner is worse than any load.

use super::Observed;
use crate::domain::assignment::MoveReason;

/// Most attempts at a time to reach clusters that their owners cannot reach. Each takes up to
/// [`REACH_TIMEOUT`](crate::domain::preparation::REACH_TIMEOUT) where packets are dropped: when a
/// thousand clusters are lost at once, two other replicas have tried all of them within some two
/// minutes, and neither has more than these to do at a time.
const REACHING_MAX: usize = 16;

/// What an operator may decide about placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Most voluntary moves under way at a time; 0 turns rebalancing off.
    pub moves_in_flight_max: usize,
    /// Most moves from drained replicas under way at a time. They do not use up the allowance of
    /// voluntary moves: neither waits for the other.
    pub drains_in_flight_max: usize,
}

impl Policy {
    /// Each voluntary move opens a shard's watches a second time. Sixteen at a time are little to a
    /// replica, and one that joins still gets its share of a thousand shards within a minute.
    pub const MOVES_IN_FLIGHT_MAX: usize = 16;
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            moves_in_flight_max: Self::MOVES_IN_FLIGHT_MAX,
            drains_in_flight_max: Self::MOVES_IN_FLIGHT_MAX,
        }
    }
}

/// What is left of the allowance while a plan is made.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    pub(super) fn new(policy: &Policy, observed: &Observed) -> Self {
        Self {
            left: policy
                .moves_in_flight_max
                .saturating_sub(observed.moves_in_flight),
        }
    }

    /// The allowance of attempts to reach clusters that their owners cannot reach. They do not use up
    /// that of voluntary moves, which would rest for as long as an outage lasts.
    pub(super) fn of_attempts_to_reach(observed: &Observed) -> Self {
        let preparing = observed.preparing.values();
        let reaching = preparing.filter(|(_, reason)| *reason == MoveReason::Reachability);
        Self {
            left: REACHING_MAX.saturating_sub(reaching.count()),
        }
    }

    /// The allowance of moves from drained replicas.
    pub(super) fn of_drains(policy: &Policy, observed: &Observed) -> Self {
        let preparing = observed.preparing.values();
        let draining = preparing.filter(|(_, reason)| *reason == MoveReason::Drained);
        Self {
            left: policy.drains_in_flight_max.saturating_sub(draining.count()),
        }
    }

    /// Takes one move from the allowance; whether there was one.
    pub(super) fn take(&mut self) -> bool {
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}
