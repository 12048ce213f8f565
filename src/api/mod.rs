//! gRPC services: convert, check, delegate. No decisions.
//!
//! `event`, `shard`, `cluster` and `group` are what users see; `peer` is between replicas, on a
//! listener of its own.

mod cluster;
mod convert;
pub mod encoded;
mod event;
mod filter;
mod frames;
mod group;
mod observed;
mod outbox;
mod page;
mod peer;
mod reads;
mod shard;
mod status;
mod token;
mod view;
mod watch;

pub use cluster::Clusters;
pub use event::Events;
pub use group::Group;
pub use observed::LeaderView;
pub use peer::Peers;
pub use shard::Shards;
pub use watch::Watches;
