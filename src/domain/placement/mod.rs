//! Shard placement: [`plan`] compares the committed state with what the leader observes and returns
//! the missing moves.
//!
//! It is a function with a fixed point: once its moves are applied, it returns none. It never
//! proposes anything itself; `controller` does that with its answer.
//!
//! Five steps, in this order, so that what is urgent comes first in a plan:
//!
//! 1. **evict**: shards whose owner is unavailable, or no longer a member, go to another replica,
//!    or to nobody where no replica can take them. Those of an owner that is about to stop are
//!    prepared at their receiver first.
//! 2. **place**: shards that have no owner and may have one get one.
//! 3. **reach**: shards whose owner cannot reach their cluster are tried by another replica.
//! 4. **drain**: shards of a replica that a user has drained go to others, as far as these can watch
//!    them. What nobody else can watch stays.
//! 5. **rebalance**: the counts of shards of two replicas that take shards differ by one at most,
//!    with as few moves as possible, and only when the leader is sure of every replica.
//!
//! A replica takes shards while it is active and not drained. Where there is none, what has lost its
//! owner has none.
//!
//! A move from an owner that works is planned: its receiver opens the watches first, and the move
//! is committed once they are open ([`Plan::prepare`]). Other moves are committed at once.

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
    id::{ReplicaId, ShardId},
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
    /// Those that are unavailable because they reported that they are stopping. They still work.
    pub leaving: BTreeSet<ReplicaId>,
    /// Voluntary moves that are being prepared; they use up the [`Policy`]'s allowance.
    pub moves_in_flight: usize,
    /// Planned moves that a receiver is preparing: which, and why.
    pub preparing: BTreeMap<ShardId, (ReplicaId, MoveReason)>,
    /// Replicas that could not watch a shard when they tried last, not long ago.
    pub unfit: BTreeSet<(ShardId, ReplicaId)>,
    /// Shards whose owner cannot reach their cluster, or is refused by it, and who has tried.
    pub unreachable: BTreeMap<ShardId, Tries>,
}

/// Who has tried to watch a shard whose owner cannot reach its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// How often a replica could not, also in outages before.
    pub failures: u32,
    /// The replicas that are passed over for what happened since the owner cannot reach it.
    pub passed_over: BTreeSet<ReplicaId>,
}

/// What should change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is to be committed now, the most urgent first, at most one move for each shard.
    pub moves: Vec<Move>,
    /// What is to be committed once the receiver has opened the watches.
    pub prepare: Vec<Move>,
}

/// The moves that bring `state` to where every shard that may have an owner has an available one
/// and the load is even.
pub fn plan(state: &State, observed: &Observed, policy: &Policy) -> Plan {
    let mut draft = Draft::new(state, observed);
    draft.evict();
    draft.place();
    draft.reach();
    draft.drain(&mut Budget::of_drains(policy, observed));
    draft.rebalance(&mut Budget::new(policy, observed));
    draft.plan
}

/// Which of the active replicas may take which shard over, if the shard's owner died now: who is
/// named keeps connections ready.
///
/// It is what [`plan`] will answer then, if nothing else changes. What the leader itself owns may go
/// to any of the others: its successor has heard nobody yet, and begins with itself.
pub fn takers(
    state: &State,
    active: &BTreeSet<ReplicaId>,
    leader: ReplicaId,
) -> BTreeMap<ShardId, BTreeSet<ReplicaId>> {
    let mut takers = BTreeMap::new();
    for owner in active {
        let others: BTreeSet<ReplicaId> = active.iter().copied().filter(|id| id != owner).collect();
        if *owner == leader {
            let led = state.assignments.values();
            let led = led.filter(|assignment| assignment.owner() == Some(leader));
            let others = others.into_iter().filter(|id| !state.is_drained(*id));
            let others: BTreeSet<ReplicaId> = others.collect();
            takers.extend(led.map(|assignment| (assignment.shard(), others.clone())));
            continue;
        }
        let moves = evictions(state, &others).into_iter().filter(|step| {
            let assignment = state.assignments.get(&step.shard);
            assignment.and_then(Assignment::owner) == Some(*owner)
        });
        takers.extend(moves.filter_map(|step| Some((step.shard, [step.to?].into()))));
    }
    takers
}

/// The moves that are due where these replicas alone are active.
fn evictions(state: &State, active: &BTreeSet<ReplicaId>) -> Vec<Move> {
    let availability = |replica: &ReplicaId| {
        if active.contains(replica) {
            Availability::Active
        } else {
            Availability::Unavailable
        }
    };
    let replicas = state.members.keys();
    let observed = Observed {
        replicas: replicas.map(|id| (*id, availability(id))).collect(),
        ..Observed::default()
    };
    let mut draft = Draft::new(state, &observed);
    draft.evict();
    draft.plan.moves
}

