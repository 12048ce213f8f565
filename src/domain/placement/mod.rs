//! Who should own what: [`plan`] compares what is agreed with what the leader observes and answers
//! with the moves that are missing.
//!
//! It is a function with a fixed point: once its moves are applied, it answers with none. It never
//! proposes anything itself; `controller` does that with its answer.
//!
//! Three phases, in this order, so that what is urgent comes first in a plan:
//!
//! 1. **evict**: shards whose owner is unavailable, or no longer a member, go to another replica,
//!    or to nobody where no replica can take them.
//! 2. **place**: shards that have no owner and may have one get one.
//! 3. **rebalance**: the counts of shards of two active replicas differ by one at most, with as few
//!    moves as possible, and only when the leader is sure of every replica.

mod budget;
mod score;

use std::collections::{BTreeMap, BTreeSet};

use self::{
    budget::Budget,
    score::{GiverScore, ShardScore, TakerScore},
};
use super::{
    assignment::{Assignment, MoveReason},
    command::Move,
    id::ReplicaId,
    member::Availability,
    state::State,
};

pub use self::budget::Policy;

/// What the leader observes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its opinion of each replica. A member that is not named is [`Availability::Suspect`]: the
    /// leader has no opinion yet.
    pub replicas: BTreeMap<ReplicaId, Availability>,
    /// Those that are unavailable because they are about to stop, and said so.
    pub leaving: BTreeSet<ReplicaId>,
    /// Voluntary moves whose new owner has not yet been seen at work; they use up the
    /// [`Policy`]'s allowance.
    pub moves_in_flight: usize,
}

/// What should change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The moves, the most urgent first, at most one for each shard.
    pub moves: Vec<Move>,
}

/// The moves that bring `state` to where every shard that may have an owner has an available one
/// and the load is even.
pub fn plan(state: &State, observed: &Observed, policy: &Policy) -> Plan {
    let mut draft = Draft::new(state, observed);
    draft.evict();
    draft.place();
    draft.rebalance(Budget::new(policy, observed));
    draft.plan
}

/// A plan in the making.
struct Draft<'a> {
    state: &'a State,
    observed: &'a Observed,
    /// Active replicas, with what they would own once the plan so far is applied.
    loads: BTreeMap<ReplicaId, Load<'a>>,
    /// Whether the leader is unsure of a replica.
    doubtful: bool,
    plan: Plan,
}

/// What an active replica owns.
#[derive(Default)]
struct Load<'a> {
    /// What it owns already.
    kept: Vec<&'a Assignment>,
    /// How many shards the plan gives to it.
    gained: usize,
}

impl Load<'_> {
    fn owned(&self) -> usize {
        self.kept.len() + self.gained
    }
}

impl<'a> Draft<'a> {
    fn new(state: &'a State, observed: &'a Observed) -> Self {
        let mut draft = Self {
            state,
            observed,
            loads: BTreeMap::new(),
            doubtful: false,
            plan: Plan::default(),
        };
        for replica in state.members.keys() {
            match draft.availability(*replica) {
                Availability::Active => {
                    draft.loads.insert(*replica, Load::default());
                }
                Availability::Suspect => draft.doubtful = true,
                Availability::Unavailable => {}
            }
        }
        for assignment in state.assignments.values() {
            if let Some(owner) = assignment.owner()
                && let Some(load) = draft.loads.get_mut(&owner)
            {
                load.kept.push(assignment);
            }
        }
        draft
    }

    fn availability(&self, replica: ReplicaId) -> Availability {
        if !self.state.members.contains_key(&replica) {
            return Availability::Unavailable;
        }
        self.observed
            .replicas
            .get(&replica)
            .copied()
            .unwrap_or(Availability::Suspect)
    }

    /// Phase 1. While nobody is active but somebody may turn out to be, it waits: the doubt ends
    /// with the leader's grace, and a shard that is taken from everybody now would change hands
    /// twice.
    fn evict(&mut self) {
        let state = self.state;
        for assignment in state.assignments.values() {
            let lost = assignment
                .owner()
                .filter(|owner| self.availability(*owner) == Availability::Unavailable);
            let Some(owner) = lost else {
                continue;
            };
            let reason = match self.observed.leaving.contains(&owner) {
                true => MoveReason::Handover,
                false => MoveReason::Takeover,
            };
            if let Some(taker) = self.least_loaded() {
                self.give(assignment, taker, reason);
            } else if !self.doubtful {
                self.push(assignment, None, MoveReason::NoReplica);
            }
        }
    }

    /// Phase 2.
    fn place(&mut self) {
        let state = self.state;
        for assignment in state.assignments.values() {
            if assignment.owner().is_none()
                && state.is_ownable(assignment.shard())
                && let Some(taker) = self.least_loaded()
            {
                self.give(assignment, taker, MoveReason::Placed);
            }
        }
    }

    /// Phase 3. From the replica with the most to the one with the least until they differ by one
    /// at most: nobody both gives and takes, so no plan needs fewer moves. A giver never gives
    /// what this plan has just given to it, for only the one with the least was given anything.
    ///
    /// It waits while the leader is unsure of a replica: that one's shards may be about to move
    /// anyway, and a new leader would otherwise even out a load that it does not know.
    fn rebalance(&mut self, mut budget: Budget) {
        if self.doubtful {
            return;
        }
        while let Some((giver, taker)) = self.widest_pair() {
            if !budget.take() {
                return;
            }
            let Some(load) = self.loads.get_mut(&giver) else {
                return;
            };
            let oldest = (0..load.kept.len()).min_by_key(|&index| ShardScore::of(load.kept[index]));
            let Some(oldest) = oldest else { return };
            let assignment = load.kept.swap_remove(oldest);
            self.give(assignment, taker, MoveReason::Rebalance);
        }
    }

    fn least_loaded(&self) -> Option<ReplicaId> {
        self.loads
            .iter()
            .map(|(replica, load)| TakerScore::new(load.owned(), *replica))
            .min()
            .map(TakerScore::replica)
    }

    /// Who should give a shard to whom; nobody where the load is even.
    fn widest_pair(&self) -> Option<(ReplicaId, ReplicaId)> {
        let giver = self
            .loads
            .iter()
            .map(|(replica, load)| GiverScore::new(load.owned(), *replica))
            .min()?;
        let taker = self
            .loads
            .iter()
            .map(|(replica, load)| TakerScore::new(load.owned(), *replica))
            .min()?;
        (giver.owned() >= taker.owned() + 2).then(|| (giver.replica(), taker.replica()))
    }

    fn give(&mut self, assignment: &Assignment, taker: ReplicaId, reason: MoveReason) {
        if let Some(load) = self.loads.get_mut(&taker) {
            load.gained += 1;
        }
        self.push(assignment, Some(taker), reason);
    }

    fn push(&mut self, assignment: &Assignment, to: Option<ReplicaId>, reason: MoveReason) {
        self.plan.moves.push(Move {
            shard: assignment.shard(),
            epoch: assignment.epoch(),
            to,
            reason,
        });
    }
}

#[cfg(test)]
mod tests;
