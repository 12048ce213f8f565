//! What travels from an API server to subscribers: [`Event`], and [`GapReason`] where something
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
pub struct Event {
    /// What happened.
    pub change: Change,
    /// The object's own `metadata.resourceVersion`. For a deletion, the revision of the deletion.
    pub rv: ResourceVersion,
    /// Which object.
    pub key: ObjectKey,
    /// The object's JSON, byte for byte.
    pub object: Bytes,
    /// Whether `object` holds no more than apiVersion, kind and metadata: a deletion that was found
    /// by comparing lists.
    pub metadata_only: bool,
    /// When the replica that watches read it.
    pub seen: UnixMillis,
}

impl Event {
    /// What the event costs in memory, in bytes: the object and our own fields.
    pub fn cost_bytes(&self) -> usize {
        size_of::<Self>() + self.key.text.len() + self.object.len()
    }

    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.key.namespace()
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.key.uid()
    }
}

/// The namespace, the name and the UID of an object, in one piece of memory: a ring holds hundreds
/// of thousands of events, and each piece is a cache miss when the oldest are dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    text: Box<str>,
    /// Where the name begins.
    name_at: usize,
    /// Where the UID begins.
    uid_at: usize,
}

impl ObjectKey {
    /// The key of this object.
    pub fn new(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            text: [namespace, name, uid].concat().into(),
            name_at: namespace.len(),
            uid_at: namespace.len() + name.len(),
        }
    }

    /// Empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.text.get(..self.name_at).unwrap_or_default()
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.text.get(self.name_at..self.uid_at).unwrap_or_default()
    }

    /// The UID; of another object with the same name it differs.
    pub fn uid(&self) -> &str {
        self.text.get(self.uid_at..).unwrap_or_default()
    }
}

/// Why a stream has a hole, or a new era.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapReason {
    /// Not a gap: the stream's first era begins where its first owner found the cluster.
    StreamCreated,
    /// The API server compacted the history that was needed (410 Gone).
    HistoryExpired,
    /// History is not the one that was delivered: etcd was restored from a backup (watch trap T4).
    HistoryReset,
    /// Another cluster answers at this address (watch trap T6).
    ClusterReplaced,
    /// The API server's watch cache was reset, or its watch does not deliver what exists; the net
    /// changes follow (watch traps T29, T1).
    WatchCacheReset,
    /// The API server left something out, or delivered it after it had reported that everything up
    /// to it was complete (watch trap T11).
    UpstreamInconsistent,
}
