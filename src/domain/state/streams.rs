//! Streams in the state: eras and checkpoints, as their owners report them.

use super::State;
use crate::domain::{
    change::{Changes, ClusterChangeKind},
    command::{BeginEra, CheckpointEntry, Outcome, Rejection},
    frame::GapReason,
    id::{ClusterId, Era, Revision, ShardId},
    stream::EraStart,
};

impl State {
    pub(super) fn begin_era(
        &mut self,
        begin: &BeginEra,
        changes: &mut Changes,
    ) -> Result<Outcome, Rejection> {
        let stream = self
            .streams
            .get(&begin.stream)
            .ok_or(Rejection::NoSuchStream)?;
        let (shard, current) = (stream.shard, stream.era.as_ref().map(|start| start.era));
        self.check_epoch(shard, begin.epoch)?;
        self.check_run(shard, begin.run)?;
        if current != begin.expected_era {
            return Err(Rejection::StaleEra(current));
        }
        if let Some(other) = self.duplicate(shard.cluster, &begin.cluster_uid) {
            let of = other.spec.name.clone();
            return Err(Rejection::DuplicateCluster { of });
        }
        if let Some(from) = &begin.from {
            self.advance_checkpoint(&CheckpointEntry {
                stream: begin.stream,
                epoch: begin.epoch,
                position: from.clone(),
            });
        }
        self.identify(shard.cluster, &begin.cluster_uid, changes);
        let era = Era(self.mint());
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
        if stream.first.is_none() {
            stream.first = Some(start.start());
        }
        stream.era = Some(start);
        if !begin.cluster_uid.is_empty() {
            stream.cluster_uid = Some(begin.cluster_uid.clone());
        }
        Ok(Outcome::Era(era))
    }

    fn check_run(&self, shard: ShardId, run: Revision) -> Result<(), Rejection> {
        match self.run_revision(shard) {
            Some(current) if current == run => Ok(()),
            Some(current) => Err(Rejection::StaleRun(current)),
            None => Err(Rejection::StaleRun(self.revision)),
        }
    }

    fn identify(&mut self, id: ClusterId, uid: &str, changes: &mut Changes) {
        if let Some(cluster) = self.clusters.get_mut(&id)
            && !uid.is_empty()
            && cluster.uid.as_deref() != Some(uid)
        {
            cluster.uid = Some(uid.to_owned());
            self.cluster_changed(id, ClusterChangeKind::Updated, changes);
        }
    }

    /// Takes only what moves a checkpoint forward, inside the current era, to a closed position.
    pub(super) fn advance_checkpoint(&mut self, entry: &CheckpointEntry) {
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
}
