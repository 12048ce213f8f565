//! The whole thing: the real executable as child processes, simulated clusters, real connections.

mod harness;

mod bootstrap;
mod clusters;
mod handover;
mod load;
mod recovery;
mod rounds;
mod shards;
mod subscribe;
mod takeover;