/// A plan in the making.
struct Draft<'a> {
    state: &'a State,
    observed: &'a Observed,
    /// Replicas that take shards, with what they would own once the plan so far is applied.
    loads: BTreeMap<ReplicaId, Load<'a>>,
    /// Whether the leader is unsure of a replica.
    doubtful: bool,
    /// Whether a drained replica has shards that move with a later plan.
    has_more_to_drain: bool,
    plan: Plan,
}

/// What a replica that takes shards owns.
#[derive(Default)]
struct Load<'a> {
    /// What it owns already, and keeps so far.
    kept: Vec<&'a Assignment>,
    /// How many others it will own, by this plan and by moves that are being prepared.
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
            has_more_to_drain: false,
            plan: Plan::default(),
        };
        for replica in state.members.keys() {
            match draft.availability(*replica) {
                Availability::Active => {
                    if !state.is_drained(*replica) {
                        draft.loads.insert(*replica, Load::default());
                    }
                }
                Availability::Suspect => draft.doubtful = true,
                Availability::Unavailable => {}
            }
        }
        for assignment in state.assignments.values() {
            if let Some(owner_to_be) = draft.owner_to_be(assignment) {
                draft.count(owner_to_be);
            } else if let Some(owner) = assignment.owner()
                && let Some(load) = draft.loads.get_mut(&owner)
            {
                load.kept.push(assignment);
            }
        }
        draft
    }

    /// Who will own a shard that is being prepared; nobody where no move is under way.
    fn owner_to_be(&self, assignment: &Assignment) -> Option<ReplicaId> {
        let receiver = self.receiver(assignment.shard())?;
        match self.observed.preparing.get(&assignment.shard())? {
            // Most likely nobody can reach the cluster, and what a user wants may not be possible.
            // What else moves must not rest on it.
            (_, MoveReason::Reachability | MoveReason::Requested) => assignment.owner(),
            _ => Some(receiver),
        }
    }

    /// The replica that is preparing to take a shard, where it may.
    fn receiver(&self, shard: ShardId) -> Option<ReplicaId> {
        let (receiver, _) = *self.observed.preparing.get(&shard)?;
        self.takes_shards(receiver).then_some(receiver)
    }

    fn takes_shards(&self, replica: ReplicaId) -> bool {
        self.availability(replica) == Availability::Active && !self.state.is_drained(replica)
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

    /// Step 1. While no replica is active but one may turn out to be, it waits: the uncertainty
    /// ends with the leader's grace, and a shard that is taken from everybody now would change
    /// hands twice.
    fn evict(&mut self) {
        let state = self.state;
        for assignment in state.assignments.values() {
            let lost = assignment
                .owner()
                .filter(|owner| self.availability(*owner) == Availability::Unavailable);
            let Some(owner) = lost else {
                continue;
            };
            let receiver = self.receiver(assignment.shard());
            if self.observed.leaving.contains(&owner) {
                // It publishes until the receiver is ready.
                if receiver.is_none()
                    && let Some(taker) = self.least_loaded(assignment.shard())
                {
                    self.prepare(assignment, taker, MoveReason::Handover);
                }
            } else if let Some(receiver) = receiver {
                // Whatever is open there by now serves a takeover as well.
                self.push(assignment, Some(receiver), MoveReason::Takeover);
            } else if let Some(taker) = self.least_loaded(assignment.shard()) {
                self.give(assignment, taker, MoveReason::Takeover);
            } else if !self.doubtful {
                self.push(assignment, None, MoveReason::NoReplica);
            }
        }
    }

    /// Step 2.
    fn place(&mut self) {
        let state = self.state;
        for assignment in state.assignments.values() {
            if assignment.owner().is_none()
                && state.is_ownable(assignment.shard())
                && let Some(taker) = self.least_loaded(assignment.shard())
            {
                self.give(assignment, taker, MoveReason::Placed);
            }
        }
    }

    /// Step 3. One replica after the other tries, and the shard moves to the first that can. Where
    /// no other one can, it stays: the cluster itself is down.
    ///
    /// Few are tried at a time, those first that were tried least: when a thousand clusters are down,
    /// one that can be reached from elsewhere does not wait for all the others again and again.
    fn reach(&mut self) {
        let (state, observed) = (self.state, self.observed);
        let mut budget = Budget::of_attempts_to_reach(observed);
        let mut least_tried: Vec<_> = observed.unreachable.iter().collect();
        least_tried.sort_by_key(|(_, tries)| tries.failures);
        for (shard, tries) in least_tried {
            let Some(assignment) = state.assignments.get(shard) else {
                continue;
            };
            let Some(owner) = assignment.owner() else {
                continue;
            };
            let is_settled = self.availability(owner) == Availability::Active
                && !observed.preparing.contains_key(shard);
            let others = |taker: &TakerScore| taker.replica() != owner;
            let fit = self.fit_takers(*shard).filter(others).min();
            // Those that failed in an outage before get their chance once nobody better is left:
            // routes come and go, and what was broken then may be the only one that works now.
            let untried = self.takers().filter(others);
            let untried = untried.filter(|taker| !tries.passed_over.contains(&taker.replica()));
            let taker = fit.or_else(|| untried.min());
            if let Some(taker) = taker
                && is_settled
                && budget.take()
            {
                if let Some(load) = self.loads.get_mut(&owner) {
                    load.kept.retain(|kept| kept.shard() != *shard);
                    load.gained += 1;
                }
                let step = step(assignment, Some(taker.replica()), MoveReason::Reachability);
                self.plan.prepare.push(step);
            }
        }
    }

    /// Step 4. A shard whose owner cannot reach its cluster is left to step 3, which moves it to a
    /// replica that can.
    fn drain(&mut self, budget: &mut Budget) {
        let (state, observed) = (self.state, self.observed);
        for assignment in state.assignments.values() {
            let shard = assignment.shard();
            let is_to_go = assignment.owner().is_some_and(|owner| {
                state.is_drained(owner) && self.availability(owner) == Availability::Active
            });
            if is_to_go
                && !observed.preparing.contains_key(&shard)
                && !observed.unreachable.contains_key(&shard)
                && let Some(taker) = self.fit_takers(shard).min()
            {
                if !budget.take() {
                    self.has_more_to_drain = true;
                    return;
                }
                self.prepare(assignment, taker.replica(), MoveReason::Drained);
            }
        }
    }

    /// Step 5. From the replica with the most to the one with the least until they differ by one
    /// at most: nobody both gives and takes, so no plan needs fewer moves. A giver never gives
    /// what this plan has just given to it, for only the one with the least was given anything.
    ///
    /// It waits while the leader is unsure of a replica: that one's shards may be about to move
    /// anyway, and a new leader would otherwise even out a load that it does not know. And while
    /// there is more to come from a drained replica, which evens the load by itself.
    fn rebalance(&mut self, budget: &mut Budget) {
        if self.doubtful || self.has_more_to_drain {
            return;
        }
        // Replicas that can take nothing of what the one with the most owns.
        let mut passed_over = BTreeSet::new();
        while let Some((giver, taker)) = self.widest_pair(&passed_over) {
            let unfit = &self.observed.unfit;
            let Some(load) = self.loads.get_mut(&giver) else {
                return;
            };
            let oldest = (0..load.kept.len())
                .filter(|&index| !unfit.contains(&(load.kept[index].shard(), taker)))
                .min_by_key(|&index| ShardScore::of(load.kept[index]));
            let Some(oldest) = oldest else {
                passed_over.insert(taker);
                continue;
            };
            if !budget.take() {
                return;
            }
            let assignment = load.kept.swap_remove(oldest);
            self.prepare(assignment, taker, MoveReason::Rebalance);
        }
    }

    /// Who takes a shard: one that could not watch it lately only where nobody else is there.
    fn least_loaded(&self, shard: ShardId) -> Option<ReplicaId> {
        let fit = self.fit_takers(shard).min();
        fit.or_else(|| self.takers().min()).map(TakerScore::replica)
    }

    fn takers(&self) -> impl Iterator<Item = TakerScore> {
        let loads = self.loads.iter();
        loads.map(|(replica, load)| TakerScore::new(load.owned(), *replica))
    }

    fn fit_takers(&self, shard: ShardId) -> impl Iterator<Item = TakerScore> {
        let unfit = &self.observed.unfit;
        self.takers()
            .filter(move |taker| !unfit.contains(&(shard, taker.replica())))
    }

    /// Who should give a shard to whom; nobody where the load is even.
    fn widest_pair(&self, passed_over: &BTreeSet<ReplicaId>) -> Option<(ReplicaId, ReplicaId)> {
        let giver = self
            .loads
            .iter()
            .map(|(replica, load)| GiverScore::new(load.owned(), *replica))
            .min()?;
        let taker = self
            .takers()
            .filter(|taker| !passed_over.contains(&taker.replica()))
            .min()?;
        (giver.owned() >= taker.owned() + 2).then(|| (giver.replica(), taker.replica()))
    }

    fn give(&mut self, assignment: &Assignment, taker: ReplicaId, reason: MoveReason) {
        self.count(taker);
        self.push(assignment, Some(taker), reason);
    }

    fn prepare(&mut self, assignment: &Assignment, taker: ReplicaId, reason: MoveReason) {
        self.count(taker);
        let step = step(assignment, Some(taker), reason);
        self.plan.prepare.push(step);
    }

    fn count(&mut self, taker: ReplicaId) {
        if let Some(load) = self.loads.get_mut(&taker) {
            load.gained += 1;
        }
    }

    fn push(&mut self, assignment: &Assignment, to: Option<ReplicaId>, reason: MoveReason) {
        self.plan.moves.push(step(assignment, to, reason));
    }
}

fn step(assignment: &Assignment, to: Option<ReplicaId>, reason: MoveReason) -> Move {
    Move {
        shard: assignment.shard(),
        epoch: assignment.epoch(),
        to,
        reason,
    }
}

#[cfg(test)]
mod tests;
