//! Who owns a shard. The only place where an [`Epoch`] is minted.

use super::id::{Epoch, ReplicaId, ShardId, UnixMillis};

/// Who owns a shard, as committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    shard: ShardId,
    owner: Option<ReplicaId>,
    epoch: Epoch,
    reason: MoveReason,
    since: UnixMillis,
}

/// The phase of an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// No replica may watch the shard.
    Unassigned,
    /// Its owner watches it.
    Active,
}

/// Why a shard has the owner that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MoveReason {
    /// The shard is new.
    Created,
    /// It had no owner.
    Placed,
    /// Its owner became unavailable.
    Takeover,
    /// Its owner reported that it is stopping.
    Handover,
    /// To even the load.
    Rebalance,
    /// Its owner could not reach its cluster, and the new one can.
    Reachability,
    /// Its owner is drained.
    Drained,
    /// A user wanted it there.
    Requested,
    /// Its owner became unavailable and no replica could take it.
    NoReplica,
    /// Its cluster was paused.
    Paused,
    /// Its cluster was deleted. Reported to watches; no assignment with it remains.
    Deleted,
}

impl Assignment {
    /// A shard that nobody has owned yet, before the first epoch.
    pub fn unassigned(shard: ShardId, since: UnixMillis) -> Self {
        Self {
            shard,
            owner: None,
            epoch: Epoch(0),
            reason: MoveReason::Created,
            since,
        }
    }

    /// Rebuilds an assignment from its record.
    pub fn restore(
        shard: ShardId,
        owner: Option<ReplicaId>,
        epoch: Epoch,
        reason: MoveReason,
        since: UnixMillis,
    ) -> Self {
        Self {
            shard,
            owner,
            epoch,
            reason,
            since,
        }
    }

    /// Gives the shard to `owner`, or to nobody, under the next epoch.
    #[must_use]
    pub fn assign_to(&self, owner: Option<ReplicaId>, reason: MoveReason, at: UnixMillis) -> Self {
        Self {
            shard: self.shard,
            owner,
            epoch: Epoch(self.epoch.0 + 1),
            reason,
            since: at,
        }
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Its owner.
    pub fn owner(&self) -> Option<ReplicaId> {
        self.owner
    }

    /// The fencing token; grows with each change of owner.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Why it has this owner.
    pub fn reason(&self) -> MoveReason {
        self.reason
    }

    /// When the current owner was assigned, by the wall clock in the command.
    pub fn since(&self) -> UnixMillis {
        self.since
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        if self.owner.is_some() {
            Phase::Active
        } else {
            Phase::Unassigned
        }
    }
}
