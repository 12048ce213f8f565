//! `GroupService`.

mod shown;

use std::{pin::Pin, time::Duration};

use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{
    convert::timestamp,
    observed::LeaderView,
    reads::{APPLY_TIMEOUT, Read, Reads, timeout},
    status::{Kind, no_leader, not_found, outcome_unknown, propose_error, rejected, stopping},
    watch::{Ended, Outlet, Watches},
};
use crate::{
    clock::unix_now,
    domain::{
        command::{Command, Outcome},
        id::ReplicaId,
    },
    proto::v1::{
        self, DrainMemberRequest, DrainMemberResponse, GetGroupRequest, GetGroupResponse,
        RemoveMemberRequest, RemoveMemberResponse, ResumeMemberRequest, ResumeMemberResponse,
        WatchGroupRequest, WatchGroupResponse, group_service_server::GroupService,
        watch_group_response::Update,
    },
    raft::{ProposeError, Raft},
};

/// How often a watch polls the leader for what it observes, which is not in the log.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// The shortest time between two looks: checkpoints change the state all the time, and none of them
/// is shown here.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// How long a change of a member may take where its caller sets no deadline.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// `GroupService`.
#[derive(Clone)]
pub struct Group {
    raft: Raft,
    reads: Reads,
    leader: LeaderView,
    watches: Watches,
}

impl Group {
    /// Answers from what this replica has applied, and what the leader observes.
    pub fn new(raft: Raft, leader: LeaderView, watches: Watches) -> Self {
        let reads = Reads::new(&raft);
        Self {
            raft,
            reads,
            leader,
            watches,
        }
    }

    /// The group as it is now.
    async fn group(&self, read: &Read) -> v1::Group {
        let observation = self.leader.brief().await;
        let status = self.raft.status();
        let problem = match (observation.has_quorum, status.roles.is_empty()) {
            (true, _) => String::new(),
            (false, true) => {
                let text = "the group is not formed yet: the log names the missing replicas";
                text.to_owned()
            }
            (false, false) => self.leader.problem().await,
        };
        shown::group(&read.state, &status, &observation, problem)
    }

    /// The id of the member of this name.
    async fn member_id(&self, name: &str, timeout: Duration) -> Result<ReplicaId, Status> {
        let id_in = |read: &Read| read.state.member_named(name).map(|member| member.id);
        if let Some(id) = id_in(&self.reads.now()) {
            return Ok(id);
        }
        let read = self.leader.catch_up(&self.reads, timeout).await?;
        id_in(&read).ok_or_else(|| not_found(Kind::Member, name))
    }

    /// Has the group agree on a change of a member, and shows the member then.
    async fn change_member(
        &self,
        name: &str,
        command: impl FnOnce(ReplicaId) -> Command,
        timeout: Duration,
    ) -> Result<(v1::Member, u64), Status> {
        let deadline = Instant::now() + timeout;
        let left = || deadline.duration_since(Instant::now());
        let id = self.member_id(name, left()).await?;
        let proposed = self.raft.submit_within(command(id), left()).await;
        let proposed = match proposed {
            Err(ProposeError::NoLeader) => return Err(no_leader(&self.leader.problem().await)),
            proposed => proposed.map_err(|error| propose_error(&error))?,
        };
        if let Outcome::Rejected(rejection) = &proposed.outcome {
            return Err(rejected(rejection));
        }
        let read = self
            .reads
            .at_least(proposed.revision.0, left().max(APPLY_TIMEOUT))
            .await;
        // It took effect, and repeated it does nothing.
        let read =
            read.map_err(|_| outcome_unknown("this replica has not applied the change yet"))?;
        let members = self.group(&read).await.members;
        let member = members.into_iter().find(|member| member.name == name);
        let member = member.ok_or_else(|| not_found(Kind::Member, name))?;
        Ok((member, read.revision.0))
    }

