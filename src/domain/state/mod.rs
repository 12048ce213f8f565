//! The replicated state: [`State::apply`] is the only way in which it changes.

mod clusters;
mod invariants;
mod streams;

use std::collections::BTreeMap;

use super::{
    answered::{Answered, Requests},
    assignment::{Assignment, MoveReason},
    change::{Changes, ShardChange, ShardChangeKind},
    cluster::{Cluster, Health},
    command::{Command, Move, Outcome, Rejection},
    id::{
        ClusterId, Epoch, GroupId, Incarnation, ReplicaId, Revision, ShardId, StreamId, UnixMillis,
    },
    member::Member,
    shared_map::SharedMap,
    stream::Stream,
};

/// Most clusters of a group: the state is kept in memory by everyone.
pub const CLUSTERS_MAX: usize = 10_000;

/// What the group has agreed on. Same log in, same state out.
///
/// It is copied for each batch of the log that is published, so what may be large is shared between
/// the copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The log index that produced it.
    pub revision: Revision,
    /// The group's identity.
    pub group: Option<GroupId>,
    /// The last id minted for a cluster, stream or era; they share one sequence.
    pub last_id: u64,
    /// Monitored clusters.
    pub clusters: SharedMap<ClusterId, Cluster>,
    /// Registered replicas.
    pub members: BTreeMap<ReplicaId, Member>,
    /// Who owns what; one for each shard, no more.
    pub assignments: SharedMap<ShardId, Assignment>,
    /// Streams with their eras and checkpoints.
    pub streams: SharedMap<StreamId, Stream>,
    /// Users' writes that took effect lately.
    pub requests: Requests,
    /// The last revision that changed clusters, or which streams there are, or where an era began.
    /// Owners and checkpoints come and go without it: subscriptions look again only when it grows.
    pub topology: Revision,
}

/// What applying one command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What the proposer gets.
    pub outcome: Outcome,
    /// What those get who watch shards and clusters.
    pub changes: Changes,
    /// Whether more than checkpoints and health changed: clusters, streams, eras, members or owners.
    /// Tasks that wait for owners need not check the state again if it did not.
    pub changes_topology: bool,
}

impl State {
    /// Executes one command of the log.
    pub fn apply(&mut self, revision: Revision, command: &Command) -> Applied {
        self.revision = revision;
        let mut changes = Changes::default();
        let request_id = command.request_id();
        if let Some(outcome) = request_id.and_then(|id| self.requests.answer(id)) {
            return Applied {
                outcome,
                changes,
                changes_topology: false,
            };
        }
        let (group, members) = (self.group, self.members.len());
        let drained = self.drained();
        let outcome = self
            .execute(command, &mut changes)
            .unwrap_or_else(Outcome::Rejected);
        if let Some(request_id) = request_id
            && !matches!(outcome, Outcome::Rejected(_))
        {
            self.requests.remember(Answered {
                request_id: request_id.clone(),
                revision,
                outcome: outcome.clone(),
            });
        }
        if command.is_about_topology() && !matches!(outcome, Outcome::Rejected(_)) {
            self.topology = revision;
        }
        let changes_topology = match command {
            Command::AdvanceCheckpoints { .. }
            | Command::ReportHealth { .. }
            | Command::ConfirmOutage { .. } => false,
            Command::FoundGroup { .. } => self.group != group,
            Command::RemoveMember { .. } => self.members.len() != members,
            // Each of the moves may have been left out.
            Command::Assign { .. } => !changes.shards.is_empty(),
            // A restart of a member is another incarnation, an update another revision.
            Command::RegisterMember { .. }
            | Command::CreateCluster { .. }
            | Command::UpdateCluster { .. }
            | Command::DeleteCluster { .. }
            | Command::BeginEra(_) => !matches!(outcome, Outcome::Rejected(_)),
            Command::DrainMember { .. } | Command::ResumeMember { .. } => self.drained() != drained,
        };
        self.add_streams(&mut changes.shards);
        Applied {
            outcome,
            changes,
            changes_topology,
        }
    }

