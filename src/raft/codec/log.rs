//! The log: entries, votes, memberships, snapshots' meta-data.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{EntryPayload, vote::RaftLeaderId};
use prost::Message as _;

use super::{Corrupt, required};
use crate::{
    proto::store::v1::{self as store, log_entry},
    raft::types::{
        Entry, LeaderId, LogId, Membership, Node, Request, SnapshotMeta, StoredMembership, Vote,
    },
};

/// The bytes of a log entry.
pub(in crate::raft) fn encode_entry(entry: &Entry) -> Vec<u8> {
    store::LogEntry::from(entry).encode_to_vec()
}

/// Reads what [`encode_entry`] wrote.
pub(in crate::raft) fn decode_entry(bytes: &[u8]) -> Result<Entry, Corrupt> {
    entry_from_record(store::LogEntry::decode(bytes)?)
}

impl From<LeaderId> for store::LeaderId {
    fn from(leader: LeaderId) -> Self {
        Self {
            term: leader.term,
            replica_id: leader.node_id,
        }
    }
}

impl From<store::LeaderId> for LeaderId {
    fn from(record: store::LeaderId) -> Self {
        Self::new(record.term, record.replica_id)
    }
}

impl From<LogId> for store::LogId {
    fn from(id: LogId) -> Self {
        Self {
            leader: Some(id.leader_id.into()),
            index: id.index,
        }
    }
}

impl TryFrom<store::LogId> for LogId {
    type Error = Corrupt;

    fn try_from(record: store::LogId) -> Result<Self, Corrupt> {
        let leader = required(record.leader, "a log id's leader")?;
        Ok(Self::new(leader.into(), record.index))
    }
}

impl From<Vote> for store::Vote {
    fn from(vote: Vote) -> Self {
        Self {
            leader: Some(vote.leader_id.into()),
            committed: vote.committed,
        }
    }
}

impl TryFrom<store::Vote> for Vote {
    type Error = Corrupt;

    fn try_from(record: store::Vote) -> Result<Self, Corrupt> {
        Ok(Self {
            leader_id: required(record.leader, "a vote's leader")?.into(),
            committed: record.committed,
        })
    }
}

impl From<&Entry> for store::LogEntry {
    fn from(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            EntryPayload::Blank => log_entry::Payload::Blank(store::Done {}),
            EntryPayload::Normal(Request(command)) => log_entry::Payload::Command(command.into()),
            EntryPayload::Membership(membership) => {
                log_entry::Payload::Membership(membership.into())
            }
        };
        Self {
            log_id: Some(entry.log_id.into()),
            payload: Some(payload),
        }
    }
}

/// An entry from its record. (The compiler refuses a `TryFrom` on openraft's generic type.)
pub(in crate::raft) fn entry_from_record(record: store::LogEntry) -> Result<Entry, Corrupt> {
    let payload = match required(record.payload, "an entry's payload")? {
        log_entry::Payload::Blank(store::Done {}) => EntryPayload::Blank,
        log_entry::Payload::Command(command) => EntryPayload::Normal(Request(command.try_into()?)),
        log_entry::Payload::Membership(membership) => {
            EntryPayload::Membership(membership.try_into()?)
        }
    };
    Ok(Entry {
        log_id: required(record.log_id, "an entry's log id")?.try_into()?,
        payload,
    })
}

impl From<&Membership> for store::Membership {
    fn from(membership: &Membership) -> Self {
        let voters = |set: &BTreeSet<u64>| store::VoterSet {
            replica_ids: set.iter().copied().collect(),
        };
        let node = |(id, node): (&u64, &Node)| store::ReplicaNode {
            replica_id: *id,
            name: node.name.clone(),
            peer_address: node.peer_address.clone(),
            client_address: node.client_address.clone(),
        };
        Self {
            voter_sets: membership.get_joint_config().iter().map(voters).collect(),
            nodes: membership.nodes().map(node).collect(),
        }
    }
}

impl TryFrom<store::Membership> for Membership {
    type Error = Corrupt;

    fn try_from(record: store::Membership) -> Result<Self, Corrupt> {
        let voter_sets: Vec<BTreeSet<u64>> = record
            .voter_sets
            .into_iter()
            .map(|set| set.replica_ids.into_iter().collect())
            .collect();
        let nodes: BTreeMap<u64, Node> = record
            .nodes
            .into_iter()
            .map(|node| {
                let known = Node {
                    name: node.name,
                    peer_address: node.peer_address,
                    client_address: node.client_address,
                };
                (node.replica_id, known)
            })
            .collect();
        Self::new(voter_sets, nodes).map_err(|error| Corrupt(error.to_string()))
    }
}

impl From<&StoredMembership> for store::StoredMembership {
    fn from(stored: &StoredMembership) -> Self {
        Self {
            log_id: stored.log_id().map(Into::into),
            membership: Some(stored.membership().into()),
        }
    }
}

impl TryFrom<store::StoredMembership> for StoredMembership {
    type Error = Corrupt;

    fn try_from(record: store::StoredMembership) -> Result<Self, Corrupt> {
        let log_id = record.log_id.map(LogId::try_from).transpose()?;
        let membership = required(record.membership, "the stored membership")?;
        Ok(Self::new(log_id, membership.try_into()?))
    }
}

impl From<&SnapshotMeta> for store::SnapshotMeta {
    fn from(meta: &SnapshotMeta) -> Self {
        Self {
            last_log_id: meta.last_log_id.map(Into::into),
            membership: Some((&meta.last_membership).into()),
        }
    }
}

impl TryFrom<store::SnapshotMeta> for SnapshotMeta {
    type Error = Corrupt;

    fn try_from(record: store::SnapshotMeta) -> Result<Self, Corrupt> {
        Ok(Self {
            last_log_id: record.last_log_id.map(LogId::try_from).transpose()?,
            last_membership: required(record.membership, "a snapshot's membership")?.try_into()?,
        })
    }
}
