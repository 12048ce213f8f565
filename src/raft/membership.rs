//! The leader's side of membership: who votes, who only receives the log.

use openraft::{
    ChangeMembers,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
};
use tonic::{Status, metadata::MetadataValue};

use super::{
    Raft, Role, protocol,
    types::{Node, TypeConfig},
};
use crate::{
    domain::{command::Rejection, id::ReplicaId},
    proto::internal::v1::{JoinRequest, JoinResponse},
};

/// Most voters: a majority of five bears two failures, and each further voter slows every commit.
const VOTERS_MAX: usize = 5;

/// Where the leader is, told to a joiner that asked somebody else.
pub(super) const LEADER_ADDRESS: &str = "quorumwatch-leader-address";

/// Why a replica could not join or be removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// This replica does not lead.
    #[error("this replica does not lead the group")]
    NotLeader {
        /// Who leads, as far as is known.
        leader: Option<ReplicaId>,
    },
    /// The joiner cannot be taken.
    #[error("{0}")]
    Refused(String),
    /// Try again.
    #[error("the membership could not be changed now ({0}); try again")]
    Busy(String),
}

impl Raft {
    /// Takes a replica into the group, as the leader; may be asked again and again.
    pub async fn join(&self, request: JoinRequest) -> Result<JoinResponse, JoinError> {
        let id = ReplicaId(request.replica_id);
        let who = format!("replica {:?}", request.name);
        if let Err(error) = protocol::check(&who, request.protocol, &request.version) {
            tracing::warn!(%error, "a replica of another version may not join");
            return Err(JoinError::Refused(error.to_string()));
        }
        let state = self.state();
        let group = state
            .group
            .ok_or_else(|| JoinError::Busy("the group is being founded".into()))?;
        if let Some(member) = state.member_named(&request.name)
            && member.id != id
        {
            let taken = Rejection::MemberNameTaken(request.name, member.id);
            return Err(JoinError::Refused(taken.to_string()));
        }
        let node = Node {
            name: request.name,
            peer_address: request.peer_address,
            client_address: request.client_address,
        };
        self.remove_namesakes(id, &node.name).await?;
        if !self.status().roles.contains_key(&id) {
            tracing::info!(replica = %id, name = node.name, "a replica joins");
            let added = self.inner.raft.add_learner(id.0, node, true).await;
            added.map_err(membership_error)?;
        }
        self.promote(id).await?;
        Ok(JoinResponse {
            group_id: group.0.to_vec().into(),
        })
    }

    /// A replica that was named at the founding and lost its data before it registered.
    async fn remove_namesakes(&self, id: ReplicaId, name: &str) -> Result<(), JoinError> {
        let membership = self.membership();
        let namesakes = membership.membership().nodes();
        let namesakes: Vec<_> = namesakes
            .filter(|(other, node)| **other != id.0 && node.name == name)
            .map(|(other, _)| ReplicaId(*other))
            .collect();
        for namesake in namesakes {
            self.remove_replica(namesake).await?;
        }
        Ok(())
    }

    async fn promote(&self, id: ReplicaId) -> Result<(), JoinError> {
        let roles = self.status().roles;
        let voters = roles.values().filter(|role| **role == Role::Voter).count();
        if roles.get(&id) == Some(&Role::Voter) || voters >= VOTERS_MAX {
            return Ok(());
        }
        self.change(ChangeMembers::AddVoterIds([id.0].into())).await
    }

    /// Takes a replica out of the votes and the log's receivers, as the leader. Its registration
    /// is removed by `Command::RemoveMember`.
    pub async fn remove_replica(&self, id: ReplicaId) -> Result<(), JoinError> {
        match self.status().roles.get(&id) {
            None => return Ok(()),
            Some(Role::Voter) => {
                self.change(ChangeMembers::RemoveVoters([id.0].into()))
                    .await?;
            }
            Some(Role::Learner) => {}
        }
        self.change(ChangeMembers::RemoveNodes([id.0].into())).await
    }

    async fn change(&self, change: ChangeMembers<u64, Node>) -> Result<(), JoinError> {
        let changed = self.inner.raft.change_membership(change, true).await;
        changed.map(drop).map_err(membership_error)
    }

    /// Answers `PeerService.Join`, errors mapped as [`Self::form`] of another replica reads them.
    pub async fn serve_join(&self, request: JoinRequest) -> Result<JoinResponse, Status> {
        let error = match self.join(request).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let text = error.to_string();
        match error {
            JoinError::Refused(_) => Err(Status::permission_denied(text)),
            JoinError::Busy(_) => Err(Status::unavailable(text)),
            JoinError::NotLeader { leader } => {
                let mut status = Status::failed_precondition(text);
                let address = leader.and_then(|leader| self.peer_address_of(leader));
                let address = address.and_then(|address| MetadataValue::try_from(address).ok());
                if let Some(address) = address {
                    status.metadata_mut().insert(LEADER_ADDRESS, address);
                }
                Err(status)
            }
        }
    }
}

fn membership_error(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> JoinError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => JoinError::NotLeader {
            leader: forward.leader_id.map(ReplicaId),
        },
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            error @ ChangeMembershipError::EmptyMembership(_),
        )) => JoinError::Refused(error.to_string()),
        error => JoinError::Busy(error.to_string()),
    }
}
