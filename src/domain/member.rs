//! The replicas of the group, and the leader's opinion of them.

use super::id::{Incarnation, ReplicaId, UnixMillis};

/// A replica that has registered with the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id, kept with its data.
    pub id: ReplicaId,
    /// Its stable name, the pod's: how people and peers address it.
    pub name: String,
    /// `host:port` of its peer listener.
    pub peer_address: String,
    /// `host:port` of its client listener.
    pub client_address: String,
    /// Grows at each start.
    pub incarnation: Incarnation,
    /// When it last started.
    pub started: UnixMillis,
    /// Whether a user has drained it: it takes no shards, and those that it owns move to others, as
    /// far as these can watch them. It keeps its vote. A restart changes nothing about it.
    pub drained: bool,
}

/// The leader's opinion of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Availability {
    /// Holds a lease: may own shards.
    Active,
    /// Holds no lease known to this leader, but may still hold one of an earlier leader: keeps
    /// what it owns, gets nothing new.
    Suspect,
    /// Its lease has run out, or it is known dead: what it owns goes elsewhere.
    Unavailable,
}
