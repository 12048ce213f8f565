//! Owners, hubs and subscribers in one process, with real agents and watchers, on API servers that
//! misbehave: what a subscriber was promised holds whatever happens in between.
//!
//! Time is paused: a run takes milliseconds.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(
    clippy::print_stdout,
    reason = "shown where a walk fails, or on demand"
)]

mod api;
mod etcd;
mod group;
mod history;
mod oracle;
mod panics;
mod planned;
mod scenarios;
mod subscriber;
mod table;
mod walk;
mod want;
mod watch;
mod world;
