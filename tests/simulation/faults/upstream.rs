//! API servers that misbehave, by the switches that the simulated one has. What happens to their
//! answers alone is here: their links and machines are like those of others.

use quorumwatch::{
    proto::v1::GapReason,
    sim::{Fault, SimCluster},
};

use super::cause::{What, is_of_compaction};
use crate::{hosts::ApiServer, report, stage::Stage};

/// What an API server does wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It closes all watches.
    CloseWatches,
    /// Its watch cache begins again.
    CacheReset,
    /// The history is compacted.
    Compaction,
    /// Its process ends, and starts again with an empty watch cache.
    Restart,
    /// It takes connections, and sends nothing.
    Stall,
    /// It answers that it is not available.
    Refusal,
    /// It answers that there are too many requests.
    Throttling,
    /// It refuses the credentials.
    Unauthorised,
    /// Nothing comes of its watches.
    HeldLines,
    /// Some watches end with an internal error.
    InternalErrors,
    /// Watches begin with what was sent before.
    Replays,
    /// Where history is gone, a watch is only closed.
    SilentGone,
    /// Watches are sent no changes, and bookmarks claim that these were all.
    EarlyBookmarks,
}

impl Trouble {
    pub(super) const ALL: [Self; 13] = [
        Self::CloseWatches,
        Self::CacheReset,
        Self::Compaction,
        Self::Restart,
        Self::Stall,
        Self::Refusal,
        Self::Throttling,
        Self::Unauthorised,
        Self::HeldLines,
        Self::InternalErrors,
        Self::Replays,
        Self::SilentGone,
        Self::EarlyBookmarks,
    ];

    /// The switches that are on meanwhile.
    fn switches(self) -> &'static [Fault] {
        match self {
            Self::CloseWatches | Self::CacheReset | Self::Compaction | Self::InternalErrors => &[],
            Self::Restart => &[Fault::Unreachable],
            Self::Stall => &[Fault::Stall],
            Self::Refusal => &[Fault::Refuse],
            Self::Throttling => &[Fault::TooManyRequests],
            Self::Unauthorised => &[Fault::Unauthorised],
            Self::HeldLines => &[Fault::HoldLines],
            Self::Replays => &[Fault::ReplayEvents(4)],
            Self::SilentGone => &[Fault::SilentClose410],
            Self::EarlyBookmarks => &[Fault::EarlyBookmarks, Fault::DelayEvents(1)],
        }
    }

    /// What happens once, as it begins.
    fn strike(self, cluster: &SimCluster) {
        match self {
            // So that there are new watches.
            Self::CloseWatches | Self::Replays | Self::Unauthorised => {
                cluster.faults().set(Fault::CloseWatches);
            }
            // A stream that meets three of them in a row is sent a gap.
            Self::InternalErrors => {
                cluster.faults().set_times(Fault::InternalErrorLine, 2);
                cluster.faults().set(Fault::CloseWatches);
            }
            Self::CacheReset => cluster.reset_watch_cache(),
            Self::Compaction | Self::SilentGone => {
                cluster.compact();
                cluster.faults().set(Fault::CloseWatches);
            }
            _ => {}
        }
    }

    /// Whether a gap with this reason may come of it.
    pub(super) fn explains(self, reason: GapReason) -> bool {
        match self {
            Self::Compaction | Self::SilentGone => is_of_compaction(reason),
            // A quiet watch that does not deliver what lists show is repaired in the same way.
            Self::CacheReset | Self::Restart | Self::HeldLines => {
                reason == GapReason::WatchCacheReset
            }
            Self::EarlyBookmarks => matches!(
                reason,
                GapReason::UpstreamInconsistent | GapReason::WatchCacheReset
            ),
            _ => false,
        }
    }

    fn begin(self, server: &ApiServer) {
        server.act(move |cluster| {
            for fault in self.switches() {
                cluster.faults().set(*fault);
            }
            self.strike(cluster);
        });
    }

    pub(super) fn end(self, server: &ApiServer) {
        server.act(move |cluster| {
            if self == Self::Restart {
                cluster.reset_watch_cache();
            }
            for fault in self.switches() {
                cluster.faults().clear(*fault);
            }
        });
    }
}

impl Stage {
    /// Lets an API server misbehave, unless its history is about to be restored.
    pub(super) fn begin_trouble(&mut self, server: usize, trouble: Trouble) {
        self.note_cause(server, What::Trouble(trouble));
        // What a bookmark has claimed wrongly is lost where another owner goes on from there, and
        // where lists are compared before it comes: neither is promised to be noticed.
        let is_harmful =
            trouble == Trouble::EarlyBookmarks && (self.verifies_often || !self.is_balanced());
        if is_harmful || self.is_preparing(server) {
            report::note("fault", "not now");
            return;
        }
        report::reached(format!("fault {trouble:?}"));
        trouble.begin(&self.servers[server]);
    }
}
