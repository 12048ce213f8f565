//! What openraft is told about our types.

use std::fmt;

use crate::domain::command::{Command, Outcome};

openraft::declare_raft_types!(
    /// Our choice of openraft's types. Ids are plain numbers inside `raft`, [`ReplicaId`] outside.
    ///
    /// [`ReplicaId`]: crate::domain::id::ReplicaId
    pub TypeConfig:
        D = Request,
        R = Reply,
        NodeId = u64,
        Node = Node,
);

/// What an entry of the log asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request(pub Command);

impl fmt::Display for Request {
    /// Its kind only: openraft prints requests in its logs, and those are no place for
    /// specifications.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Command::FoundGroup { .. } => "found-group",
            Command::RegisterMember { .. } => "register-member",
            Command::RemoveMember { .. } => "remove-member",
            Command::CreateCluster { .. } => "create-cluster",
            Command::UpdateCluster { .. } => "update-cluster",
            Command::DeleteCluster { .. } => "delete-cluster",
            Command::Assign { .. } => "assign",
            Command::BeginEra(_) => "begin-era",
            Command::AdvanceCheckpoints { .. } => "advance-checkpoints",
            Command::ReportHealth { .. } => "report-health",
        })
    }
}

/// What came of an entry; `None` for entries that carry no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply(pub Option<Outcome>);

/// What the membership keeps of a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its stable name.
    pub name: String,
    /// `host:port` of its peer listener.
    pub peer_address: String,
    /// `host:port` of its client listener.
    pub client_address: String,
}

pub(super) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(super) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(super) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(super) type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
pub(super) type Membership = openraft::Membership<u64, Node>;
pub(super) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(super) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
