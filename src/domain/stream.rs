//! Streams as agreed: their eras and checkpoints.

use super::{
    cluster::StreamSelector,
    event::GapReason,
    id::{Era, ShardId, StreamId, UnixMillis},
    position::{Position, ResourceVersion},
};

/// One resource type of one cluster, as agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Assigned in the log, never reused.
    pub id: StreamId,
    /// The shard it belongs to.
    pub shard: ShardId,
    /// What it carries.
    pub selector: StreamSelector,
    /// How its current era began; `None` until its first owner has reached the cluster.
    pub era: Option<EraStart>,
    /// Where its first era began; never changes after. Nothing before it was ever watched.
    pub first: Option<Position>,
    /// Where the next owner resumes: always closed. It is behind `era` while the net changes of a
    /// repair are being published.
    pub checkpoint: Option<Position>,
    /// The identity of the cluster that the era belongs to, where it could be read. Kept for each
    /// stream, because a cluster that is replaced ends the eras of its streams one by one.
    pub cluster_uid: Option<String>,
}

/// How an era began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraStart {
    /// The era.
    pub era: Era,
    /// Why it began.
    pub reason: GapReason,
    /// The checkpoint that could not be continued; `None` for a stream's first era.
    pub from: Option<Position>,
    /// The resource version of the consistent list at which the era begins.
    pub to: ResourceVersion,
    /// Whether the net changes between `from` and `to` are published at the era's beginning, as
    /// events at `to`, so that no snapshot is needed.
    pub repaired: bool,
    /// The first era of the unbroken history that this one continues with: since then, each era
    /// began with a repair, and exact lists connect them all. The era itself where it is not
    /// repaired.
    pub unbroken_since: Era,
    /// Why that first era began: what is missing for those who stand before it.
    pub broken_by: GapReason,
    /// The wall clock of the owner that began it, for display only.
    pub at: UnixMillis,
}

impl EraStart {
    /// Where the era begins for those who take no net changes: closed at its list.
    pub fn start(&self) -> Position {
        Position::closed(self.era, self.to.clone())
    }
}

/// Where an owner of a stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumePoint {
    /// The stream was never watched: begin with a consistent list and a first era.
    Fresh,
    /// Go on after a closed position.
    At(Position),
    /// The era's net changes were not all published: publish them (again), then resume from `to`.
    Repair {
        /// The era that was begun for the repair.
        era: Era,
        /// The resource version up to which everything was published.
        from: ResourceVersion,
        /// The resource version of the list that the repair ends at.
        to: ResourceVersion,
    },
}

impl Stream {
    /// Where the next owner begins.
    pub fn resume_point(&self) -> ResumePoint {
        match (&self.era, &self.checkpoint) {
            (Some(start), Some(checkpoint)) if checkpoint.era < start.era => ResumePoint::Repair {
                era: start.era,
                from: checkpoint.rv.clone(),
                to: start.to.clone(),
            },
            (_, Some(checkpoint)) => ResumePoint::At(checkpoint.clone()),
            (_, None) => ResumePoint::Fresh,
        }
    }
}
