//! Everything that can enter the log, and what comes of it.

use super::{
    assignment::MoveReason,
    cluster::{ClusterSpec, Condition, InvalidSpec},
    frame::GapReason,
    id::{ClusterId, Epoch, Era, GroupId, ReplicaId, Revision, ShardId, StreamId, UnixMillis},
    position::{Position, ResourceVersion},
    request::RequestId,
};

/// A change of the replicated state. Time is in the command: applying reads no clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Gives the group its identity; the first one wins.
    FoundGroup {
        /// Drawn by the founder.
        group: GroupId,
    },
    /// A replica has started.
    RegisterMember {
        /// Its id.
        replica: ReplicaId,
        /// Its stable name.
        name: String,
        /// `host:port` of its peer listener.
        peer_address: String,
        /// `host:port` of its client listener.
        client_address: String,
        /// When.
        at: UnixMillis,
    },
    /// A replica has left for good.
    RemoveMember {
        /// Its id.
        replica: ReplicaId,
    },
    /// Begin to monitor a cluster.
    CreateCluster {
        /// What to monitor.
        spec: ClusterSpec,
        /// Takes effect once, however often it is sent.
        request_id: Option<RequestId>,
        /// When.
        at: UnixMillis,
    },
    /// Replace a cluster's specification (its name cannot change).
    UpdateCluster {
        /// Which.
        id: ClusterId,
        /// Refuse unless the cluster is still at this revision.
        expected: Option<Revision>,
        /// The new specification.
        spec: ClusterSpec,
        /// Takes effect once, however often it is sent.
        request_id: Option<RequestId>,
        /// When.
        at: UnixMillis,
    },
    /// Stop monitoring a cluster and forget its checkpoints.
    DeleteCluster {
        /// Which.
        id: ClusterId,
        /// Refuse unless the cluster is still at this revision.
        expected: Option<Revision>,
        /// Takes effect once, however often it is sent.
        request_id: Option<RequestId>,
        /// When.
        at: UnixMillis,
    },
    /// Give shards to owners. A move whose shard has changed hands meanwhile is left out.
    Assign {
        /// The moves.
        moves: Vec<Move>,
        /// When.
        at: UnixMillis,
    },
    /// An owner lost continuity, or has reached the stream for the first time.
    BeginEra(BeginEra),
    /// Owners' progress. An entry of a stale epoch is left out.
    AdvanceCheckpoints {
        /// Per stream the owner's epoch and a closed position.
        entries: Vec<CheckpointEntry>,
    },
    /// How an owner fares with a cluster; reported only where it changes.
    ReportHealth {
        /// The shard it owns.
        shard: ShardId,
        /// Under which epoch.
        epoch: Epoch,
        /// The short answer.
        condition: Condition,
        /// One sentence for people. Never a credential.
        reason: String,
        /// When.
        at: UnixMillis,
    },
    /// No other replica can watch a cluster that its owner cannot reach.
    ConfirmOutage {
        /// The shard that the others have tried to watch.
        shard: ShardId,
        /// The owner's epoch.
        epoch: Epoch,
        /// The reason that the owner has reported.
        reason: String,
    },
}

impl Command {
    /// Whether it may change clusters, or which streams there are, or where an era begins.
    pub fn is_about_topology(&self) -> bool {
        matches!(
            self,
            Self::CreateCluster { .. }
                | Self::UpdateCluster { .. }
                | Self::DeleteCluster { .. }
                | Self::BeginEra(_)
        )
    }

    /// What a user named the command by.
    pub fn request_id(&self) -> Option<&RequestId> {
        match self {
            Self::CreateCluster { request_id, .. }
            | Self::UpdateCluster { request_id, .. }
            | Self::DeleteCluster { request_id, .. } => request_id.as_ref(),
            _ => None,
        }
    }
}

/// One shard given to a replica, or taken from all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The shard.
    pub shard: ShardId,
    /// The epoch that the planner saw; another one means that the plan is stale.
    pub epoch: Epoch,
    /// The new owner.
    pub to: Option<ReplicaId>,
    /// Why.
    pub reason: MoveReason,
}

/// See [`Command::BeginEra`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeginEra {
    /// The stream.
    pub stream: StreamId,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// The revision of the state that the owner's run began with. A later start of the owner and a
    /// later change of what is watched begin another run under the same epoch: what the run before
    /// has proposed must not end the era that the new one publishes in.
    pub run: Revision,
    /// The era that the run publishes in: in another one, nothing changes. So a proposal that is
    /// repeated because its outcome is unknown takes effect once.
    pub expected_era: Option<Era>,
    /// Up to where the run has published everything; a repair begins there. It becomes the
    /// checkpoint together with the era, so that who repeats the repair begins at the same place.
    pub from: Option<Position>,
    /// Why.
    pub reason: GapReason,
    /// The consistent list at which the era begins.
    pub to: ResourceVersion,
    /// Whether the owner publishes the net changes since the checkpoint.
    pub repaired: bool,
    /// The identity of the cluster that answered; empty where it may not be read.
    pub cluster_uid: String,
    /// When.
    pub at: UnixMillis,
}

/// One stream's progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointEntry {
    /// The stream.
    pub stream: StreamId,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// Up to where everything is published: closed.
    pub position: Position,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect (or there was nothing to do).
    Done,
    /// The cluster has this id.
    Cluster(ClusterId),
    /// The stream's era.
    Era(Era),
    /// Nothing changed.
    Rejected(Rejection),
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A cluster of that name exists.
    #[error("a cluster named {0:?} exists already")]
    NameTaken(String),
    /// No such cluster.
    #[error("the cluster does not exist")]
    NoSuchCluster,
    /// A cluster's name cannot change.
    #[error("a cluster cannot be renamed: delete it and create another")]
    Renamed,
    /// Somebody else changed it.
    #[error("the cluster was changed meanwhile: it is at revision {0}; read it again")]
    RevisionMismatch(Revision),
    /// The specification is not valid.
    #[error("{0}")]
    InvalidSpec(InvalidSpec),
    /// The sender no longer owns the shard.
    #[error("epoch is stale: the shard is at epoch {0}")]
    StaleEpoch(Epoch),
    /// No such stream.
    #[error("the stream does not exist")]
    NoSuchStream,
    /// Another replica of that name is registered.
    #[error(
        "the name {0:?} belongs to replica {1}: two replicas have the same name, or this one lost \
         its data. If that one runs, start this one with another --name. If it is gone for good, \
         `quorumwatch members remove {0}`, then start this one again"
    )]
    MemberNameTaken(String, ReplicaId),
    /// The text of a request was used for another write.
    #[error(
        "the request_id was used for another request before: use a new one for each request, and \
         the same one only to send the same request again"
    )]
    RequestIdReused,
    /// The cluster that answers is registered already, under another name.
    #[error(
        "the same Kubernetes cluster is registered as {of:?}: delete one of the two, or set \
         duplicate_of of this one to {of:?} if watching it twice is meant"
    )]
    DuplicateCluster {
        /// The other name.
        of: String,
    },
    /// The run of the sender has been replaced by another one.
    #[error("the run is stale: a newer one started at revision {0}")]
    StaleRun(Revision),
    /// The stream is in another era than the sender believes.
    #[error("the stream is in another era: {0:?}")]
    StaleEra(Option<Era>),
    /// The run of the sender has published less than an earlier owner had: what it repairs would
    /// begin too early.
    #[error("the run is behind the checkpoint")]
    StaleCheckpoint,
    /// The group is full.
    #[error("the limit of {0} is reached")]
    Full(&'static str),
}
