//! quorumwatch: one live, complete, duplicate-free stream of what happens in many Kubernetes
//! clusters, that survives the death of any machine.

pub mod domain;

pub mod raft;

pub mod agent;
pub mod controller;
pub mod pipeline;
pub mod watcher;

pub mod api;
pub mod peer;

pub mod cli;
pub mod clock;
pub mod config;
pub mod proto;
pub mod server;
pub mod sim;
pub mod telemetry;
