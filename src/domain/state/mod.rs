//! The replicated state: [`State::apply`] is the only way in which it changes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    assignment::{Assignment, MoveReason},
    cluster::{Cluster, ClusterSpec, Health},
    command::{BeginEra, CheckpointEntry, Command, Move, Outcome, Rejection, ShardChange},
    frame::GapReason,
    id::{
        ClusterId, Epoch, Era, GroupId, Incarnation, ReplicaId, Revision, ShardId, StreamId,
        UnixMillis,
    },
    member::Member,
    position::Position,
    stream::{EraStart, Stream},
};

/// Most clusters of a group: the state is copied at each change, and kept in memory by everyone.
pub const CLUSTERS_MAX: usize = 10_000;

/// What the group has agreed on. Same log in, same state out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The log index that produced it.
    pub revision: Revision,
    /// The group's identity.
    pub group: Option<GroupId>,
    /// The last id minted for a cluster, stream or era; they share one sequence.
    pub last_id: u64,
    /// Monitored clusters.
    pub clusters: BTreeMap<ClusterId, Cluster>,
    /// Registered replicas.
    pub members: BTreeMap<ReplicaId, Member>,
    /// Who owns what; one for each shard, no more.
    pub assignments: BTreeMap<ShardId, Assignment>,
    /// Streams with their eras and checkpoints.
    pub streams: BTreeMap<StreamId, Stream>,
}

/// What applying one command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What the proposer is told.
    pub outcome: Outcome,
    /// Changes of ownership.
    pub changes: Vec<ShardChange>,
}

