//! Moves that users ask for: what keeps one from being made.
//!
//! Nothing of a request is agreed on but the move itself, once its receiver has opened the watches.
//! A leader that fails takes the requests with it, and the replica that asked asks the next one.

use super::{command::Move, preparation::Request};

/// Most requested moves that are being prepared or tried at a time. Each opens a shard's watches a
/// second time, and who asks for more can as well wait.
pub const REQUESTED_MAX: usize = 64;

/// What a request to move a shard leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The shard is there already.
    Done,
    /// The receiver is to be asked to open the watches.
    Ask(Request),
    /// The same move is being prepared for another request.
    Joined(Move),
}

/// Why a shard does not move to where a user wants it. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMoved {
    /// The leader does not know the shard or the replica, or has not heard the replica yet.
    #[error("{0}")]
    NotYet(&'static str),
    /// Nobody may own it.
    #[error("the cluster is paused; resume it first")]
    Paused,
    /// Too many requests at a time.
    #[error("too many moves requested at once; retry when some are done")]
    Busy,
    /// The receiver is drained.
    #[error("replica {0:?} is drained: it takes no shards until it is resumed")]
    Drained(String),
    /// The receiver is not there.
    #[error("replica {0:?} is not active: it takes no shards")]
    NotActive(String),
    /// The receiver cannot watch the cluster.
    #[error("replica {receiver:?} cannot watch the cluster: {reason}")]
    OutOfReach {
        /// Its name.
        receiver: String,
        /// Why not.
        reason: String,
    },
    /// Another request has the shard moved elsewhere.
    #[error("another request is moving the shard to replica {0:?}")]
    Elsewhere(String),
    /// Its owner changed for another reason before it could move.
    #[error("the shard changed its owner before it could be moved")]
    Overtaken,
    /// It took too long.
    #[error(
        "replica {receiver:?} was not ready before the timeout{}",
        after(reason)
    )]
    Late {
        /// Its name.
        receiver: String,
        /// More about it; empty where no more is known.
        reason: String,
    },
}

fn after(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(": {reason}"),
    }
}