    /// The cluster with this name.
    pub fn cluster_named(&self, name: &str) -> Option<&Cluster> {
        self.clusters
            .values()
            .find(|cluster| cluster.spec.name == name)
    }

    /// The replica with this name.
    pub fn member_named(&self, name: &str) -> Option<&Member> {
        self.members.values().find(|member| member.name == name)
    }

    /// The streams of a shard, in id order.
    pub fn streams_of(&self, shard: ShardId) -> impl Iterator<Item = &Stream> {
        self.streams
            .values()
            .filter(move |stream| stream.shard == shard)
    }

    /// Who owns the shard of a stream.
    pub fn assignment_of(&self, stream: StreamId) -> Option<&Assignment> {
        self.assignments.get(&self.streams.get(&stream)?.shard)
    }

    /// How many shards a replica owns.
    pub fn owned_by(&self, replica: ReplicaId) -> usize {
        let shards = self.assignments.values();
        shards
            .filter(|assignment| assignment.owner() == Some(replica))
            .count()
    }

    /// Whether a replica is drained.
    pub fn is_drained(&self, replica: ReplicaId) -> bool {
        let member = self.members.get(&replica);
        member.is_some_and(|member| member.drained)
    }

    /// How many replicas are drained.
    fn drained(&self) -> usize {
        let members = self.members.values();
        members.filter(|member| member.drained).count()
    }

    /// What people call a shard: `cluster/slice`.
    pub fn shard_name(&self, shard: ShardId) -> String {
        self.clusters.get(&shard.cluster).map_or_else(
            || shard.to_string(),
            |cluster| format!("{}/{}", cluster.spec.name, shard.slice),
        )
    }

    /// Shards that may have an owner: those whose cluster is not paused.
    pub fn is_ownable(&self, shard: ShardId) -> bool {
        self.clusters
            .get(&shard.cluster)
            .is_some_and(|cluster| !cluster.spec.paused)
    }

    /// The revision with which the current run of a shard begins: with the last change of what is
    /// watched, or with the last start of its owner. Together with the epoch it names the run.
    /// `None` where the shard has no owner.
    pub fn run_revision(&self, shard: ShardId) -> Option<Revision> {
        let owner = self.assignments.get(&shard)?.owner()?;
        let watch_revision = self.clusters.get(&shard.cluster)?.watch_revision;
        let started = self.members.get(&owner).map(|member| member.incarnation);
        Some(watch_revision.max(Revision(started.unwrap_or_default().0)))
    }

    fn execute(&mut self, command: &Command, changes: &mut Changes) -> Result<Outcome, Rejection> {
        match command {
            Command::FoundGroup { group } => {
                self.group.get_or_insert(*group);
                Ok(Outcome::Done)
            }
            Command::RegisterMember {
                replica,
                name,
                peer_address,
                client_address,
                at,
            } => self.register_member(Member {
                id: *replica,
                name: name.clone(),
                peer_address: peer_address.clone(),
                client_address: client_address.clone(),
                incarnation: Incarnation(self.revision.0),
                started: *at,
                drained: self.is_drained(*replica),
            }),
            Command::RemoveMember { replica } => {
                self.members.remove(replica);
                Ok(Outcome::Done)
            }
            Command::DrainMember { replica } => self.set_drained(*replica, true),
            Command::ResumeMember { replica } => self.set_drained(*replica, false),
            Command::CreateCluster { spec, at, .. } => self.create_cluster(spec, *at, changes),
            Command::UpdateCluster {
                id,
                expected,
                spec,
                at,
                ..
            } => {
                self.check_revision(*id, *expected)?;
                self.update_cluster(*id, spec, *at, changes)
            }
            Command::DeleteCluster {
                id, expected, at, ..
            } => {
                self.check_revision(*id, *expected)?;
                self.delete_cluster(*id, *at, changes);
                Ok(Outcome::Done)
            }
            Command::Assign { moves, at } => {
                self.assign_all(moves, *at, changes);
                Ok(Outcome::Done)
            }
            Command::BeginEra(begin) => self.begin_era(begin, changes),
            Command::AdvanceCheckpoints { entries } => {
                self.advance_checkpoints(entries);
                Ok(Outcome::Done)
            }
            Command::ReportHealth {
                shard,
                epoch,
                condition,
                reason,
                at,
            } => {
                let health = Health::new(*condition, reason, *at);
                self.report_health(*shard, *epoch, health, changes)
            }
            Command::ConfirmOutage {
                shard,
                epoch,
                reason,
            } => self.confirm_outage(*shard, *epoch, reason, changes),
        }
    }

