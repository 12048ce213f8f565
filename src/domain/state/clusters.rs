//! Clusters in the state: created, updated and deleted by users, reported on by owners.

use std::{collections::BTreeSet, sync::Arc};

use super::{CLUSTERS_MAX, State};
use crate::domain::{
    assignment::{Assignment, MoveReason},
    change::{Changes, ClusterChange, ClusterChangeKind, ShardChangeKind},
    cluster::{Cluster, ClusterSpec, Health, StreamSelector},
    command::{Outcome, Rejection},
    id::{ClusterId, Epoch, Revision, ShardId, StreamId, UnixMillis},
    stream::Stream,
};

impl State {
    /// Another cluster that has an identity already, where that keeps `id` from taking it up.
    ///
    /// The one that has it first keeps it. It may be taken up by a second one where one of the two
    /// names the other in `duplicate_of`. A cluster that has the identity itself is not asked
    /// again, so that a running watch never ends because of another registration.
    pub fn duplicate(&self, id: ClusterId, uid: &str) -> Option<&Cluster> {
        let own = self.clusters.get(&id)?;
        if uid.is_empty() || own.uid.as_deref() == Some(uid) {
            return None;
        }
        let mut others = self
            .clusters
            .values()
            .filter(|other| other.id != id && other.uid.as_deref() == Some(uid));
        let means = |one: &Cluster, other: &Cluster| one.spec.duplicate_of == other.spec.name;
        if !own.spec.duplicate_of.is_empty() && others.clone().any(|other| means(own, other)) {
            return None;
        }
        others.find(|other| !means(other, own))
    }

