//! Planned moves on their way: [`Preparations`].
//!
//! A shard whose owner works does not move before its receiver has opened the watches: then the
//! move is one command, and subscribers notice nothing. Nothing of this is agreed on. An attempt
//! that fails has changed nothing, and a leader that fails takes its attempts with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    assignment::{Assignment, MoveReason},
    command::Move,
    id::{Epoch, ReplicaId, ShardId},
    member::Availability,
    placement::Tries,
    state::State,
};

/// How long a receiver may take to open the watches of a shard: a connection, a list of one object
/// and a watch. Longer than any of these may take where the cluster can be reached.
pub const PREPARE_TIMEOUT: Duration = Duration::from_secs(5);

/// The same where the owner is about to stop: after it the move is committed as it is, since the
/// owner goes anyway.
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// The same where the owner cannot reach the cluster, at first: subscribers hear nothing meanwhile,
/// and the next replica may succeed. It doubles with each failure of the receiver, up to
/// [`PREPARE_TIMEOUT`], so that one whose credential command is slow gets there as well.
pub const REACH_TIMEOUT: Duration = Duration::from_secs(1);

/// How much longer than the receiver's timeout the leader waits for its answer.
pub const ANSWER_MARGIN: Duration = Duration::from_millis(500);

/// How long a receiver keeps watches open for a move that is not committed. Longer than an election,
/// and than the retries of a proposal.
pub const KEPT_FOR: Duration = Duration::from_secs(10);

/// Most receivers that prepare at a time for owners that stop.
const HANDOVERS_MAX: usize = 64;

/// How long the owner has to reach a cluster again that this receiver could not reach in the same
/// outage either: most likely the cluster itself was down, and is back. An owner asks soon enough
/// after an outage of up to 20 s; after a longer one, events come sooner where the shard moves.
const RETURN_GRACE: Duration = Duration::from_secs(5);

/// The same where this receiver has not failed in this outage. A server that was gone for a moment
/// is found by one replica some hundred milliseconds before the other: then the shard stays.
const RECOVERY: Duration = Duration::from_millis(500);

/// How much longer the owner has for each other cluster that it cannot reach: where they come back
/// together, it resumes them one after the other, as its budget of retries allows.
const RECOVERY_OF_EACH: Duration = Duration::from_millis(5);

/// How long a receiver that did not answer is passed over.
const UNANSWERED: Duration = Duration::from_secs(1);

/// How long a replica that could not watch a shard is passed over, at first; it doubles with each
/// failure ...
const UNFIT_FIRST: Duration = Duration::from_secs(10);
/// ... up to here.
const UNFIT_MAX: Duration = Duration::from_secs(300);

/// The moves that receivers prepare, as their leader knows them.
#[derive(Clone, Debug, Default)]
pub struct Preparations {
    attempts: BTreeMap<ShardId, Attempt>,
    /// Receivers that are tried for users who move nothing.
    trials: usize,
    tried: BTreeMap<(ShardId, ReplicaId), Tried>,
    /// Shards whose owner cannot reach their cluster now.
    outages: BTreeMap<ShardId, Outage>,
}

/// An owner cannot reach the cluster of its shard.
#[derive(Clone, Copy, Debug)]
struct Outage {
    owner: ReplicaId,
    since: Duration,
}

/// A move whose receiver is to be asked to open the watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The move.
    pub step: Move,
    /// How long opening them may take.
    pub timeout: Duration,
}

#[derive(Clone, Debug)]
struct Attempt {
    step: Move,
    receiver: ReplicaId,
    /// When it is given up.
    until: Duration,
    /// When it is committed at the soonest.
    due_from: Duration,
    outcome: Option<Outcome>,
}

/// How an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The watches are open.
    Ready,
    /// The receiver cannot watch the cluster.
    Unfit,
    /// The receiver did not answer, which proves nothing about the cluster.
    Failed,
}