    fn register_member(&mut self, member: Member) -> Result<Outcome, Rejection> {
        if let Some(other) = self.member_named(&member.name)
            && other.id != member.id
        {
            return Err(Rejection::MemberNameTaken(member.name, other.id));
        }
        self.members.insert(member.id, member);
        Ok(Outcome::Done)
    }

    fn set_drained(&mut self, replica: ReplicaId, drained: bool) -> Result<Outcome, Rejection> {
        let member = self.members.get_mut(&replica);
        member.ok_or(Rejection::NoSuchMember)?.drained = drained;
        Ok(Outcome::Done)
    }

    fn assign_all(&mut self, moves: &[Move], at: UnixMillis, changes: &mut Changes) {
        for step in moves {
            self.assign(step, at, changes);
        }
    }

    fn assign(&mut self, step: &Move, at: UnixMillis, changes: &mut Changes) {
        let current = self.assignments.get(&step.shard).map(Assignment::epoch);
        let takes = step.to.is_none_or(|owner| {
            let member = self.members.get(&owner);
            member.is_some_and(|member| !member.drained)
        });
        let allowed = step.to.is_none() || self.is_ownable(step.shard);
        if current == Some(step.epoch) && takes && allowed {
            self.give(step.shard, step.to, step.reason, at, changes);
        }
    }

    fn give(
        &mut self,
        shard: ShardId,
        to: Option<ReplicaId>,
        reason: MoveReason,
        at: UnixMillis,
        changes: &mut Changes,
    ) {
        let Some(assignment) = self.assignments.get_mut(&shard) else {
            return;
        };
        let old_owner = assignment.owner();
        *assignment = assignment.assign_to(to, reason, at);
        self.shard_changed(shard, ShardChangeKind::Moved, old_owner, at, changes);
    }

    /// Adds a change of a shard, as it is now; [`Self::add_streams`] completes it.
    fn shard_changed(
        &self,
        shard: ShardId,
        kind: ShardChangeKind,
        old_owner: Option<ReplicaId>,
        at: UnixMillis,
        changes: &mut Changes,
    ) {
        let (Some(assignment), Some(cluster)) = (
            self.assignments.get(&shard),
            self.clusters.get(&shard.cluster),
        ) else {
            return;
        };
        changes.shards.push(ShardChange {
            revision: self.revision,
            kind,
            shard,
            cluster: cluster.spec.name.clone(),
            assignment: assignment.clone(),
            streams: Vec::new(),
            old_owner,
            at,
        });
    }

    /// Gives the changes of shards that exist their streams, in one pass over all streams: one
    /// command may move every shard of a replica.
    fn add_streams(&self, changes: &mut [ShardChange]) {
        let mut streams: BTreeMap<ShardId, Vec<Stream>> = changes
            .iter()
            .filter(|change| change.kind != ShardChangeKind::Deleted)
            .map(|change| (change.shard, Vec::new()))
            .collect();
        if streams.is_empty() {
            return;
        }
        for stream in self.streams.values() {
            if let Some(of_shard) = streams.get_mut(&stream.shard) {
                of_shard.push(stream.clone());
            }
        }
        for change in changes {
            if let Some(of_shard) = streams.get(&change.shard) {
                change.streams.clone_from(of_shard);
            }
        }
    }

    fn check_epoch(&self, shard: ShardId, epoch: Epoch) -> Result<(), Rejection> {
        let assignment = self
            .assignments
            .get(&shard)
            .ok_or(Rejection::NoSuchCluster)?;
        if assignment.epoch() == epoch {
            Ok(())
        } else {
            Err(Rejection::StaleEpoch(assignment.epoch()))
        }
    }

    fn mint(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

#[cfg(test)]
mod sequence_tests;
#[cfg(test)]
mod tests;
