//! The leader's side of membership: who may join, who votes, who may be removed.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use tonic::{Status, metadata::MetadataValue};

use super::Group;
use crate::{
    controller::Controller,
    domain::{
        command::{Command, Rejection},
        id::{ReplicaId, Revision},
        leader::Observation,
        member::Availability,
    },
    proto::internal::v1::{JoinRequest, JoinResponse},
    raft::{Listing, MembershipError, ProposeError, Role, protocol},
};

/// Most voters: a majority of five tolerates two failures, and each further voter slows every
/// commit.
pub(super) const VOTERS_MAX: usize = 5;

/// A voter that has been unavailable for so long is replaced by a learner: longer than a machine
/// takes to start again.
const VOTER_GONE_AFTER: Duration = Duration::from_secs(300);

/// How often the leader checks the set of voters.
const VOTERS_PAUSE: Duration = Duration::from_secs(2);

/// The leader's address, sent to a joiner that asked another replica.
pub(super) const LEADER_ADDRESS: &str = "quorumwatch-leader-address";

/// Why a replica could not be removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// It may not be removed.
    #[error("{0}")]
    InUse(String),
    /// Nothing was removed; try again.
    #[error("{0}")]
    NotNow(String),
    /// It may have been removed, or may still be.
    #[error("{0}")]
    Unknown(String),
}

/// A learner that should vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct VoterChange {
    learner: ReplicaId,
    /// The voter that becomes a learner in exchange.
    instead_of: Option<ReplicaId>,
}

impl Group {
    /// Takes a replica into the group, as the leader; may be asked again and again.
    async fn join(&self, request: JoinRequest) -> Result<JoinResponse, MembershipError> {
        let id = ReplicaId(request.replica_id);
        let who = format!("replica {:?}", request.name);
        if let Err(error) = protocol::check(&who, request.protocol, &request.version) {
            tracing::warn!(%error, "join rejected: incompatible version");
            return Err(MembershipError::Refused(error.to_string()));
        }
        let state = self.raft().state();
        let group = state
            .group
            .ok_or_else(|| MembershipError::Busy("the group is being bootstrapped".into()))?;
        if let Some(member) = state.member_named(&request.name)
            && member.id != id
        {
            let taken = Rejection::MemberNameTaken(request.name, member.id);
            return Err(MembershipError::Refused(taken.to_string()));
        }
        let listing = Listing {
            name: request.name,
            peer_address: request.peer_address,
            client_address: request.client_address,
        };
        self.remove_namesakes(id, &listing.name).await?;
        if self.raft().listed(id).is_none() {
            tracing::info!(replica = %id, name = listing.name, "a replica joins");
            self.raft().add_learner(id, listing).await?;
        }
        self.promote(id).await?;
        Ok(JoinResponse {
            group_id: group.0.to_vec().into(),
        })
    }

    /// A replica that was in the bootstrap list and lost its data before it registered.
    async fn remove_namesakes(&self, id: ReplicaId, name: &str) -> Result<(), MembershipError> {
        let listed = self.raft().all_listed().into_iter();
        let namesakes =
            listed.filter(|(other, listed)| *other != id && listed.listing.name == name);
        for (namesake, _) in namesakes {
            self.raft().remove_listed(namesake).await?;
        }
        Ok(())
    }

