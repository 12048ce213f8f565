//! What a look into the past of a stream gives: catch-up watches, snapshots, repairs.

use super::{frame::Frame, position::ResourceVersion};

/// One step of a look into the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryItem {
    /// Frames of a watch, in order.
    Frames(Vec<Frame>),
    /// Every frame up to this version has been given.
    Closed(ResourceVersion),
    /// Net changes up to `to`, in key order; a watch from `to` follows the last of them.
    Repaired {
        /// The version that the repair ends at.
        to: ResourceVersion,
        /// The net changes.
        frames: Vec<Frame>,
        /// Whether these are the last.
        last: bool,
    },
    /// Objects of a consistent list.
    Snapshot(Vec<Frame>),
    /// The list is complete, and this is its version.
    Synced(ResourceVersion),
    /// The history is gone, beyond repair.
    Expired,
    /// It did not work this time; the reason, for people.
    Failed(String),
}
