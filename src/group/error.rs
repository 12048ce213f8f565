//! Why a replica cannot become, or stay, part of the group.

use std::path::PathBuf;

use crate::{domain::id::GroupId, raft::protocol::Incompatible};

/// Why the replica could not become part of the group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Asked to stop while waiting.
    #[error("stopped while waiting for the group to form")]
    Cancelled,
    /// A peer belongs to another group.
    #[error(
        "data of another group: {peer} at {address} belongs to group {theirs}, this replica to \
         group {ours}; correct `peers`, or empty the data directory of the one that is wrong"
    )]
    AnotherGroup {
        /// The peer's name.
        peer: String,
        /// The configured address of the peer.
        address: String,
        /// Its group.
        theirs: GroupId,
        /// Our group.
        ours: GroupId,
    },
    /// Another replica answers at a peer's address.
    #[error("the peer at {address} is replica {found:?}, expected {expected:?}; correct `peers`")]
    AnotherReplica {
        /// The address that was called.
        address: String,
        /// The name of the replica that answered.
        found: String,
        /// The name that `peers` gives for the address.
        expected: String,
    },
    /// Another process has the same data.
    #[error(
        "another process at {address} runs as replica {name:?} with the same data: two processes \
         have copies of one data directory. That one keeps running; give this one a --name of its \
         own and an empty --data-dir, or remove its copy"
    )]
    SameData {
        /// The name of both.
        name: String,
        /// The peer address of the other process.
        address: String,
    },
    /// Another replica answers at this one's advertised address.
    #[error(
        "the address that this replica advertises, {address}, belongs to replica {found:?} with \
         other data: two replicas have the same name, or the address is wrong. Correct --name, \
         --advertise-peer or --peers"
    )]
    NotHere {
        /// The address that was called.
        address: String,
        /// The name of the replica that answered.
        found: String,
    },
    /// Another process took this replica's place.
    #[error(
        "another process has registered as replica {name:?}, at {address}: two processes have \
         copies of one data directory. This one stops, the other keeps running; remove this one's \
         copy"
    )]
    Supplanted {
        /// The name of both.
        name: String,
        /// The peer address of the other process.
        address: String,
    },
    /// The data is older than what the leader knows of it.
    #[error(
        "the data is older than what this replica has acknowledged: leader {by:?} knows its log up \
         to entry {known}, the data ends with entry {last}. Was it restored from a copy? This \
         replica must not continue with it: `quorumwatch members remove {name} --endpoints \
         OTHER-REPLICA`, then `rm -r {}/raft`, then start it again",
        dir.display()
    )]
    Behind {
        /// The name of the leader that reported it.
        by: String,
        /// The last log entry that the leader knows this replica has acknowledged.
        known: u64,
        /// The last log entry in the data directory.
        last: u64,
        /// This replica's name.
        name: String,
        /// This replica's data directory.
        dir: PathBuf,
    },
    /// The group does not know this replica any more.
    #[error(
        "replica {name:?} was removed from the group (reported by its leader, {by:?}): its data is \
         obsolete. Start it with an empty data directory (`rm -r {}/raft`) to join again, or leave \
         it stopped",
        dir.display()
    )]
    Removed {
        /// This replica's name.
        name: String,
        /// The name of the leader that reported it.
        by: String,
        /// This replica's data directory.
        dir: PathBuf,
    },
    /// A peer does not understand us.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// The group refused this replica.
    #[error("the group rejected this replica: {0}")]
    Refused(String),
    /// Raft has stopped.
    #[error("Raft has stopped: {0}")]
    Stopped(String),
}
