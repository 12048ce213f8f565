//! In which order candidates are taken: the least score first, the id last, so that two leaders
//! that see the same choose the same.

use std::cmp::Reverse;

use super::super::{
    assignment::{Assignment, MoveReason},
    id::{ReplicaId, ShardId, UnixMillis},
};

/// Who takes a shard: the replica that owns the fewest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TakerScore {
    owned: usize,
    replica: ReplicaId,
}

impl TakerScore {
    pub(super) fn new(owned: usize, replica: ReplicaId) -> Self {
        Self { owned, replica }
    }

    pub(super) fn owned(self) -> usize {
        self.owned
    }

    pub(super) fn replica(self) -> ReplicaId {
        self.replica
    }
}

/// Who gives a shard: the replica that owns the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GiverScore {
    owned: Reverse<usize>,
    replica: ReplicaId,
}

impl GiverScore {
    pub(super) fn new(owned: usize, replica: ReplicaId) -> Self {
        Self {
            owned: Reverse(owned),
            replica,
        }
    }

    pub(super) fn owned(self) -> usize {
        self.owned.0
    }

    pub(super) fn replica(self) -> ReplicaId {
        self.replica
    }
}

/// Which shard is given: the one that has stayed longest, so that a shard that has just moved is
/// not moved again; one that a user wanted where it is only where there is no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShardScore {
    is_requested: bool,
    since: UnixMillis,
    shard: ShardId,
}

impl ShardScore {
    pub(super) fn of(assignment: &Assignment) -> Self {
        Self {
            is_requested: assignment.reason() == MoveReason::Requested,
            since: assignment.since(),
            shard: assignment.shard(),
        }
    }
}
