//! What explains gaps: [`Cause`].

use std::time::Duration;

use quorumwatch::proto::v1::GapReason;

use super::{Cut, Trouble};
use crate::stage::Stage;

/// Something that was done to a cluster, of which gaps may come.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    /// When it was done.
    pub(crate) at: Duration,
    /// The name of the cluster.
    pub(crate) cluster: String,
    pub(super) what: What,
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Trouble(Trouble),
    Cut(Cut),
    /// The history was compacted, apart from any trouble.
    Compacted,
    /// The labels of the cluster were changed.
    Relabelled,
}

impl Cause {
    /// Whether a gap with this reason may come of it.
    pub(crate) fn explains(&self, reason: GapReason) -> bool {
        match self.what {
            What::Trouble(trouble) => trouble.explains(reason),
            What::Cut(cut) => cut.explains(reason),
            What::Compacted => is_of_compaction(reason),
            What::Relabelled => reason == GapReason::FilterChanged,
        }
    }
}

/// Whether a gap with this reason comes of history that is gone. A snapshot begins again only where
/// the version is gone at which it was begun.
pub(super) fn is_of_compaction(reason: GapReason) -> bool {
    matches!(
        reason,
        GapReason::HistoryExpired | GapReason::SnapshotRestarted
    )
}

impl Stage {
    /// This is done now to the cluster of a server.
    pub(super) fn note_cause(&mut self, server: usize, what: What) {
        self.causes.push(Cause {
            at: self.sim.elapsed(),
            cluster: self.servers[server].cluster.clone(),
            what,
        });
    }
}