impl State {
    /// Executes one command of the log.
    pub fn apply(&mut self, revision: Revision, command: &Command) -> Applied {
        self.revision = revision;
        let mut changes = Vec::new();
        let outcome = self
            .execute(command, &mut changes)
            .unwrap_or_else(Outcome::Rejected);
        Applied { outcome, changes }
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

    /// Whether a replica owns a shard.
    pub fn owns_any(&self, replica: ReplicaId) -> bool {
        let mut shards = self.assignments.values();
        shards.any(|assignment| assignment.owner() == Some(replica))
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

    fn execute(
        &mut self,
        command: &Command,
        changes: &mut Vec<ShardChange>,
    ) -> Result<Outcome, Rejection> {
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
            }),
            Command::RemoveMember { replica } => {
                self.members.remove(replica);
                Ok(Outcome::Done)
            }
            Command::CreateCluster { spec, at } => self.create_cluster(spec, *at, changes),
            Command::UpdateCluster {
                id,
                expected,
                spec,
                at,
            } => {
                self.check_revision(*id, *expected)?;
                self.update_cluster(*id, spec, *at, changes)
            }
            Command::DeleteCluster { id, expected, at } => {
                self.check_revision(*id, *expected)?;
                self.delete_cluster(*id, *at, changes);
                Ok(Outcome::Done)
            }
            Command::Assign { moves, at } => {
                for step in moves {
                    self.assign(step, *at, changes);
                }
                Ok(Outcome::Done)
            }
            Command::BeginEra(begin) => self.begin_era(begin),
            Command::AdvanceCheckpoints { entries } => {
                for entry in entries {
                    self.advance_checkpoint(entry);
                }
                Ok(Outcome::Done)
            }
            Command::ReportHealth {
                shard,
                epoch,
                condition,
                reason,
                at,
            } => {
                let health = Health {
                    condition: *condition,
                    reason: reason.clone(),
                    since: *at,
                };
                self.report_health(*shard, *epoch, health)
            }
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

    fn create_cluster(
        &mut self,
        spec: &ClusterSpec,
        at: UnixMillis,
        changes: &mut Vec<ShardChange>,
    ) -> Result<Outcome, Rejection> {
        spec.validate().map_err(Rejection::InvalidSpec)?;
        if self.cluster_named(&spec.name).is_some() {
            return Err(Rejection::NameTaken(spec.name.clone()));
        }
        if self.clusters.len() >= CLUSTERS_MAX {
            return Err(Rejection::Full("10,000 clusters"));
        }
        let id = ClusterId(self.mint());
        let cluster = Cluster {
            id,
            spec: spec.clone(),
            uid: None,
            created: at,
            revision: self.revision,
            health: Health::unknown(at),
        };
        self.clusters.insert(id, cluster);
        let shard = ShardId {
            cluster: id,
            slice: 0,
        };
        self.assignments
            .insert(shard, Assignment::unassigned(shard, at));
        self.fit_streams(shard, spec);
        changes.push(self.change(shard, None, MoveReason::Created, at));
        Ok(Outcome::Cluster(id))
    }

    fn check_revision(&self, id: ClusterId, expected: Option<Revision>) -> Result<(), Rejection> {
        let cluster = self.clusters.get(&id).ok_or(Rejection::NoSuchCluster)?;
        match expected {
            Some(expected) if expected != cluster.revision => {
                Err(Rejection::RevisionMismatch(cluster.revision))
            }
            _ => Ok(()),
        }
    }

    fn update_cluster(
        &mut self,
        id: ClusterId,
        spec: &ClusterSpec,
        at: UnixMillis,
        changes: &mut Vec<ShardChange>,
    ) -> Result<Outcome, Rejection> {
        spec.validate().map_err(Rejection::InvalidSpec)?;
        let revision = self.revision;
        let cluster = self.clusters.get_mut(&id).ok_or(Rejection::NoSuchCluster)?;
        if cluster.spec.name != spec.name {
            return Err(Rejection::Renamed);
        }
        let pauses = spec.paused && !cluster.spec.paused;
        cluster.spec = spec.clone();
        cluster.revision = revision;
        let shard = ShardId {
            cluster: id,
            slice: 0,
        };
        self.fit_streams(shard, spec);
        if pauses {
            self.give(shard, None, MoveReason::Paused, at, changes);
        }
        Ok(Outcome::Cluster(id))
    }

    /// Makes the streams of a shard those of the specification; what stays keeps its history.
    fn fit_streams(&mut self, shard: ShardId, spec: &ClusterSpec) {
        let wanted: BTreeSet<_> = spec.selectors.iter().collect();
        self.streams
            .retain(|_, stream| stream.shard != shard || wanted.contains(&stream.selector));
        let have: BTreeSet<_> = self
            .streams_of(shard)
            .map(|stream| stream.selector.clone())
            .collect();
        for selector in &spec.selectors {
            if !have.contains(selector) {
                let id = StreamId(self.mint());
                let selector = selector.clone();
                self.streams.insert(
                    id,
                    Stream {
                        id,
                        shard,
                        selector,
                        era: None,
                        checkpoint: None,
                        cluster_uid: None,
                    },
                );
            }
        }
    }

    fn delete_cluster(&mut self, id: ClusterId, at: UnixMillis, changes: &mut Vec<ShardChange>) {
        let shards: Vec<_> = self
            .assignments
            .keys()
            .filter(|shard| shard.cluster == id)
            .copied()
            .collect();
        for shard in shards {
            self.give(shard, None, MoveReason::Deleted, at, changes);
            self.assignments.remove(&shard);
        }
        self.streams.retain(|_, stream| stream.shard.cluster != id);
        self.clusters.remove(&id);
    }

    fn assign(&mut self, step: &Move, at: UnixMillis, changes: &mut Vec<ShardChange>) {
        let current = self.assignments.get(&step.shard).map(Assignment::epoch);
        let known = step
            .to
            .is_none_or(|owner| self.members.contains_key(&owner));
        let allowed = step.to.is_none() || self.is_ownable(step.shard);
        if current == Some(step.epoch) && known && allowed {
            self.give(step.shard, step.to, step.reason, at, changes);
        }
    }

    fn give(
        &mut self,
        shard: ShardId,
        to: Option<ReplicaId>,
        reason: MoveReason,
        at: UnixMillis,
        changes: &mut Vec<ShardChange>,
    ) {
        let Some(assignment) = self.assignments.get_mut(&shard) else {
            return;
        };
        let old_owner = assignment.owner();
        *assignment = assignment.assign_to(to, reason, at);
        changes.push(self.change(shard, old_owner, reason, at));
    }

    fn change(
        &self,
        shard: ShardId,
        old_owner: Option<ReplicaId>,
        reason: MoveReason,
        at: UnixMillis,
    ) -> ShardChange {
        let assignment = self.assignments.get(&shard);
        ShardChange {
            revision: self.revision,
            shard,
            cluster: self
                .clusters
                .get(&shard.cluster)
                .map(|cluster| cluster.spec.name.clone())
                .unwrap_or_default(),
            epoch: assignment.map(Assignment::epoch).unwrap_or_default(),
            old_owner,
            new_owner: assignment.and_then(Assignment::owner),
            reason,
            at,
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

    fn report_health(
        &mut self,
        shard: ShardId,
        epoch: Epoch,
        health: Health,
    ) -> Result<Outcome, Rejection> {
        self.check_epoch(shard, epoch)?;
        let cluster = self.clusters.get_mut(&shard.cluster);
        cluster.ok_or(Rejection::NoSuchCluster)?.health = health;
        Ok(Outcome::Done)
    }

    fn begin_era(&mut self, begin: &BeginEra) -> Result<Outcome, Rejection> {
        let stream = self
            .streams
            .get(&begin.stream)
            .ok_or(Rejection::NoSuchStream)?;
        let shard = stream.shard;
        self.check_epoch(shard, begin.epoch)?;
        let era = Era(self.mint());
        if let Some(cluster) = self.clusters.get_mut(&shard.cluster)
            && !begin.cluster_uid.is_empty()
        {
            cluster.uid = Some(begin.cluster_uid.clone());
        }
        let stream = self
            .streams
            .get_mut(&begin.stream)
            .ok_or(Rejection::NoSuchStream)?;
        let start = EraStart {
            era,
            reason: begin.reason,
            from: stream.checkpoint.clone(),
            to: begin.to.clone(),
            // Without a checkpoint nothing was published that net changes could follow.
            repaired: begin.repaired
                && begin.reason != GapReason::StreamCreated
                && stream.checkpoint.is_some(),
            at: begin.at,
        };
        if !start.repaired {
            stream.checkpoint = Some(start.start());
        }
        stream.era = Some(start);
        if !begin.cluster_uid.is_empty() {
            stream.cluster_uid = Some(begin.cluster_uid.clone());
        }
        Ok(Outcome::Era(era))
    }

    /// Takes only what moves a checkpoint forward, inside the current era, to a closed position.
    fn advance_checkpoint(&mut self, entry: &CheckpointEntry) {
        let Some(shard) = self.streams.get(&entry.stream).map(|stream| stream.shard) else {
            return;
        };
        if self.check_epoch(shard, entry.epoch).is_err() || !entry.position.is_closed() {
            return;
        }
        let Some(stream) = self.streams.get_mut(&entry.stream) else {
            return;
        };
        let Some(start) = &stream.era else { return };
        let current = entry.position.era == start.era && entry.position >= start.start();
        let forward = stream
            .checkpoint
            .as_ref()
            .is_none_or(|old| *old < entry.position);
        if current && forward {
            stream.checkpoint = Some(entry.position.clone());
        }
    }

    fn mint(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// What must hold after every command; tests and simulations call it at each step.
    pub fn check_invariants(&self) -> Result<(), String> {
        for (shard, assignment) in &self.assignments {
            if !self.clusters.contains_key(&shard.cluster) {
                return Err(format!("shard {shard} belongs to no cluster"));
            }
            if assignment.shard() != *shard {
                return Err(format!(
                    "shard {shard} holds the assignment of {}",
                    assignment.shard()
                ));
            }
            if assignment.owner().is_some() && !self.is_ownable(*shard) {
                return Err(format!("shard {shard} is paused and has an owner"));
            }
        }
        for cluster in self.clusters.keys() {
            if !self.assignments.contains_key(&ShardId {
                cluster: *cluster,
                slice: 0,
            }) {
                return Err(format!("cluster {cluster} has no shard"));
            }
        }
        let names: BTreeSet<_> = self.clusters.values().map(|c| &c.spec.name).collect();
        if names.len() != self.clusters.len() {
            return Err("two clusters have one name".into());
        }
        self.streams
            .values()
            .try_for_each(|stream| self.check_stream(stream))
    }

    fn check_stream(&self, stream: &Stream) -> Result<(), String> {
        if !self.assignments.contains_key(&stream.shard) {
            return Err(format!("stream {} belongs to no shard", stream.id));
        }
        if stream
            .checkpoint
            .as_ref()
            .is_some_and(|position| !position.is_closed())
        {
            return Err(format!(
                "the checkpoint of stream {} is inside a version",
                stream.id
            ));
        }
        let era = stream.era.as_ref().map(|start| start.era);
        let checkpoint_era = stream
            .checkpoint
            .as_ref()
            .map(|position: &Position| position.era);
        if checkpoint_era > era {
            return Err(format!(
                "the checkpoint of stream {} is ahead of its era",
                stream.id
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod sequence_tests;
#[cfg(test)]
mod tests;