/// What a receiver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How its attempt has ended.
    pub outcome: Outcome,
    /// A description of why it is not ready. Never a credential.
    pub reason: String,
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            reason: String::new(),
        }
    }
}

/// How a replica has fared with a shard lately.
#[derive(Clone, Copy, Debug)]
struct Tried {
    last: Outcome,
    /// How often it could not watch the shard. That it can once does not take them back: a shard
    /// whose route comes and goes returns later each time.
    failures: u32,
    /// When that was last.
    failed_at: Option<Duration>,
    /// Until when it is passed over.
    until: Duration,
}

impl Preparations {
    /// Takes in planned moves and gives those whose receivers are to be asked now.
    pub fn begin(&mut self, moves: Vec<Move>, now: Duration) -> Vec<Request> {
        let mut begun = Vec::new();
        for step in moves {
            let Some(receiver) = step.to else { continue };
            let is_handover = step.reason == MoveReason::Handover;
            if self.attempts.contains_key(&step.shard)
                || is_handover && self.handovers() >= HANDOVERS_MAX
            {
                continue;
            }
            begun.push(self.start(step, receiver, now));
        }
        begun
    }

    /// Takes in a move that a user wants and gives the receiver's request, in place of a move of the
    /// shard that is being prepared for another reason.
    pub fn want(&mut self, step: Move, receiver: ReplicaId, now: Duration) -> Request {
        self.start(step, receiver, now)
    }

    /// The move of this shard that a user wants, while it is being prepared.
    pub fn wanted(&self, shard: ShardId) -> Option<&Move> {
        let step = &self.attempts.get(&shard)?.step;
        (step.reason == MoveReason::Requested).then_some(step)
    }

    /// How many moves are being prepared or tried for users.
    pub fn requested(&self) -> usize {
        let attempts = self.attempts.values();
        let requested = attempts.filter(|attempt| attempt.step.reason == MoveReason::Requested);
        requested.count() + self.trials
    }

    /// A receiver is to be tried that will not get the shard.
    pub fn begin_trial(&mut self, step: Move) -> Request {
        self.trials += 1;
        Request {
            step,
            timeout: PREPARE_TIMEOUT,
        }
    }

    /// It has answered.
    pub fn trial_ended(&mut self) {
        self.trials = self.trials.saturating_sub(1);
    }

    fn start(&mut self, step: Move, receiver: ReplicaId, now: Duration) -> Request {
        let timeout = self.timeout(&step, receiver);
        // An owner that stops does not wait for the answer.
        let margin = if step.reason == MoveReason::Handover {
            Duration::ZERO
        } else {
            2 * ANSWER_MARGIN
        };
        let attempt = Attempt {
            step: step.clone(),
            receiver,
            until: now + timeout + margin,
            due_from: now,
            outcome: None,
        };
        self.attempts.insert(step.shard, attempt);
        Request { step, timeout }
    }

    /// How the attempt of a receiver has ended.
    pub fn ended(&mut self, step: &Move, outcome: Outcome, now: Duration) {
        let Some(receiver) = step.to else { return };
        let key = (step.shard, receiver);
        let grace = match (outcome, step.reason) {
            (Outcome::Ready, MoveReason::Reachability) => self.grace(key),
            _ => Duration::ZERO,
        };
        let attempt = self.attempts.get_mut(&step.shard);
        let Some(attempt) = attempt.filter(|attempt| attempt.step == *step) else {
            return;
        };
        attempt.outcome = Some(outcome);
        if outcome == Outcome::Ready {
            attempt.until = now + KEPT_FOR;
            attempt.due_from = now + grace;
        }
        self.learn(key, outcome, now);
    }

