//! Who votes, and who only receives the log: what Raft knows of it, and changes of it by the leader.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use openraft::{
    ChangeMembers,
    errors::{ChangeMembershipError, ClientWriteError, InitializeError, RaftError},
};

use super::{
    Raft,
    types::{Node, StoredMembership, TypeConfig},
};
use crate::domain::id::ReplicaId;

/// A replica's part in decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Counts for majorities.
    Voter,
    /// Receives the log.
    Learner,
}

/// A replica in Raft's membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name and addresses.
    pub listing: Node,
    /// Its Raft role.
    pub role: Role,
}

/// Why the membership could not be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// This replica does not lead.
    #[error("this replica is not the leader")]
    NotLeader {
        /// Who leads, as far as is known.
        leader: Option<ReplicaId>,
    },
    /// The change is not possible.
    #[error("{0}")]
    Refused(String),
    /// The membership cannot change now; retry.
    #[error("the membership could not be changed now ({0}); try again")]
    Busy(String),
}

impl Raft {
    /// Whether this replica's log has a membership.
    pub fn has_membership(&self) -> bool {
        !self.membership().membership().get_joint_config().is_empty()
    }

    /// Whether anything was ever voted for or logged here.
    pub fn is_initialised(&self) -> bool {
        self.has_membership() || self.inner.store.is_initialised()
    }

    /// Everybody in the membership.
    pub fn all_listed(&self) -> BTreeMap<ReplicaId, Listed> {
        let membership = self.membership();
        let membership = membership.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let listed = membership.nodes().map(|(id, node)| {
            let role = match voters.contains(id) {
                true => Role::Voter,
                false => Role::Learner,
            };
            let listing = node.clone();
            (ReplicaId(*id), Listed { listing, role })
        });
        listed.collect()
    }

    /// A replica in the membership.
    pub fn listed(&self, replica: ReplicaId) -> Option<Listed> {
        self.all_listed().remove(&replica)
    }

    /// Makes these replicas, which are all empty, the voters of a new group.
    pub async fn found(&self, voters: BTreeMap<u64, Node>) -> Result<(), String> {
        match self.inner.raft.initialize(voters).await {
            // "Not allowed" means that it has been done meanwhile.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Sends a replica the log, as the leader, until it has caught up.
    pub async fn add_learner(&self, id: ReplicaId, node: Node) -> Result<(), MembershipError> {
        let added = self.inner.raft.add_learner(id.0, node, true).await;
        added.map(drop).map_err(membership_error)
    }

    /// Lets a learner vote, as the leader.
    pub async fn add_voter(&self, id: ReplicaId) -> Result<(), MembershipError> {
        self.change(ChangeMembers::AddVoterIds([id.0].into())).await
    }

    /// Lets a learner vote in place of a voter, which becomes a learner, as the leader.
    pub async fn replace_voter(
        &self,
        gone: ReplicaId,
        learner: ReplicaId,
    ) -> Result<(), MembershipError> {
        let listed = self.all_listed().into_iter();
        let voters = listed.filter(|(id, listed)| listed.role == Role::Voter && *id != gone);
        let voters = voters.map(|(id, _)| id.0).chain([learner.0]).collect();
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await
    }

    /// Takes a replica out of the voters and of those who receive the log, as the leader.
    pub async fn remove_listed(&self, id: ReplicaId) -> Result<(), MembershipError> {
        match self.listed(id).map(|listed| listed.role) {
            None => return Ok(()),
            Some(Role::Voter) => {
                let voter = [id.0].into();
                self.change(ChangeMembers::RemoveVoters(voter)).await?;
            }
            Some(Role::Learner) => {}
        }
        self.change(ChangeMembers::RemoveNodes([id.0].into())).await
    }

    async fn change(&self, change: ChangeMembers<u64, Node>) -> Result<(), MembershipError> {
        let changed = self.inner.raft.change_membership(change, true).await;
        changed.map(drop).map_err(membership_error)
    }

    fn membership(&self) -> Arc<StoredMembership> {
        self.metrics().membership_config
    }
}

fn membership_error(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> MembershipError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            MembershipError::NotLeader {
                leader: forward.leader_id.map(ReplicaId),
            }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            error @ ChangeMembershipError::EmptyMembership(_),
        )) => MembershipError::Refused(error.to_string()),
        error => MembershipError::Busy(error.to_string()),
    }
}