    /// Sends the group, then again whenever anything but the passing of time has changed it.
    ///
    /// Unlike the watches of shards and clusters it continues without a majority: what it sends
    /// shows so, and why.
    async fn watch(self, mut outlet: Outlet<WatchGroupResponse>) -> Ended {
        let mut states = self.reads.state.clone();
        let mut leadership = self.raft.leadership();
        let mut sent: Option<v1::Group> = None;
        loop {
            states.mark_unchanged();
            leadership.mark_unchanged();
            let looked = Instant::now();
            let read = self.reads.now();
            let group = self.group(&read).await;
            let is_new = !sent
                .as_ref()
                .is_some_and(|sent| shown::is_same(sent, &group));
            if is_new || Instant::now() >= outlet.heartbeat_at() {
                let update = if is_new {
                    sent = Some(group.clone());
                    Update::Group(group)
                } else {
                    let time = Some(timestamp(unix_now()));
                    Update::Heartbeat(v1::Heartbeat { time })
                };
                let message = WatchGroupResponse {
                    revision: read.revision.0,
                    answered_by: self.raft.name().to_owned(),
                    update: Some(update),
                };
                if let Err(ended) = outlet.send(message).await {
                    return ended;
                }
            }
            let next = outlet.heartbeat_at().min(looked + ASK_EVERY);
            let changed = tokio::select! {
                changed = states.changed() => changed,
                changed = leadership.changed() => changed,
                () = tokio::time::sleep_until(next) => Ok(()),
            };
            if changed.is_err() {
                return Ended::Status(stopping());
            }
            tokio::time::sleep_until(looked + LOOK_PAUSE).await;
        }
    }
}

#[tonic::async_trait]
impl GroupService for Group {
    type WatchGroupStream = Pin<Box<dyn Stream<Item = Result<WatchGroupResponse, Status>> + Send>>;

    async fn get_group(
        &self,
        request: Request<GetGroupRequest>,
    ) -> Result<Response<GetGroupResponse>, Status> {
        let timeout = timeout(request.metadata(), APPLY_TIMEOUT);
        let min_revision = request.into_inner().min_revision;
        let read = self.reads.at_least(min_revision, timeout).await?;
        Ok(Response::new(GetGroupResponse {
            group: Some(self.group(&read).await),
            revision: read.revision.0,
            answered_by: self.raft.name().to_owned(),
        }))
    }

    async fn watch_group(
        &self,
        request: Request<WatchGroupRequest>,
    ) -> Result<Response<Self::WatchGroupStream>, Status> {
        let timeout = timeout(request.metadata(), APPLY_TIMEOUT);
        let min_revision = request.into_inner().min_revision;
        self.reads.at_least(min_revision, timeout).await?;
        let this = self.clone();
        let ends = self.watches.stopped();
        let messages = self.watches.serve_until(ends, |outlet| this.watch(outlet));
        Ok(Response::new(Box::pin(messages)))
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        let timeout = timeout(request.metadata(), WRITE_TIMEOUT);
        let name = request.into_inner().name;
        let id = self.member_id(&name, timeout).await?;
        let revision = self.leader.remove(id, timeout).await?.0;
        // Who reads here next should see it; that it is so is known in any case.
        drop(self.reads.at_least(revision, timeout).await);
        Ok(Response::new(RemoveMemberResponse { revision }))
    }

    async fn drain_member(
        &self,
        request: Request<DrainMemberRequest>,
    ) -> Result<Response<DrainMemberResponse>, Status> {
        let timeout = timeout(request.metadata(), WRITE_TIMEOUT);
        let name = request.into_inner().name;
        let drain = |replica| Command::DrainMember { replica };
        let (member, revision) = self.change_member(&name, drain, timeout).await?;
        let member = Some(member);
        Ok(Response::new(DrainMemberResponse { member, revision }))
    }

    async fn resume_member(
        &self,
        request: Request<ResumeMemberRequest>,
    ) -> Result<Response<ResumeMemberResponse>, Status> {
        let timeout = timeout(request.metadata(), WRITE_TIMEOUT);
        let name = request.into_inner().name;
        let resume = |replica| Command::ResumeMember { replica };
        let (member, revision) = self.change_member(&name, resume, timeout).await?;
        let member = Some(member);
        Ok(Response::new(ResumeMemberResponse { member, revision }))
    }
}