    /// As the leader: lets learners vote where there are fewer voters than there may be, because one
    /// was removed, and in place of voters that are gone. Never returns.
    pub async fn keep_voters(&self, controller: &Controller) {
        let mut leadership = self.raft().leadership();
        let mut unavailable = BTreeMap::new();
        loop {
            let is_leader = leadership.borrow_and_update().is_self;
            let observed = controller.observed().await.filter(|_| is_leader);
            note_unavailable(&mut unavailable, observed.as_ref(), Instant::now());
            if let Some(observed) = observed {
                let availability = |id| observed.replicas.get(&id).map(|seen| seen.availability);
                let is_active = |id| availability(id) == Some(Availability::Active);
                let is_gone = |id| {
                    let since = unavailable.get(&id);
                    since.is_some_and(|since: &Instant| since.elapsed() >= VOTER_GONE_AFTER)
                };
                let roles = self.raft().status().roles;
                if let Some(change) = voter_change(&roles, is_active, is_gone) {
                    self.change_voters(change).await;
                }
            }
            let changed = tokio::select! {
                changed = leadership.changed() => changed,
                () = tokio::time::sleep(VOTERS_PAUSE) => Ok(()),
            };
            if changed.is_err() {
                // Consensus has stopped, which ends the replica by itself.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn change_voters(&self, change: VoterChange) {
        let changed = match change.instead_of {
            None => self.raft().add_voter(change.learner).await,
            Some(gone) => self.raft().replace_voter(gone, change.learner).await,
        };
        let learner = change.learner;
        match (changed, change.instead_of) {
            (Ok(()), None) => tracing::info!(%learner, "learner became voter"),
            (Ok(()), Some(gone)) => {
                tracing::warn!(%learner, %gone, "learner became voter, replacing one that is gone");
            }
            (Err(error), _) => tracing::debug!(%learner, %error, "voter change failed"),
        }
    }

    async fn promote(&self, id: ReplicaId) -> Result<(), MembershipError> {
        let roles = self.raft().status().roles;
        let voters = roles.values().filter(|role| **role == Role::Voter).count();
        if roles.get(&id) == Some(&Role::Voter) || voters >= VOTERS_MAX {
            return Ok(());
        }
        self.raft().add_voter(id).await
    }

    /// Removes a member, as the leader, which last saw it as `seen`: from the voters and the log's
    /// receivers first, then from the members.
    pub async fn remove(
        &self,
        replica: ReplicaId,
        seen: Option<Availability>,
    ) -> Result<Revision, RemoveError> {
        if seen.is_some_and(|seen| seen != Availability::Unavailable) {
            return Err(RemoveError::InUse(
                "the replica is alive: stop it first, and wait until its health is unavailable \
                 (`quorumwatch members` shows it)"
                    .into(),
            ));
        }
        let removed = self.raft().remove_listed(replica).await;
        removed.map_err(|error| match error {
            MembershipError::Refused(_) => RemoveError::InUse(error.to_string()),
            _ => RemoveError::NotNow(error.to_string()),
        })?;
        let command = Command::RemoveMember { replica };
        match self.raft().propose(command).await {
            Ok(proposed) => Ok(proposed.revision),
            Err(error @ ProposeError::Unknown(_)) => Err(RemoveError::Unknown(error.to_string())),
            Err(error) => Err(RemoveError::NotNow(error.to_string())),
        }
    }

    /// Answers `MembershipService.Join`, errors mapped as [`Self::form`] of another replica reads
    /// them.
    pub(super) async fn serve_join(&self, request: JoinRequest) -> Result<JoinResponse, Status> {
        let error = match self.join(request).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let text = error.to_string();
        match error {
            MembershipError::Refused(_) => Err(Status::permission_denied(text)),
            MembershipError::Busy(_) => Err(Status::unavailable(text)),
            MembershipError::NotLeader { leader } => {
                let mut status = Status::failed_precondition(text);
                let address = leader.and_then(|leader| self.raft().peer_address_of(leader));
                let address = address.and_then(|address| MetadataValue::try_from(address).ok());
                if let Some(address) = address {
                    status.metadata_mut().insert(LEADER_ADDRESS, address);
                }
                Err(status)
            }
        }
    }
}

/// Keeps since when replicas have been unavailable, as seen by this leader without interruption.
fn note_unavailable(
    since: &mut BTreeMap<ReplicaId, Instant>,
    observed: Option<&Observation>,
    now: Instant,
) {
    let is_unavailable = |id: &ReplicaId| {
        let seen = observed.and_then(|observed| observed.replicas.get(id));
        seen.is_some_and(|seen| seen.availability == Availability::Unavailable)
    };
    since.retain(|id, _| is_unavailable(id));
    for id in observed
        .iter()
        .flat_map(|observed| observed.replicas.keys())
    {
        if is_unavailable(id) {
            since.entry(*id).or_insert(now);
        }
    }
}

/// The next change of the voters, if one is due.
fn voter_change(
    roles: &BTreeMap<ReplicaId, Role>,
    is_active: impl Fn(ReplicaId) -> bool,
    is_gone: impl Fn(ReplicaId) -> bool,
) -> Option<VoterChange> {
    let of = |wanted| {
        let replicas = roles.iter().filter(move |(_, role)| **role == wanted);
        replicas.map(|(id, _)| *id)
    };
    let learner = of(Role::Learner).find(|id| is_active(*id))?;
    if of(Role::Voter).count() < VOTERS_MAX {
        let instead_of = None;
        return Some(VoterChange {
            learner,
            instead_of,
        });
    }
    let gone = of(Role::Voter).find(|id| is_gone(*id))?;
    Some(VoterChange {
        learner,
        instead_of: Some(gone),
    })
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, ReplicaId, Role, VOTERS_MAX, VoterChange, voter_change};

    const LEARNER: ReplicaId = ReplicaId(100);

    fn roles(voters: usize) -> BTreeMap<ReplicaId, Role> {
        let voters = (1..).take(voters).map(|id| (ReplicaId(id), Role::Voter));
        voters.chain([(LEARNER, Role::Learner)]).collect()
    }

    #[test]
    fn an_active_learner_votes_where_a_voter_is_missing() {
        let nobody = |_| false;
        let promoted = VoterChange {
            learner: LEARNER,
            instead_of: None,
        };
        let few = roles(VOTERS_MAX - 1);
        assert_eq!(voter_change(&few, |_| true, nobody), Some(promoted));
        assert_eq!(voter_change(&few, nobody, nobody), None);
        assert_eq!(voter_change(&roles(VOTERS_MAX), |_| true, nobody), None);
    }

    #[test]
    fn an_active_learner_votes_in_place_of_a_voter_that_is_gone() {
        let gone = ReplicaId(3);
        let replaced = VoterChange {
            learner: LEARNER,
            instead_of: Some(gone),
        };
        let full = roles(VOTERS_MAX);
        assert_eq!(
            voter_change(&full, |_| true, |id| id == gone),
            Some(replaced)
        );
        assert_eq!(voter_change(&full, |_| true, |id| id == LEARNER), None);
        assert_eq!(voter_change(&full, |_| false, |id| id == gone), None);
    }
}
