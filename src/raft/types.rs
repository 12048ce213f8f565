//! The types with which openraft is parameterised.

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
            Command::DrainMember { .. } => "drain-member",
            Command::ResumeMember { .. } => "resume-member",
            Command::CreateCluster { .. } => "create-cluster",
            Command::UpdateCluster { .. } => "update-cluster",
            Command::DeleteCluster { .. } => "delete-cluster",
            Command::Assign { .. } => "assign",
            Command::BeginEra(_) => "begin-era",
            Command::AdvanceCheckpoints { .. } => "advance-checkpoints",
            Command::ReportHealth { .. } => "report-health",
            Command::ConfirmOutage { .. } => "confirm-outage",
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

/// A place in the log.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// For whom a replica has voted.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// One entry of the log.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// One replica in one term.
pub type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
/// Who belongs to the group.
pub type Membership = openraft::Membership<u64, Node>;
/// The membership with the entry that made it.
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot stands for.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
/// What an entry carries.
pub type Payload = openraft::alias::PayloadOf<TypeConfig>;
