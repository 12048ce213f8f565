//! Results of historical reads: catch-up watches, snapshots, repairs.

use super::{event::Event, position::ResourceVersion};

/// One step of a historical read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryItem {
    /// Events of a watch, in order.
    Events(Vec<Event>),
    /// There is no memory for the next events until some of those before them are dropped.
    Scarce,
    /// Every event up to this version has been given.
    Closed(ResourceVersion),
    /// Net changes up to `to`, in key order: what a repair gives, and nothing else does.
    Repaired {
        /// The version that the repair ends at.
        to: ResourceVersion,
        /// The net changes.
        events: Vec<Event>,
        /// Whether these are the last.
        last: bool,
    },
    /// A consistent list of this version begins.
    Listing(ResourceVersion),
    /// The watch cannot continue, but exact lists at the last version that was closed and at `to`
    /// answer: the net changes between them can be had.
    WatchLost {
        /// The version of the later list.
        to: ResourceVersion,
    },
    /// Objects of a consistent list.
    Snapshot(Vec<Event>),
    /// The list is complete, and this is its version.
    Synced(ResourceVersion),
    /// The history is gone, beyond repair.
    Expired,
    /// It failed this time; the reason, in words.
    Failed(String),
}
