//! `GroupService`.

use tonic::{Request, Response, Status};

use super::{
    convert::{replica_name, timestamp},
    observed::{LeaderView, View},
};
use crate::{
    domain::{
        member::{Availability, Member},
        state::State,
    },
    proto::v1::{
        self, GetGroupRequest, GetGroupResponse, MemberHealth, MemberRole, RemoveMemberRequest,
        RemoveMemberResponse, group_service_server::GroupService,
    },
    raft::{self, Raft, Role},
};

/// `GroupService`.
#[derive(Clone)]
pub struct Group {
    raft: Raft,
    leader: LeaderView,
}

impl Group {
    /// Answers from what this replica has applied, and what the leader observes.
    pub fn new(raft: Raft, leader: LeaderView) -> Self {
        Self { raft, leader }
    }
}

fn member(state: &State, status: &raft::Status, view: &View, member: &Member) -> v1::Member {
    let role = match status.roles.get(&member.id) {
        _ if status.leader == Some(member.id) => MemberRole::Leader,
        Some(Role::Voter) => MemberRole::Voter,
        Some(Role::Learner) => MemberRole::Learner,
        None => MemberRole::Unspecified,
    };
    let observed = view.replicas.get(&member.id);
    let health = match observed.map(|observed| observed.availability) {
        Some(Availability::Active) => MemberHealth::Active,
        Some(Availability::Suspect) => MemberHealth::Suspect,
        Some(Availability::Unavailable) => MemberHealth::Unavailable,
        None => MemberHealth::Unspecified,
    };
    let owned = state
        .assignments
        .values()
        .filter(|shard| shard.owner() == Some(member.id));
    v1::Member {
        name: member.name.clone(),
        id: member.id.to_string(),
        role: role.into(),
        peer_address: member.peer_address.clone(),
        client_address: member.client_address.clone(),
        health: health.into(),
        start_time: Some(timestamp(member.started)),
        shards: u32::try_from(owned.count()).unwrap_or(u32::MAX),
        silent_ms: observed.and_then(|observed| observed.silent_ms),
        version: observed.map_or_else(String::new, |observed| observed.version.clone()),
        clock_offset_ms: observed.and_then(|observed| observed.clock_offset_ms),
    }
}

#[tonic::async_trait]
impl GroupService for Group {
    async fn get_group(
        &self,
        _request: Request<GetGroupRequest>,
    ) -> Result<Response<GetGroupResponse>, Status> {
        let view = self.leader.ask().await;
        let state = self.raft.state();
        let status = self.raft.status();
        let mut members: Vec<_> = state
            .members
            .values()
            .map(|registered| member(&state, &status, &view, registered))
            .collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let has_quorum = view.has_quorum;
        let problem = match (has_quorum, status.roles.is_empty()) {
            (true, _) => String::new(),
            (false, true) => "the group is not founded yet: the log says whom this replica waits \
                              for"
            .to_owned(),
            (false, false) => self.leader.problem().await,
        };
        Ok(Response::new(GetGroupResponse {
            group_id: state
                .group
                .map(|group| group.to_string())
                .unwrap_or_default(),
            leader: replica_name(&state, status.leader),
            term: status.term,
            applied_index: status.applied.0,
            answered_by: self.raft.name().to_owned(),
            members,
            has_quorum,
            problem,
        }))
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        let name = request.into_inner().name;
        let id = self
            .raft
            .state()
            .member_named(&name)
            .map(|member| member.id);
        let id = id.ok_or_else(|| {
            Status::not_found(format!("no member {name:?}; GetGroup names them all"))
        })?;
        self.leader.remove(id).await?;
        Ok(Response::new(RemoveMemberResponse {}))
    }
}
