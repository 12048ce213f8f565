//! What travels from an API server to subscribers: [`Frame`], and [`GapReason`] where something
//! did not.

use bytes::Bytes;

use super::{id::UnixMillis, position::ResourceVersion};

/// What happened to an object, in the API server's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// Created, or began to match a selector.
    Added,
    /// Updated.
    Modified,
    /// Deleted, expired, or ceased to match a selector.
    Deleted,
    /// Not a change: the object as a snapshot found it.
    Snapshot,
}

/// One object as the API server sent it, with the few fields that routing needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What happened.
    pub change: Change,
    /// The object's own `metadata.resourceVersion`. For a deletion, the revision of the deletion.
    pub rv: ResourceVersion,
    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// The object's JSON, byte for byte.
    pub object: Bytes,
    /// Whether `object` holds no more than apiVersion, kind and metadata: a deletion that was found
    /// by comparing lists.
    pub metadata_only: bool,
    /// When the replica that watches read it.
    pub seen: UnixMillis,
}

impl Frame {
    /// What the frame costs in memory, in bytes: the object and our own fields.
    pub fn cost_bytes(&self) -> usize {
        size_of::<Self>()
            + self.namespace.len()
            + self.name.len()
            + self.uid.len()
            + self.object.len()
    }
}

/// Why a stream has a hole, or a new era.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapReason {
    /// Not a gap: the stream's first era begins where its first owner found the cluster.
    StreamCreated,
    /// The API server compacted the history that was needed (410 Gone).
    HistoryExpired,
    /// Resource versions went back: etcd was restored from a backup (watch trap T4).
    HistoryReset,
    /// Another cluster answers at this address (watch trap T6).
    ClusterReplaced,
    /// The API server's watch cache began anew; the net changes follow (watch trap T29).
    WatchCacheReset,
    /// The API server delivered late what it had said was complete (watch trap T11).
    UpstreamInconsistent,
}
