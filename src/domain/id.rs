//! Names for things, as types: ids that only grow, and how they print.

use std::fmt;

/// Declares a number newtype with ordering and a plain `Display`.
macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// One data directory of ours. Drawn once at random, kept with the data, never used again
    /// after the data is lost.
    ReplicaId
}
number_id! {
    /// Grows at each start of a replica: the revision at which the start was registered.
    /// Distinguishes a restart from a pause.
    Incarnation
}
number_id! {
    /// A monitored Kubernetes cluster. Minted by the state machine and never used again, so that a
    /// cluster that is deleted and created again under the same name is another cluster.
    ClusterId
}
number_id! {
    /// One resource type of one cluster, optionally narrowed: the unit of order.
    /// Minted by the state machine and never used again.
    StreamId
}
number_id! {
    /// Per shard, plus one at each change of owner: the fencing token.
    Epoch
}
number_id! {
    /// Grows whenever a stream loses continuity with its past; unique over all streams.
    /// Changed only through the log.
    Era
}
number_id! {
    /// The log index at which a state was produced.
    Revision
}

/// The unit of ownership: a cluster's streams, or a slice of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId {
    /// The cluster whose streams these are.
    pub cluster: ClusterId,
    /// Which slice of the cluster's streams; 0 while clusters are not sliced.
    pub slice: u32,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.slice)
    }
}

/// The group's identity, a UUID drawn when it is founded. A cursor of another group is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub [u8; 16]);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A wall-clock instant, in milliseconds since the Unix epoch. It is always an input: `domain`
/// reads no clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);
