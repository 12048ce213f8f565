//! gRPC services: convert, check, delegate. No decisions.
//!
//! `event`, `shard`, `cluster` and `group` are what users see; `peer` is between replicas, on a
//! listener of its own.

mod cluster;
mod convert;
pub mod encoded;
mod event;
mod group;
mod observed;
mod peer;
mod shard;
mod status;

pub use cluster::Clusters;
pub use event::Events;
pub use group::Group;
pub use observed::LeaderView;
pub use peer::Peers;
pub use shard::Shards;
