//! Watches that survive the replica that serves them, each with a copy of what it watches.
//!
//! Each begins with a snapshot, and resumes at another replica where one sends nothing for three
//! seconds: not even the heartbeat that a quiet watch has each second.

mod clusters;
mod group;
mod resumable;
mod shards;

use std::time::Duration;

use super::{Endpoint, Interruption};

pub use clusters::ClusterWatch;
pub use group::GroupWatch;
pub use shards::ShardWatch;

/// A replica that sends nothing for longer is left.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What a watch returns.
#[derive(Debug)]
pub enum Update<C> {
    /// A replica serves the watch.
    Connected(Endpoint),
    /// The watch leaves the replica that served it, or that was asked, and resumes at another.
    Interrupted {
        /// The replica that served until now.
        endpoint: Endpoint,
        /// The reason of the disconnection.
        why: Interruption,
    },
    /// The copy has been replaced by a snapshot; not before that is complete.
    Snapshot,
    /// A change; the copy has it already.
    Change(C),
}