    pub(super) fn create_cluster(
        &mut self,
        spec: &ClusterSpec,
        at: UnixMillis,
        changes: &mut Changes,
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
            spec: Arc::new(spec.clone()),
            uid: None,
            created: at,
            updated: at,
            revision: self.revision,
            watch_revision: self.revision,
            health: Health::unknown(at),
            health_epoch: Epoch(0),
        };
        self.clusters.insert(id, cluster);
        let shard = shard_of(id);
        self.assignments
            .insert(shard, Assignment::unassigned(shard, at));
        self.fit_streams(shard, spec);
        self.shard_changed(shard, ShardChangeKind::Created, None, at, changes);
        self.cluster_changed(id, ClusterChangeKind::Created, changes);
        Ok(Outcome::Cluster(id))
    }

    pub(super) fn check_revision(
        &self,
        id: ClusterId,
        expected: Option<Revision>,
    ) -> Result<(), Rejection> {
        let cluster = self.clusters.get(&id).ok_or(Rejection::NoSuchCluster)?;
        match expected {
            Some(expected) if expected != cluster.revision => {
                Err(Rejection::RevisionMismatch(cluster.revision))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn update_cluster(
        &mut self,
        id: ClusterId,
        spec: &ClusterSpec,
        at: UnixMillis,
        changes: &mut Changes,
    ) -> Result<Outcome, Rejection> {
        spec.validate().map_err(Rejection::InvalidSpec)?;
        let revision = self.revision;
        let cluster = self.clusters.get_mut(&id).ok_or(Rejection::NoSuchCluster)?;
        if cluster.spec.name != spec.name {
            return Err(Rejection::Renamed);
        }
        let pauses = spec.paused && !cluster.spec.paused;
        let source_changes = spec.source != cluster.spec.source;
        cluster.spec = Arc::new(spec.clone());
        cluster.updated = at;
        cluster.revision = revision;
        let shard = shard_of(id);
        let streams_change = self.fit_streams(shard, spec);
        // Owners open their watches again only for these: labels and description change nothing.
        if (source_changes || streams_change)
            && let Some(cluster) = self.clusters.get_mut(&id)
        {
            cluster.watch_revision = revision;
        }
        if streams_change {
            let owner = self.assignments.get(&shard).and_then(Assignment::owner);
            self.shard_changed(shard, ShardChangeKind::Updated, owner, at, changes);
        }
        // Resuming needs nothing here: the planner assigns the shard again.
        if pauses {
            self.give(shard, None, MoveReason::Paused, at, changes);
        }
        self.cluster_changed(id, ClusterChangeKind::Updated, changes);
        Ok(Outcome::Cluster(id))
    }

    /// Makes the streams of a shard those of the specification; what stays keeps its history.
    /// Whether anything was to be done.
    fn fit_streams(&mut self, shard: ShardId, spec: &ClusterSpec) -> bool {
        let selectors = spec.stream_selectors();
        let wanted: BTreeSet<&StreamSelector> = selectors.iter().collect();
        let before = self.streams.len();
        self.streams
            .retain(|_, stream| stream.shard != shard || wanted.contains(&stream.selector));
        let mut changed = self.streams.len() < before;
        let have: BTreeSet<StreamSelector> = self
            .streams_of(shard)
            .map(|stream| stream.selector.clone())
            .collect();
        for selector in selectors {
            if !have.contains(&selector) {
                let id = StreamId(self.mint());
                let stream = Stream {
                    id,
                    shard,
                    selector,
                    era: None,
                    first: None,
                    checkpoint: None,
                    cluster_uid: None,
                };
                self.streams.insert(id, stream);
                changed = true;
            }
        }
        changed
    }

    pub(super) fn delete_cluster(&mut self, id: ClusterId, at: UnixMillis, changes: &mut Changes) {
        let shards: Vec<_> = self
            .assignments
            .keys()
            .filter(|shard| shard.cluster == id)
            .copied()
            .collect();
        for shard in shards {
            let Some(assignment) = self.assignments.get_mut(&shard) else {
                continue;
            };
            let old_owner = assignment.owner();
            *assignment = assignment.assign_to(None, MoveReason::Deleted, at);
            self.shard_changed(shard, ShardChangeKind::Deleted, old_owner, at, changes);
            let streams: Vec<Stream> = self.streams_of(shard).cloned().collect();
            if let Some(change) = changes.shards.last_mut() {
                change.streams = streams;
            }
            self.assignments.remove(&shard);
        }
        self.streams.retain(|_, stream| stream.shard.cluster != id);
        self.cluster_changed(id, ClusterChangeKind::Deleted, changes);
        self.clusters.remove(&id);
    }

    pub(super) fn report_health(
        &mut self,
        shard: ShardId,
        epoch: Epoch,
        health: Health,
        changes: &mut Changes,
    ) -> Result<Outcome, Rejection> {
        self.check_epoch(shard, epoch)?;
        let cluster = self.clusters.get_mut(&shard.cluster);
        let cluster = cluster.ok_or(Rejection::NoSuchCluster)?;
        cluster.health_epoch = epoch;
        if !health.says_the_same_as(&cluster.health) {
            cluster.health = health;
            self.cluster_changed(shard.cluster, ClusterChangeKind::Updated, changes);
        }
        Ok(Outcome::Done)
    }

    /// The owner may have reported something else meanwhile, which then holds.
    pub(super) fn confirm_outage(
        &mut self,
        shard: ShardId,
        epoch: Epoch,
        reason: &str,
        changes: &mut Changes,
    ) -> Result<Outcome, Rejection> {
        self.check_epoch(shard, epoch)?;
        let cluster = self.clusters.get_mut(&shard.cluster);
        let cluster = cluster.ok_or(Rejection::NoSuchCluster)?;
        let is_meant = cluster.health_epoch == epoch && cluster.health.reason == reason;
        if is_meant && cluster.health.confirm_outage() {
            self.cluster_changed(shard.cluster, ClusterChangeKind::Updated, changes);
        }
        Ok(Outcome::Done)
    }

    /// Adds a change of a cluster, as it is now.
    pub(super) fn cluster_changed(
        &self,
        id: ClusterId,
        kind: ClusterChangeKind,
        changes: &mut Changes,
    ) {
        let Some(cluster) = self.clusters.get(&id) else {
            return;
        };
        changes.clusters.push(ClusterChange {
            revision: self.revision,
            kind,
            cluster: cluster.clone(),
        });
    }
}

/// The shard of a cluster that is not sliced.
fn shard_of(cluster: ClusterId) -> ShardId {
    ShardId { cluster, slice: 0 }
}
