//! quorumwatch against real API servers: everything of both sides runs as processes of its own,
//! nothing is simulated, and every stream is judged against what etcd itself says was committed.
//!
//! `tests/kube/run.sh` builds the control plane's binaries and runs these tests.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test prints its figures")]

mod condition;
mod content;
mod control_plane;
mod group;
mod judge;
mod judge_tests;
mod kind;
mod manifests;
mod record;
mod recorder;
mod replicas;
mod report;
mod rest;
mod subscriber;
mod truth;
mod world;
mod writer;

mod access;
mod away;
mod deploy;
mod everything;
mod health;
mod identity;
mod in_cluster;
mod lost_history;
mod outages;
mod rbac;
