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
        /// Its address.
        address: String,
        /// Its group.
        theirs: GroupId,
        /// Our group.
        ours: GroupId,
    },
    /// Another replica answers at a peer's address.
    #[error("at {address} answers replica {found:?}, not {expected:?}; correct `peers`")]
    AnotherReplica {
        /// The address.
        address: String,
        /// Who answers.
        found: String,
        /// Who should.
        expected: String,
    },
    /// Another process has the same data.
    #[error(
        "another process answers at {address} as replica {name:?} with the same data: two processes \
         have copies of one data directory. That one goes on; give this one a --name of its own \
         and an empty --data-dir, or remove its copy"
    )]
    SameData {
        /// The name of both.
        name: String,
        /// Where the other one is.
        address: String,
    },
    /// Another replica answers where this one is said to be.
    #[error(
        "at {address}, where others are told to find this replica, answers replica {found:?} with \
         other data: two replicas have one name, or the address is wrong. Correct --name, \
         --advertise-peer or --peers"
    )]
    NotHere {
        /// The address.
        address: String,
        /// Who answers.
        found: String,
    },
    /// Another process took this replica's place.
    #[error(
        "another process has registered as replica {name:?}, at {address}: two processes have \
         copies of one data directory. This one ends, the other goes on; remove this one's copy"
    )]
    Supplanted {
        /// The name of both.
        name: String,
        /// Where the other one is.
        address: String,
    },
    /// The data is older than what the leader knows of it.
    #[error(
        "the data is older than what this replica has acknowledged: leader {by:?} knows its log up \
         to entry {known}, the data ends with entry {last}. Was it restored from a copy? This \
         replica must not go on with it: `quorumwatch members remove {name} --endpoints \
         OTHER-REPLICA`, then `rm -r {}/raft`, then start it again",
        dir.display()
    )]
    Behind {
        /// The leader.
        by: String,
        /// What it knows.
        known: u64,
        /// What there is.
        last: u64,
        /// This replica's name.
        name: String,
        /// This replica's data directory.
        dir: PathBuf,
    },
    /// The group does not know this replica any more.
    #[error(
        "replica {name:?} was removed from the group (says its leader, {by:?}): its data is of no \
         more use. Start it with an empty data directory (`rm -r {}/raft`) and it joins anew; \
         or leave it stopped",
        dir.display()
    )]
    Removed {
        /// This replica's name.
        name: String,
        /// The leader.
        by: String,
        /// This replica's data directory.
        dir: PathBuf,
    },
    /// A peer does not understand us.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// The group refused this replica.
    #[error("the group refuses this replica: {0}")]
    Refused(String),
    /// Raft has stopped.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}
