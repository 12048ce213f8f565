//! What a command changed, for those who watch shards and clusters.
//!
//! Checkpoints and eras are no changes in this sense: they move all the time.

use super::{
    assignment::Assignment,
    cluster::Cluster,
    id::{ReplicaId, Revision, ShardId, UnixMillis},
    stream::Stream,
};

/// What one command changed, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Of shards; each as it was after that change.
    pub shards: Vec<ShardChange>,
    /// Of clusters: at most one for one cluster.
    pub clusters: Vec<ClusterChange>,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty() && self.clusters.is_empty()
    }
}

/// A change of a shard: of its owner, of its streams, or of its being there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardChange {
    /// The revision that made it.
    pub revision: Revision,
    /// What happened.
    pub kind: ShardChangeKind,
    /// The shard.
    pub shard: ShardId,
    /// The name of the shard's cluster, which may be deleted by now.
    pub cluster: String,
    /// Its assignment after the change; of a deleted one, the last that there was: to nobody.
    pub assignment: Assignment,
    /// Its streams after the change; those that it had, where it was deleted.
    pub streams: Vec<Stream>,
    /// The previous owner; `None` for none.
    pub old_owner: Option<ReplicaId>,
    /// The time in the command that caused it.
    pub at: UnixMillis,
}

/// What happened to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShardChangeKind {
    /// It is new.
    Created,
    /// It has another owner, or none, and another epoch.
    Moved,
    /// It has other streams.
    Updated,
    /// Its cluster was deleted.
    Deleted,
}

/// A change of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterChange {
    /// The revision that made it.
    pub revision: Revision,
    /// What happened.
    pub kind: ClusterChangeKind,
    /// The cluster after the change; as it was last, where it was deleted.
    pub cluster: Cluster,
}

/// What happened to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterChangeKind {
    /// It was registered.
    Created,
    /// A user updated it, or its condition or its identity changed.
    Updated,
    /// It was deleted.
    Deleted,
}
