//! How many voluntary moves may be under way. Takeovers and first placements are never limited:
//! a shard without an owner is worse than any load.

use super::Observed;

/// What an operator may decide about placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Most voluntary moves under way at a time; 0 turns rebalancing off.
    pub moves_in_flight_max: usize,
}

impl Policy {
    /// Each voluntary move holds a shard's events back for some 50 ms and opens its watches a
    /// second time. Sixteen at a time keep that unnoticeable, and a replica that joins still gets
    /// its share of a thousand shards within a minute.
    pub const MOVES_IN_FLIGHT_MAX: usize = 16;
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            moves_in_flight_max: Self::MOVES_IN_FLIGHT_MAX,
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

    /// Takes one move from the allowance; whether there was one.
    pub(super) fn take(&mut self) -> bool {
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}