    /// What is to be committed now. It is given again until the state shows it.
    pub fn due(
        &mut self,
        state: &State,
        replicas: &BTreeMap<ReplicaId, Availability>,
        unreachable: &BTreeMap<ShardId, ReplicaId>,
        now: Duration,
    ) -> Vec<Move> {
        self.follow_outages(unreachable, now);
        self.forget(state, now);
        self.attempts.retain(|shard, attempt| {
            // Another receiver is chosen by the next plan.
            let is_there = replicas.get(&attempt.receiver) == Some(&Availability::Active)
                && !state.is_drained(attempt.receiver);
            // The owner reaches the cluster again: there is nothing to be gained.
            let is_needless = match attempt.step.reason {
                MoveReason::Reachability => !unreachable.contains_key(shard),
                // The owner was resumed.
                MoveReason::Drained => {
                    let owner = state.assignments.get(shard).and_then(Assignment::owner);
                    owner.is_none_or(|owner| !state.is_drained(owner))
                }
                _ => false,
            };
            is_there && !is_needless
        });
        self.attempts
            .values()
            .filter(|attempt| attempt.is_due(now))
            .map(|attempt| attempt.step.clone())
            .collect()
    }

    /// The shards that are being prepared, with their receivers and the reasons.
    pub fn receivers(&self) -> BTreeMap<ShardId, (ReplicaId, MoveReason)> {
        let attempts = self.attempts.iter();
        attempts
            .map(|(shard, attempt)| (*shard, (attempt.receiver, attempt.step.reason)))
            .collect()
    }

    /// How many of them count against the allowance of voluntary moves.
    pub fn voluntary(&self) -> usize {
        let attempts = self.attempts.values();
        attempts
            .filter(|attempt| attempt.step.reason == MoveReason::Rebalance)
            .count()
    }

    /// Replicas that are passed over for a shard.
    pub fn unfit(&self, now: Duration) -> BTreeSet<(ShardId, ReplicaId)> {
        let unfit = self.tried.iter().filter(|(_, tried)| now < tried.until);
        unfit.map(|(key, _)| *key).collect()
    }

    /// Who has tried to watch this shard.
    pub fn tries(&self, shard: ShardId, now: Duration) -> Tries {
        let mut tries = Tries::default();
        let all = (shard, ReplicaId(0))..=(shard, ReplicaId(u64::MAX));
        for (key, tried) in self.tried.range(all) {
            tries.failures += tried.failures;
            let is_earlier = tried.last == Outcome::Unfit && !self.has_failed(*key);
            if now < tried.until && !is_earlier {
                tries.passed_over.insert(key.1);
            }
        }
        tries
    }

    /// Whether this replica could not watch this shard when it tried last, since the owner cannot.
    pub fn is_unfit(&self, shard: ShardId, replica: ReplicaId) -> bool {
        let key = (shard, replica);
        let tried = self.tried.get(&key);
        tried.is_some_and(|tried| tried.last == Outcome::Unfit) && self.has_failed(key)
    }

    /// Whether a replica could not watch a shard since its owner cannot. What happened before says
    /// nothing of this outage.
    fn has_failed(&self, key: (ShardId, ReplicaId)) -> bool {
        let failed_at = self.tried.get(&key).and_then(|tried| tried.failed_at);
        let since = self.outages.get(&key.0).map(|outage| outage.since);
        matches!((failed_at, since), (Some(failed_at), Some(since)) if failed_at >= since)
    }

    /// How long the owner of a shard has to reach its cluster again, once this receiver can.
    fn grace(&self, key: (ShardId, ReplicaId)) -> Duration {
        let owner = self.outages.get(&key.0).map(|outage| outage.owner);
        let all = self.outages.values();
        let of_owner = all.filter(|outage| Some(outage.owner) == owner).count();
        let others = u32::try_from(of_owner.saturating_sub(1)).unwrap_or(u32::MAX);
        let least = if self.has_failed(key) {
            RETURN_GRACE
        } else {
            RECOVERY
        };
        least + RECOVERY_OF_EACH.saturating_mul(others)
    }

