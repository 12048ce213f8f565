//! quorumwatch: one live, complete, duplicate-free stream of the events of many Kubernetes
//! clusters, which tolerates the failure of any machine.
//!
//! The API servers are the log; the group agrees on positions. Each shard (a cluster's streams) is
//! watched by one replica, its owner; what the owner publishes reaches subscribers through the hub
//! of the replica that serves them. Exactly-once delivery rests on two comparisons before an event
//! is sent: a log accepts a shard from the newest epoch that it knows only, and a subscription
//! drops what is at or before its position.
//!
//! ```text
//!  heartbeats ─► controller ─► plan() ─► Command ─► raft log ─► State::apply ─► State
//!                                                                                 │
//!  subscribers ◄─ api ◄─ pipeline ◄─ watcher ◄─ start/stop ◄─ agent (diff) ◄──────┘
//!                           └─► AdvanceCheckpoints ─► raft log
//! ```
//!
//! Where to look: what *decides* is in [`domain`]; each large dependency is named in one module
//! only ([`raft`]: openraft, `raft::storage::files`: sled, [`watcher`]: kube); membership and
//! liveness are in [`group`]; connections between replicas are in [`net`], what streams from one to
//! another in [`relay`]; what clients see is in [`api`]; starting and stopping is in [`server`];
//! which panics end the process is in [`panics`], and blocking work goes through [`blocking`].
//! `tests/tidy` has the table of allowed dependencies.
//!
//! Guarantees, operation and clients: [`docs`].
//!
//! To read the code, start with [`domain::command`] (the commands), [`domain::state`] (their
//! effect), [`domain::placement`] (shard placement), [`domain::watch_session`] (how a stream is
//! watched), [`domain::delivery`] (what a subscriber gets), [`server`] (composition).

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
pub mod blocking;
pub mod cli;
pub mod clock;
pub mod config;
pub mod memory;
pub mod panics;
pub mod server;
pub mod telemetry;

pub mod sim;

pub mod docs;
