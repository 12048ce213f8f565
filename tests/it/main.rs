//! The whole thing: the real executable as child processes, simulated clusters, real connections.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a test prints its figures")]

mod harness;

mod alone;
mod bootstrap;
mod check;
mod cli;
mod clients;
mod clusters;
mod documented;
mod failures_clusters;
mod failures_data;
mod failures_group;
mod failures_peers;
mod handover;
mod load;
mod memory;
mod moves;
mod outages;
mod reachability;
mod recovery;
mod rounds;
mod shards;
mod slow_readers;
mod streams;
mod subscribe;
mod table;
mod takeover;
mod traps;
mod warm;