    /// Owners report that they cannot reach the clusters of these shards: a shard is not moved back
    /// soon.
    fn follow_outages(&mut self, unreachable: &BTreeMap<ShardId, ReplicaId>, now: Duration) {
        self.outages
            .retain(|shard, outage| unreachable.get(shard) == Some(&outage.owner));
        for (&shard, &owner) in unreachable {
            let new = Outage { owner, since: now };
            self.outages.entry(shard).or_insert(new);
            let key = (shard, owner);
            if self.tried.get(&key).is_none_or(|tried| now >= tried.until) {
                self.learn(key, Outcome::Unfit, now);
            }
        }
    }

    fn timeout(&self, step: &Move, receiver: ReplicaId) -> Duration {
        match step.reason {
            MoveReason::Handover => HANDOVER_TIMEOUT,
            MoveReason::Reachability => {
                let tried = self.tried.get(&(step.shard, receiver));
                let failures = tried.map_or(0, |tried| tried.failures);
                doubled(REACH_TIMEOUT, failures).min(PREPARE_TIMEOUT)
            }
            _ => PREPARE_TIMEOUT,
        }
    }

    fn handovers(&self) -> usize {
        let attempts = self.attempts.values();
        attempts.filter(|attempt| attempt.is_handover()).count()
    }

    fn learn(&mut self, key: (ShardId, ReplicaId), outcome: Outcome, now: Duration) {
        let before = self.tried.get(&key);
        let failures = before.map_or(0, |tried| tried.failures);
        let failed_at = before.and_then(|tried| tried.failed_at);
        let (failures, failed_at, pause) = match outcome {
            Outcome::Ready => (failures, failed_at, Duration::ZERO),
            Outcome::Failed => (failures, failed_at, UNANSWERED),
            Outcome::Unfit => {
                let pause = doubled(UNFIT_FIRST, failures).min(UNFIT_MAX);
                let pause = pause + spread(key, pause);
                (failures.saturating_add(1), Some(now), pause)
            }
        };
        let tried = Tried {
            last: outcome,
            failures,
            failed_at,
            until: now + pause,
        };
        self.tried.insert(key, tried);
    }

    /// Forgets attempts that are over: the shard has changed hands, or their time has passed; and
    /// failures that are too long ago to count.
    fn forget(&mut self, state: &State, now: Duration) {
        let epoch_of =
            |shard: &ShardId| -> Option<Epoch> { Some(state.assignments.get(shard)?.epoch()) };
        self.attempts.retain(|shard, attempt| {
            let is_current = epoch_of(shard) == Some(attempt.step.epoch);
            let is_over = match attempt.outcome {
                // The owner goes: the move is committed, prepared or not.
                _ if attempt.is_handover() => false,
                Some(Outcome::Ready) | None => now >= attempt.until,
                Some(Outcome::Unfit | Outcome::Failed) => true,
            };
            is_current && !is_over
        });
        self.tried.retain(|(shard, _), tried| {
            now < tried.until + UNFIT_MAX && state.assignments.contains_key(shard)
        });
    }
}

fn doubled(duration: Duration, times: u32) -> Duration {
    duration.saturating_mul(1 << times.min(16))
}

/// A part of a pause, up to a quarter of it: clusters that are lost together are not tried together
/// again. The same at each leader.
fn spread((shard, replica): (ShardId, ReplicaId), pause: Duration) -> Duration {
    // Neighbouring ids differ in the upper bits of the product (2^64 divided by the golden ratio).
    const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (shard.cluster.0 ^ replica.0.rotate_left(32)).wrapping_mul(SCATTER) >> 48;
    let part = u32::try_from(mixed % 256).unwrap_or(0);
    pause * part / 1024
}

impl Attempt {
    fn is_handover(&self) -> bool {
        self.step.reason == MoveReason::Handover
    }

    fn is_due(&self, now: Duration) -> bool {
        match self.outcome {
            Some(Outcome::Ready) => now >= self.due_from,
            // Another replica could not do better before the owner stops.
            Some(Outcome::Unfit | Outcome::Failed) => self.is_handover(),
            None => self.is_handover() && now >= self.until,
        }
    }
}

#[cfg(test)]
#[path = "preparation_tests.rs"]
mod tests;
