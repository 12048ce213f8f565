//! Models of the delivery of changes and of leases, searched exhaustively.
//!
//! What decides is the service's own code: the state machine, the watch session, the publication,
//! fences, rings, places, feeds, replays, cursors and leases. What drives it is small, and of the
//! model: an API server with a short history that can be lost, proposals that are committed in any
//! order or never, replicas that crash and lag, subscribers that resume elsewhere. Each search
//! ([`searches`]) visits every state of one small scope ([`scopes`]), and compares what happened
//! with the invariants in `tests/invariants`. Faults that are planted in the driver ([`planted`])
//! show that they can be violated.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(clippy::print_stdout, reason = "shown on demand")]

mod action;
mod acts;
mod delivery;
mod digest;
mod feed;
mod group;
#[path = "../invariants/mod.rs"]
mod invariants;
mod lease;
mod planted;
mod readers;
mod replica;
mod scope;
mod scopes;
mod searches;
mod server;
mod stream_log;
mod subscriber;
mod watch;
mod world;
