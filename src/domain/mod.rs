//! Decides. Pure code: no I/O, no clock, no randomness, no tokio, tonic, kube, openraft or sled.
//!
//! It cannot wait and cannot fail on I/O; the same log in gives the same state out. Anyone may
//! call it.

pub mod answered;
pub mod arrivals;
pub mod assignment;
pub mod breaker;
pub mod change;
pub mod clock_offset;
pub mod cluster;
pub mod command;
pub mod cursor;
pub mod delivery;
pub mod event;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod history;
pub mod id;
pub mod label;
pub mod leader;
pub mod lease;
pub mod lifecycle;
pub mod member;
pub mod pace;
pub mod placement;
pub mod position;
pub mod preparation;
pub mod rate_limit;
pub mod request;
pub mod requested;
pub mod shared_map;
pub mod state;
pub mod stream;
pub mod watch_session;
