//! Streams in the state: eras and checkpoints, as their owners report them.

use super::State;
use crate::domain::{
    change::{Changes, ClusterChangeKind},
    command::{BeginEra, CheckpointEntry, Outcome, Rejection},
    event::GapReason,
    id::{ClusterId, Era, Revision, ShardId},
    position::Position,
    stream::{EraStart, Stream},
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
        // Another era began meanwhile, perhaps by an earlier attempt whose outcome was unknown: the
        // owner continues in that one.
        if current != begin.expected_era {
            return Err(Rejection::StaleEra(current));
        }
        if is_behind(stream, begin) {
            return Err(Rejection::StaleCheckpoint);
        }
        // First contact under a second name: nothing of this registration is watched.
        if let Some(other) = self.duplicate(shard.cluster, &begin.cluster_uid) {
            let of = other.spec.name.clone();
            return Err(Rejection::DuplicateCluster { of });
        }
        // The owner has published up to here, beyond its last checkpoint: the gap begins there.
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
        // Without a checkpoint nothing was published that net changes could follow.
        let repaired = begin.repaired
            && begin.reason != GapReason::StreamCreated
            && stream.checkpoint.is_some();
        let before = stream.era.as_ref().filter(|_| repaired);
        let start = EraStart {
            era,
            reason: begin.reason,
            from: stream.checkpoint.clone(),
            to: begin.to.clone(),
            repaired,
            unbroken_since: before.map_or(era, |before| before.unbroken_since),
            broken_by: before.map_or(begin.reason, |before| before.broken_by),
            at: begin.at,
        };
        // Without a repair the past is over, and owners resume at the list. With one the checkpoint
        // stays before it until the net changes are published, so that a new owner repeats them.
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
    pub(super) fn advance_checkpoints(&mut self, entries: &[CheckpointEntry]) {
        for entry in entries {
            self.advance_checkpoint(entry);
        }
    }

    fn advance_checkpoint(&mut self, entry: &CheckpointEntry) {
        let stream = self.streams.get(&entry.stream);
        if stream.is_some_and(|stream| self.advances(stream, entry))
            && let Some(stream) = self.streams.get_mut(&entry.stream)
        {
            stream.checkpoint = Some(entry.position.clone());
        }
    }

    fn advances(&self, stream: &Stream, entry: &CheckpointEntry) -> bool {
        let Some(start) = &stream.era else {
            return false;
        };
        self.check_epoch(stream.shard, entry.epoch).is_ok()
            && entry.position.is_closed()
            && entry.position.era == start.era
            && entry.position >= start.start()
            && stream
                .checkpoint
                .as_ref()
                .is_none_or(|old| *old < entry.position)
    }
}

/// Whether a run has published less of the current era than is agreed on. It began with watches that
/// were opened before its shard was assigned to it, and the owner before it has published on.
fn is_behind(stream: &Stream, begin: &BeginEra) -> bool {
    let of_this_era = |checkpoint: &&Position| Some(checkpoint.era) == begin.expected_era;
    let agreed = stream.checkpoint.as_ref().filter(of_this_era);
    agreed.is_some_and(|agreed| begin.from.as_ref().is_none_or(|from| from < agreed))
}
