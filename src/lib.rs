//! quorumwatch: one live, complete, duplicate-free stream of what happens in many Kubernetes
//! clusters, that survives the death of any machine.
//!
//! The API servers are the log; the group agrees on positions. Each shard (a cluster's streams) is
//! watched by one replica, its owner; what the owner publishes reaches subscribers through the hub
//! of the replica that serves them. Two comparisons keep the promise, at the door where events
//! leave: a hub takes a shard from the newest epoch that it knows, and a subscription drops what is
//! at or before its position.
//!
//! ```text
//!  heartbeats ─► controller ─► plan() ─► Command ─► raft log ─► State::apply ─► State
//!                                                                                 │
//!  subscribers ◄─ api ◄─ pipeline ◄─ watcher ◄─ start/stop ◄─ agent (diff) ◄──────┘
//!                           └─► AdvanceCheckpoints ─► raft log
//! ```
//!
//! Where to look: what *decides* is in [`domain`]; what names a big dependency is in the one module
//! that owns it ([`raft`]: openraft, `raft::storage`: sled, [`watcher`]: kube); who is alive and who
//! belongs is in [`group`]; connections between replicas are in [`net`], what streams from one to
//! another in [`relay`]; what clients see is in [`api`]; what starts and stops things is
//! [`server`]. `tests/tidy` holds the table of who may depend on whom.
//!
//! What it promises, how to run it and how to follow it: [`docs`].
//!
//! To read it: [`domain::command`] (all that can happen), [`domain::state`] (what happens then),
//! [`domain::placement`] (who gets what), [`domain::watch_session`] (how a stream is watched),
//! [`domain::delivery`] (what a subscriber gets), [`server`] (how it is put together).

// Decides.
pub mod domain;

// Agrees.
pub mod changes;
pub mod raft;

// Acts.
pub mod agent;
pub mod controller;
pub mod group;
pub mod pipeline;
pub mod watcher;

// Speaks.
pub mod api;
pub mod client;
pub mod net;
pub mod proto;
pub mod relay;

// Assembles.
pub mod cli;
pub mod clock;
pub mod config;
pub mod memory;
pub mod server;
pub mod telemetry;

pub mod sim;

pub mod docs;
