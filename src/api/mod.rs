//! gRPC services: convert, check, delegate. No decisions.
//!
//! They are what users see. What replicas ask of each other is in [`crate::group`], [`crate::raft`]
//! and [`crate::relay`], on a listener of its own.

mod admission;
mod cluster;
mod connection;
mod convert;
pub mod encoded;
mod event;
mod filter;
mod frames;
mod gate;
mod group;
mod health;
mod observed;
mod outbox;
mod page;
mod reads;
mod shard;
mod status;
mod token;
mod view;
mod watch;

pub use admission::{Admission, Connection};
pub use cluster::Clusters;
pub use connection::{Client, ClientConnection, admitted};
pub use event::Events;
pub use gate::{Gate, Gated};
pub use group::Group;
pub use health::Readiness;
pub use observed::LeaderView;
pub use shard::Shards;
pub use watch::Watches;
